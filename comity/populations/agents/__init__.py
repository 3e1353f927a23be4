"""The groups of agents of a population, one module for each kind."""
