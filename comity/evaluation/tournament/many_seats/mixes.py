"""Focal and background: how an agent fares when k of N seats are its own, and the others another's.

The protocol of Melting Pot (Leibo et al. 2021, ICML, "Scalable Evaluation of Multi-Agent
Reinforcement Learning with Melting Pot"; Agapiou et al. 2022, arXiv 2211.13746): of the N seats of
a match, k are the *focal* agent's and N - k the *background*'s, here all one other agent. Each
other agent is the background in turn, with equal weights. k = 1: a visitor among residents;
k = N - 1: a resident whom one other visits; k = N: universalization.

By k, the payoffs of both sides are a Schelling diagram whose two choices are agents (Hughes et al.
2018, NeurIPS, figure 2). A visitor that earns more among residents than they earn among themselves
shows that the residents are no equilibrium of the empirical game.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from comity.evaluation.statistics import Estimate
from comity.evaluation.tournament.many_seats.compositions import mix
from comity.evaluation.tournament.many_seats.metrics import METRICS_OF_GROUPS
from comity.evaluation.tournament.many_seats.values import Played, by_seed
from comity.evaluation.tournament.match_arrays import values_of
from comity.evaluation.tournament.summary_parts import over_environments

Limits = tuple[float, float] | None
PAYOFF = METRICS_OF_GROUPS["payoff"]


@dataclass(frozen=True)
class Mix:
    """Payoffs per round with k focal seats."""

    focal: int
    """k."""
    own: Estimate | None
    """Of a focal seat."""
    background: Estimate | None
    """Of a background seat; None where k = N."""


def payoffs_of(played: Played, agent: str, members: int, others: Sequence[str]) -> np.ndarray:
    """float64 `[repetition]`: the agent's payoff with so many seats, over the other agents.

    All N seats are the agent's where `others` is empty.
    """
    seats = len(next(iter(played.matches)))
    mixes = {mix(agent, other, members, seats): 1.0 for other in others}
    return values_of(by_seed(played, agent, PAYOFF, mixes or {(agent,) * seats: 1.0}))


def focal_payoffs(
    played: Played, agent: str, others: Sequence[str], limits: Limits, identical: str
) -> list[Mix]:
    """The agent's mixes, k = 1 to N, over the other agents as background.

    `limits`: range of payoffs; `identical`: the reason for no interval where nothing is random.
    """
    seats = len(next(iter(played.matches)))

    def estimated(values: np.ndarray, members: int) -> Estimate | None:
        mixes = [mix(agent, other, members, seats) for other in others]
        fixed = identical if played.is_fixed(mixes) else ""
        return over_environments(values, limits, fixed)

    found = []
    for k in range(1, seats):
        own = payoffs_of(played, agent, k, others)
        theirs = [payoffs_of(played, other, seats - k, [agent]) for other in others]
        both = np.array(theirs)
        background = np.where(np.isnan(both).any(axis=0), np.nan, both.mean(axis=0))
        found.append(Mix(k, estimated(own, k), estimated(background, k)))
    alone = payoffs_of(played, agent, seats, [])
    found.append(Mix(seats, estimated(alone, seats), None))
    return found


@dataclass(frozen=True)
class Invasion:
    """The visitor that does best among residents, compared with them among themselves."""

    resident: str
    visitor: str
    gain: Estimate
    """The visitor's payoff minus that of a resident where all are residents, on the same seeds."""


def best_visitors(
    played: Played, names: Sequence[str], limits: Limits, identical: str
) -> list[Invasion]:
    """For each resident agent the visitor with the largest mean gain.

    The largest of several means is a little optimistic. Residents that lack matches are left out.
    """
    seats = len(next(iter(played.matches)))
    wide = None if limits is None else (limits[0] - limits[1], limits[1] - limits[0])
    found = []
    for resident in names:
        own = payoffs_of(played, resident, seats, [])
        options = []
        for visitor in names:
            if visitor == resident:
                continue
            gains = payoffs_of(played, visitor, 1, [resident]) - own
            both = [(resident,) * seats, mix(visitor, resident, 1, seats)]
            fixed = identical if played.is_fixed(both) else ""
            estimate = over_environments(gains, wide, fixed)
            if estimate is not None:
                options.append(Invasion(resident, visitor, estimate))
        if options:
            found.append(max(options, key=lambda one: one.gain.mean))
    return found
