"""What would have come of other decisions: matches that branch off and are played on.

At a decision of a seat, alternatives are sampled from the same policy in the same context;
what the other seats answered in that step is held, the game's chances are those of the match
(they belong to its seed), and from the next step on everybody answers anew. The random
numbers of the match itself are not touched: an alternative draws from a stream of its own.

The mean return of K alternatives estimates the value of the state that the decision was made
in (VinePPO, arXiv 2410.01679), or stands in the place of an advantage in the past that
Advantage Alignment weighs by (arXiv 2406.14662).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from comity.games.base import PlayedMatches, Reply
from comity.games.randomness import BRANCH
from comity.players.base import RewindableSession
from comity.rollout.match_runner import MatchRunner
from comity.rollout.recording import PAID_KINDS, kind_of

BATCH_SIZE = 64
"""Alternatives that are played side by side: the cache holds no more of them at a time."""


@dataclass(frozen=True)
class Counterfactual:
    """One alternative to one decision."""

    match: int
    """Index of the match."""
    seat: int
    round: int
    step: int
    """How many times anybody had answered in the match before."""
    alternative: int
    state: Any
    fixed: dict[int, Reply]
    """What the other seats answered in this step."""
    answers: dict[int, int]
    """How often each seat has answered when the branch begins, what is held included."""


def counterfactual_returns(
    runner: MatchRunner,
    rewards: Callable[[PlayedMatches], np.ndarray],
    discount: float,
    alternatives: int,
    depth: int | None = None,
) -> np.ndarray:
    """Mean discounted return of the alternatives to a seat's decision, `[match, seat, round]`.

    Return from the decision's round on, of the seat itself, over `depth` further rounds (None:
    to the end of the match). `rewards`: from what happened to numbers, as in training. Where a
    round has several decisions of a seat that are paid for, alternatives to the first count.
    NaN where no learner decided.
    """
    shape = runner.played().payoffs.shape
    sums, counts = np.zeros(shape), np.zeros(shape)
    branches = list(_counterfactuals(runner, alternatives))
    key = len(runner.matches)
    forkable = [table for table in runner.sessions.values() if isinstance(table, RewindableSession)]
    marks = [(table, table.mark()) for table in forkable]
    for first in range(0, len(branches), BATCH_SIZE):
        part = branches[first : first + BATCH_SIZE]
        for table, mark in marks:
            table.forget(mark)  # what the part before added
        played = _play_on(runner, part, range(key, key + len(part)), depth)
        key += len(part)
        values = rewards(played)
        for b, branch in enumerate(part):
            ahead = values[b, branch.seat, branch.round :]
            place = (branch.match, branch.seat, branch.round)
            sums[place] += float(ahead @ discount ** np.arange(len(ahead)))
            counts[place] += 1
    return np.divide(sums, counts, out=np.full(shape, np.nan), where=counts > 0)


def _counterfactuals(runner: MatchRunner, alternatives: int) -> Iterator[Counterfactual]:
    """Every alternative to every learner's decision, the first of its round and seat."""
    for m, steps in enumerate(runner.replies):
        asked = dict.fromkeys(range(runner.games[m].seats), 0)
        seen: set[tuple[int, int]] = set()
        for number, (state, joint) in enumerate(steps):
            for turn in runner.games[m].turns(state):
                place = (turn.seat, turn.round)
                learns = runner.matches[m].players[turn.seat].trained
                counts = kind_of(turn.kind, joint[turn.seat]) in PAID_KINDS
                if counts and learns and place not in seen:
                    seen.add(place)
                    fixed = {seat: reply for seat, reply in joint.items() if seat != turn.seat}
                    given = {seat: count + (seat in fixed) for seat, count in asked.items()}
                    for k in range(alternatives):
                        yield Counterfactual(
                            m, turn.seat, turn.round, number, k, state, fixed, given
                        )
            for seat in joint:
                asked[seat] += 1


def _play_on(
    runner: MatchRunner, branches: Sequence[Counterfactual], keys: Sequence[int], depth: int | None
) -> PlayedMatches:
    """Play alternatives to their ends (or their depth); what happened in them."""
    matches = []
    for branch, key in zip(branches, keys, strict=True):
        match = runner.matches[branch.match]
        own = (BRANCH, branch.step, branch.seat, branch.alternative)
        matches.append(replace(match, stream=(*match.stream, *own)))
        for table in runner.sessions.values():
            table.fork(branch.match, key, branch.answers)
    others = MatchRunner(
        matches=matches,
        games=[runner.games[branch.match] for branch in branches],
        states=[branch.state for branch in branches],
        sessions=runner.sessions,
        keys=keys,
        iteration=runner.iteration,
        limits=[None if depth is None else branch.round + depth + 1 for branch in branches],
    )
    fixed = {
        (b, seat): reply
        for b, branch in enumerate(branches)
        for seat, reply in branch.fixed.items()
    }
    going = others.step(fixed)
    while going:
        going = others.step()
    return others.played()
