"""Agents from the past: which opponent the live seat of a group of matches faces.

A policy that only ever meets itself as it is now may forget how to answer what it played
before, so some groups face an earlier policy of the same run (fictitious play: Brown 1951;
a population of past checkpoints, as in arXiv 2511.19405), or a scripted player.

Everything here is pure drawing from a generator that the caller derives from the run's seed;
the weights are `comity.learning.state.snapshots`' and `comity.experiments.past_agents`'s business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class OpponentProbabilities:
    """How often the live seat faces whom."""

    past: float = 0.5
    """Probability of facing somebody from the past, a scripted player included."""
    scripted: float = 0.0
    """Share of a scripted player in that."""


@dataclass(frozen=True)
class Opponent:
    """Who sits on the seats of learners that are not live; of nobody: the present policies."""

    scripted: int | None = None
    """Number of a scripted player."""
    past: tuple[int | None, ...] = ()
    """For each learner the number of one of its snapshots; None where it has none."""


CURRENT_POLICIES = Opponent()
"""The learners as they are now."""


def learning_seat(number: int, seats: Sequence[int]) -> int:
    """The one of `seats` that is live in the group with this number, counted over the run.

    The seats take turns, so that over a run each is live equally often.
    """
    return seats[number % len(seats)]


def sample_opponent(
    rng: np.random.Generator,
    chances: OpponentProbabilities,
    snapshots: Sequence[int],
    scripted: int = 0,
) -> Opponent:
    """Draw one opponent.

    `snapshots`: how many there are of each learner; `scripted`: how many scripted players.
    Where the draw falls on snapshots and nobody has any yet, the present policies play.
    Asks for the same numbers whatever comes of them, so that no chance moves another.
    """
    past, script, which, *each = rng.random(3 + len(snapshots))
    if past >= chances.past:
        return CURRENT_POLICIES
    if script < chances.scripted and scripted > 0:
        return Opponent(scripted=int(which * scripted))
    drawn = tuple(
        int(u * count) if count else None for u, count in zip(each, snapshots, strict=True)
    )
    return CURRENT_POLICIES if all(one is None for one in drawn) else Opponent(past=drawn)


def available_snapshots(
    snapshots: Sequence[T], recent: int | None, capacity: int, rng: np.random.Generator
) -> list[T]:
    """The snapshots, oldest first, that may be drawn in an iteration.

    The newest `recent` (None: all), and of those `capacity` at random, uniformly and without
    replacement. Order is kept.
    """
    newest = list(snapshots if recent is None else snapshots[-recent:])
    if len(newest) <= capacity:
        return newest
    chosen = rng.choice(len(newest), size=capacity, replace=False)
    return [newest[i] for i in sorted(chosen.tolist())]
