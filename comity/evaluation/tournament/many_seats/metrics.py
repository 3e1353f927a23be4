"""Metrics of an agent in a composition of N seats: definition, formula, source, unit and bounds.

As in `comity.evaluation.tournament.metrics`, each returns float64 `[match, 2]`: a numerator and a
denominator per match. An agent's value is the mean of its seats. Of two seats, one of which is the
agent's, all are those of the pair (a test compares).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from comity.evaluation.tournament.many_seats.records import SeatedMatch
from comity.evaluation.tournament.metrics import AXELROD, METRICS
from comity.evaluation.tournament.pair_matches import ANSWERS

Bounds = tuple[float, float]


@dataclass(frozen=True)
class GroupMatches:
    """M matches of N seats and R rounds, from the view of an agent on some of the seats."""

    own: np.ndarray
    """bool `[M, N]`: the agent's seats."""
    intended: np.ndarray
    """int `[M, N, R]`: chosen moves; -1 if illegal or the match is over."""
    moves: np.ndarray
    """int `[M, N, R]`: played moves; -1 none."""
    payoffs: np.ndarray
    """float64 `[M, N, R]`; 0 after the end of the match."""
    alive: np.ndarray
    """bool `[M, R]`: the match had this round."""
    answers: np.ndarray
    """int `[M, N, 4]`: numbers of answers by `ANSWERS`."""
    best_welfare: float | None = None
    """The largest sum of payoffs in a round; None: unknown."""

    @staticmethod
    def of(
        matches: Sequence[SeatedMatch], agent: str, best_welfare: float | None = None
    ) -> "GroupMatches":
        """The matches as arrays."""
        rounds = max(len(match.payoffs[0]) for match in matches)

        def filled(name: str, empty: float, dtype: type) -> np.ndarray:
            rows = [getattr(match, name) for match in matches]
            array: np.ndarray = np.full((len(rows), len(rows[0]), rounds), empty, dtype=dtype)
            for m, seats in enumerate(rows):
                array[m, :, : len(seats[0])] = seats
            return array

        lengths = np.array([len(match.payoffs[0]) for match in matches])
        return GroupMatches(
            np.array([[name == agent for name in match.agents] for match in matches]),
            filled("intended", -1, np.int64),
            filled("moves", -1, np.int64),
            filled("payoffs", 0.0, float),
            np.arange(rounds) < lengths[:, None],
            np.array([[getattr(m, kind) for kind in ANSWERS] for m in matches]).swapaxes(1, 2),
            best_welfare,
        )

    @property
    def seats(self) -> int:
        """N."""
        return int(self.own.shape[1])

    @property
    def per_round(self) -> np.ndarray:
        """float64 `[M, N]`: payoff per round of every seat."""
        return np.asarray(self.payoffs.sum(axis=2) / self.alive.sum(axis=1)[:, None])

    @property
    def others_cooperating(self) -> np.ndarray:
        """int `[M, N, R]`: how many others cooperated in the round before; -1 in the first."""
        cooperated = (self.moves == 0).astype(int)
        found = np.full(self.moves.shape, -1)
        found[:, :, 1:] = (cooperated.sum(axis=1, keepdims=True) - cooperated)[:, :, :-1]
        return found


@dataclass(frozen=True)
class GroupMetric:
    """Something to count of an agent in its matches."""

    title: str
    text: str
    """Its definition in one sentence."""
    formula: str
    """In plain text. S: the agent's seats, x_i: payoff per round of seat i, c_it: its intended move
    is C."""
    source: str
    unit: str
    """"share", "points" (payoff per round) or "difference" (of payoffs)."""
    bounds: Callable[[float, float, int], Bounds]
    """From a seat's least and largest payoff in a round, and N."""
    count: Callable[[GroupMatches], np.ndarray]
    """float64 `[match, 2]`: numerator and denominator."""
    better: str = "none"


def _per_seat(values: np.ndarray, m: GroupMatches) -> np.ndarray:
    """Sum of `[M, N]` over the agent's seats, over rounds in which they sat, as `[M, 2]`."""
    rounds = m.alive.sum(axis=1)
    total = np.where(m.own, values, 0.0).sum(axis=1) * rounds
    return np.stack([total, m.own.sum(axis=1) * rounds], axis=1)


def _per_match(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.stack([values * weights, weights], axis=1).astype(np.float64)


def payoff(m: GroupMatches) -> np.ndarray:
    return _per_seat(m.per_round, m)


def margin(m: GroupMatches) -> np.ndarray:
    x = m.per_round
    return _per_seat(x - (x.sum(axis=1, keepdims=True) - x) / (m.seats - 1), m)


def envy(m: GroupMatches) -> np.ndarray:
    x = m.per_round
    behind = np.maximum(0.0, x[:, None, :] - x[:, :, None]).sum(axis=2)
    return _per_seat(behind / (m.seats - 1), m)


def welfare_share(m: GroupMatches) -> np.ndarray:
    if m.best_welfare is None or m.best_welfare <= 0:
        return np.zeros((len(m.alive), 2))
    best = m.best_welfare * m.alive.sum(axis=1)
    return np.stack([m.payoffs.sum(axis=(1, 2)), best], axis=1)


def gini(m: GroupMatches) -> np.ndarray:
    totals = m.payoffs.sum(axis=2)
    defined = (totals >= 0).all(axis=1)
    gaps = np.abs(totals[:, None, :] - totals[:, :, None]).sum(axis=(1, 2))
    pair = np.stack([gaps, 2 * m.seats * totals.sum(axis=1)], axis=1)
    return np.where(defined[:, None], pair, 0.0)


def rawlsian_minimum(m: GroupMatches) -> np.ndarray:
    return _per_match(m.per_round.min(axis=1), m.alive.sum(axis=1))


def answered(kind: str) -> Callable[[GroupMatches], np.ndarray]:
    place = ANSWERS.index(kind)

    def counted(m: GroupMatches) -> np.ndarray:
        own = np.where(m.own[:, :, None], m.answers, 0).sum(axis=1)
        return own[:, [place, 0]].astype(np.float64)

    return counted


def _cooperation(m: GroupMatches, where: np.ndarray) -> np.ndarray:
    """Cooperation among the legal answers of the agent `where`, bool `[M, N, R]`."""
    counted = m.own[:, :, None] & m.alive[:, None] & (m.intended >= 0) & where
    chosen = counted & (m.intended == 0)
    return np.stack([chosen.sum(axis=(1, 2)), counted.sum(axis=(1, 2))], axis=1).astype(float)


def cooperation(m: GroupMatches) -> np.ndarray:
    return _cooperation(m, np.ones(m.moves.shape, dtype=bool))


def cooperation_first(m: GroupMatches) -> np.ndarray:
    return _cooperation(m, np.arange(m.moves.shape[2])[None, None] == 0)


def cooperation_after(others: int) -> Callable[[GroupMatches], np.ndarray]:
    return lambda m: _cooperation(m, m.others_cooperating == others)


def _share(low: float, high: float, seats: int) -> Bounds:
    return 0.0, 1.0


def _payoff(low: float, high: float, seats: int) -> Bounds:
    return low, high


def _shared(name: str, **changes: Any) -> GroupMetric:
    """The metric with the definition of the pair's."""
    known = METRICS[name]
    given = {
        key: getattr(known, key) for key in ("title", "text", "formula", "source", "unit")
    } | changes
    return GroupMetric(**given)


FEHR = "Fehr and Schmidt 1999, Quarterly Journal of Economics 114, 817-868, equation 1"

METRICS_OF_GROUPS: dict[str, GroupMetric] = {
    "payoff": _shared(
        "payoff", text="Payoff per round of one of the agent's seats.",
        formula="mean over S of sum_t x_i(t) / T", bounds=_payoff, count=payoff, better="high",
    ),
    "margin": _shared(
        "margin", text="Own payoff minus the mean of all other seats', per round.",
        formula="mean over S of x_i - mean over j != i of x_j",
        bounds=lambda low, high, n: (low - high, high - low), count=margin, better="high",
    ),
    "welfare_share": _shared(
        "welfare_share",
        text="Sum of all seats' payoffs over the largest possible sum; undefined where that is "
        "not positive.",
        formula="sum_i x_i / max sum_i x_i",
        bounds=lambda low, high, n: (0.0 if low >= 0 else -np.inf, 1.0), count=welfare_share,
        better="high",
    ),
    "gini": _shared(
        "gini",
        text="Inequality of the seats' payoffs of a match; 0: equal, 1 - 1/N: one has everything. "
        "Undefined where a payoff is negative. Matches weigh by their payoffs.",
        formula="sum_ij |x_i - x_j| / (2 N sum_i x_i)",
        bounds=lambda low, high, n: (0.0, 1 - 1 / n), count=gini, better="low",
    ),
    "rawlsian_minimum": _shared(
        "rawlsian_minimum", text="Payoff per round of the seat that got least in the match.",
        formula="min over i of x_i", bounds=_payoff, count=rawlsian_minimum, better="high",
    ),
    "envy": _shared(
        "envy",
        text="How much less than each other seat a seat of the agent got, per round, on average "
        "over the others; 0 for those that got as little or less.",
        formula="mean over S of sum_j max(0, x_j - x_i) / (N - 1)", source=FEHR,
        bounds=lambda low, high, n: (0.0, high - low), count=envy, better="low",
    ),
    **{
        kind: _shared(kind, bounds=_share, count=answered(kind), better="low")
        for kind in ("illegal", "refused", "cut_off")
    },
    "cooperation": _shared("cooperation", bounds=_share, count=cooperation),
    "cooperation_first": _shared("cooperation_first", bounds=_share, count=cooperation_first),
}  # fmt: skip
"""The metrics of any number of seats by name; `metrics_of` adds those of a number."""


def metrics_of(seats: int) -> dict[str, GroupMetric]:
    """Every metric of games of so many seats by name."""
    return METRICS_OF_GROUPS | {
        f"cooperation_after_{others}": GroupMetric(
            f"P(C | {others} of {seats - 1})",
            f"Cooperation right after {others} of the {seats - 1} others cooperated: conditional "
            "cooperation rises with their number.",
            f"#(c_it, {others} others C at t - 1) / #(legal, {others} others C at t - 1)",
            "Fischbacher, Gächter and Fehr 2001, Economics Letters 71, 397-404; " + AXELROD,
            "share",
            _share,
            cooperation_after(others),
        )
        for others in range(seats)
    }
