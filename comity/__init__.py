"""Comity: language models play social dilemmas, learn by reinforcement, and are measured."""

import os

__version__ = "0.1.0"

# Threads of torch's OpenMP that wait by spinning take the cores from those that work as soon
# as anything else runs on the machine: a training then was ten times slower on two cores,
# against one and a half times with threads that sleep. Read once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
