"""Counterfactual returns: matches that branch off at a decision and are played on.

At a decision of a seat, alternatives are sampled from the same policy in the same context. The
responses of the other seats in that step are fixed, the chance outcomes of the game are those of
the match (they follow from its seed), and from the next step on all seats respond anew. The random
streams of the match are not touched; each alternative has its own.

The mean return of K alternatives estimates the value of the state before the decision (VinePPO,
arXiv 2410.01679), or replaces an advantage in the past that Advantage Alignment weights by (arXiv
2406.14662).
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
"""Alternatives per batch, which bounds the size of the cache."""


@dataclass(frozen=True)
class Counterfactual:
    """One alternative to one decision."""

    match: int
    """Index of the match."""
    seat: int
    round: int
    step: int
    """Number of earlier steps in the match."""
    alternative: int
    state: Any
    fixed: dict[int, Reply]
    """Responses of the other seats in this step."""
    answers: dict[int, int]
    """Number of responses of each seat at the start of the branch, fixed ones included."""


def counterfactual_returns(
    runner: MatchRunner,
    rewards: Callable[[PlayedMatches], np.ndarray],
    discount: float,
    alternatives: int,
    depth: int | None = None,
) -> np.ndarray:
    """Mean discounted return of the alternatives to a seat's decision, `[match, seat, round]`.

    The seat's return from the decision's round on, over `depth` further rounds (None: to the end
    of the match). `rewards`: as in training. If a seat makes several paid decisions in a round,
    alternatives to the first one count. NaN where no learner decided.
    """
    shape = runner.played().payoffs.shape
    sums, counts = np.zeros(shape), np.zeros(shape)
    branches = list(_counterfactuals(runner, alternatives))
    key = len(runner.matches)
    forkable = [one for one in runner.sessions.values() if isinstance(one, RewindableSession)]
    positions = [(session, session.position()) for session in forkable]
    for first in range(0, len(branches), BATCH_SIZE):
        part = branches[first : first + BATCH_SIZE]
        for session, position in positions:
            session.rewind(position)  # frees the previous batch
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
    """The alternatives to the first paid decision of each learner in each round."""
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
    """Play alternatives to their ends (or their depth)."""
    matches = []
    for branch, key in zip(branches, keys, strict=True):
        match = runner.matches[branch.match]
        own = (BRANCH, branch.step, branch.seat, branch.alternative)
        matches.append(replace(match, stream=(*match.stream, *own)))
        for session in runner.sessions.values():
            session.fork(branch.match, key, branch.answers)
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
    others.check_complete()
    return others.played()
