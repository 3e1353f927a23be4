"""Comity: language models play social dilemmas, learn by reinforcement, and are measured."""

__version__ = "0.1.0"
