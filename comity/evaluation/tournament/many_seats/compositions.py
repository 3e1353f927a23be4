"""Which agents sit together in a tournament of N seats.

A *composition* says how many seats each agent has; where they sit is drawn for every repetition.
All compositions of A agents are C(A + N - 1, N). Where those are more than a limit, a sample of
them is played: N seats are filled by independent uniform draws, and all compositions of two agents
are there in any case, because the focal and background protocol needs them
(`comity.evaluation.tournament.many_seats.mixes`).

An agent's mean is that of one of its seats while every other seat is filled by a uniform draw from
all agents, itself included (with two seats: all opponents with equal weights). For that a
composition has a *weight*: the number of its seatings, N! / prod n_i!, or in a sample how often it
was drawn, which estimates the same.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, permutations
from math import comb, factorial, prod

from comity.games.randomness import COMPOSITION, TOURNAMENT, generator

Composition = tuple[str, ...]
"""The agents of all seats, sorted: `("a", "a", "a", "b")`."""

LIMIT = 200
"""Compositions that are drawn where there are more, unless something else is asked for."""


@dataclass(frozen=True)
class Compositions:
    """What a tournament plays."""

    weights: dict[Composition, int]
    """Every composition that is played, with its weight; 0: for the mixes of two agents only."""
    existing: int
    """How many compositions of these agents there are."""

    @property
    def sampled(self) -> bool:
        """Whether they are a sample."""
        return len(self.weights) < self.existing


def choose_compositions(
    names: Sequence[str], seats: int, limit: int = LIMIT, seed: int = 0
) -> Compositions:
    """All compositions of the agents on so many seats, or `limit` draws and the mixes of two.

    Deterministic in its arguments. Another agent leads to another sample.
    """
    everybody = sorted(names)
    existing = comb(len(everybody) + seats - 1, seats)
    if existing <= limit:
        every = combinations_with_replacement(everybody, seats)
        return Compositions({one: seatings(one) for one in every}, existing)
    weights = dict.fromkeys(mixes_of_two(everybody, seats), 0)
    draws = generator(seed, TOURNAMENT, COMPOSITION).integers(len(everybody), size=(limit, seats))
    for row in draws:
        one = tuple(sorted(everybody[place] for place in row))
        weights[one] = weights.get(one, 0) + 1
    return Compositions(weights, existing)


def mixes_of_two(names: Sequence[str], seats: int) -> list[Composition]:
    """The compositions of one agent, and of any two with 1 to N - 1 seats for the first."""
    alone = [(name,) * seats for name in names]
    return alone + [mix(a, b, k, seats) for a, b in permutations(names, 2) for k in range(1, seats)]


def mix(focal: str, background: str, members: int, seats: int) -> Composition:
    """The composition in which the focal agent has so many seats and the background the others."""
    return tuple(sorted((focal,) * members + (background,) * (seats - members)))


def seatings(composition: Composition) -> int:
    """In how many ways the composition's agents can sit: N! / prod n_i!."""
    counts = Counter(composition).values()
    return factorial(len(composition)) // prod(factorial(count) for count in counts)


def seated(composition: Composition, seed: int, repetition: int) -> tuple[str, ...]:
    """The agents by seat in a repetition: the same random order of seats in all compositions."""
    order = generator(seed, TOURNAMENT, COMPOSITION, repetition).permutation(len(composition))
    return tuple(composition[place] for place in order)
