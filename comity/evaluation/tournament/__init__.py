"""Tournaments: every ordered pair of players, and what follows from the matches."""
