"""Sampling of the opponent that the learning seat of a group of matches faces.

A policy that only meets its current self may forget how to respond to earlier behaviour. Some
groups therefore face a past checkpoint of the same run (fictitious play: Brown 1951; a population
of past checkpoints, as in arXiv 2511.19405) or a strategy.

All functions are pure; the caller derives the generator from the run's seed. Weights are handled
by `comity.learning.state.snapshots` and `comity.experiments.opponent_pool`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class OpponentProbabilities:
    """Probabilities of the kinds of opponents."""

    past: float = 0.5
    """Probability of a past checkpoint or a strategy."""
    scripted: float = 0.0
    """Share of strategies in `past`."""


@dataclass(frozen=True)
class Opponent:
    """The players on the seats that are not learning; by default the current policies."""

    scripted: int | None = None
    """Index of a strategy."""
    past: tuple[int | None, ...] = ()
    """For each learner the index of one of its snapshots; None if it has none."""


CURRENT_POLICIES = Opponent()
"""The current policies of the learners."""


def learning_seat(number: int, seats: Sequence[int]) -> int:
    """The learning seat among `seats` of the group with this number, counted over the run.

    Seats alternate, so that each learns equally often.
    """
    return seats[number % len(seats)]


def sample_opponent(
    rng: np.random.Generator,
    chances: OpponentProbabilities,
    snapshots: Sequence[int],
    scripted: int = 0,
) -> Opponent:
    """Draw one opponent.

    `snapshots`: number of snapshots of each learner; `scripted`: number of strategies. If
    snapshots are drawn and there are none yet, the current policies play. Always consumes the same
    random numbers, so that no outcome shifts another.
    """
    past, strategy, which, *each = rng.random(3 + len(snapshots))
    if past >= chances.past:
        return CURRENT_POLICIES
    if strategy < chances.scripted and scripted > 0:
        return Opponent(scripted=int(which * scripted))
    drawn = tuple(
        int(u * count) if count else None for u, count in zip(each, snapshots, strict=True)
    )
    return CURRENT_POLICIES if all(one is None for one in drawn) else Opponent(past=drawn)


def available_snapshots(
    snapshots: Sequence[T], recent: int | None, capacity: int, rng: np.random.Generator
) -> list[T]:
    """The snapshots, oldest first, that an iteration may sample from.

    `capacity` of the newest `recent` (None: all), uniformly without replacement, in order.
    """
    newest = list(snapshots if recent is None else snapshots[-recent:])
    if len(newest) <= capacity:
        return newest
    chosen = rng.choice(len(newest), size=capacity, replace=False)
    return [newest[i] for i in sorted(chosen.tolist())]
