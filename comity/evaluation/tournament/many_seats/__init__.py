"""Tournaments of games with more than two seats: compositions of agents instead of pairs."""
