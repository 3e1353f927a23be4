"""Populations of learning agents that choose their partners (arXiv 2403.04202, 2301.08491)."""
