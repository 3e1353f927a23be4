"""Estimates of one condition: curves over bins, values in windows, matrices of who met whom.

A condition's counts go in, plain values for JSON come out. Intervals are over runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from comity.evaluation.population.counts import Pairs, Tally
from comity.evaluation.population.intervals import means_over_runs, number, numbers
from comity.evaluation.population.metrics import (
    CUMULATIVE,
    CUMULATIVE_SOCIAL,
    METRICS,
    Ends,
    cumulative,
    denominators,
    ends,
    measure,
)

Json = dict[str, Any]

AGENT_CURVES = 32
"""Most agents with curves of their own."""
CONSTANT = ("AC", "AD")
"""Types whose move never changes: their cooperation is exact, without an interval."""
EXACT = "exact: the strategy always plays the same move"
RUN_CURVES = ("cooperation", "cooperative_selection", "collective")
"""Metrics of the population, and cooperation of types, whose runs are kept one by one."""


@dataclass(frozen=True)
class Units:
    """Agents that are measured together: `names` of U units, `members` `[U, N]` of 0 and 1."""

    level: str
    """ "population", "types" or "agents"."""
    names: tuple[str, ...]
    members: np.ndarray
    constant: np.ndarray
    """bool `[N]`: agents whose move never changes."""

    def is_constant(self, unit: int, cooperation: np.ndarray) -> bool:
        """Whether all agents of a unit always play the same move, as `[R, ..., U]` shows."""
        found = cooperation[..., unit][np.isfinite(cooperation[..., unit])]
        same = len(np.unique(found)) == 1
        return bool(same and self.constant[self.members[unit] > 0].all())

    def metrics(self, chooses: bool) -> list[str]:
        """Names of the metrics that can be measured of such units."""
        return [
            name
            for name, metric in METRICS.items()
            if (self.level == "population" or metric.scope == "any")
            and (chooses or metric.needs != "selection")
        ]


def units_of(types: Sequence[str], type_of: np.ndarray) -> list[Units]:
    """The population, its types, and its agents by index."""
    agents = len(type_of)
    constant = np.isin(np.array(types)[type_of], CONSTANT)
    by_type = (type_of[None, :] == np.arange(len(types))[:, None]).astype(float)
    return [
        Units("population", ("all",), np.ones((1, agents)), constant),
        Units("types", tuple(types), by_type, constant),
        Units("agents", tuple(map(str, range(agents))), np.eye(agents), constant),
    ]


def curves(
    tally: Tally, units: Units, lengths: np.ndarray, payoffs: Ends | None, chooses: bool
) -> Json:
    """Curves by unit and metric: `mean`, `low`, `high` by bin; some with `runs` `[R][B]`."""
    found: dict[str, Json] = {name: {} for name in units.names}
    names = units.metrics(chooses) + list(CUMULATIVE)
    names += list(CUMULATIVE_SOCIAL) if units.level == "population" else []
    for name in names:
        if name in METRICS:
            values, bounds = measure(name, tally, units.members), ends(name, payoffs)
        else:
            values, bounds = cumulative(name, tally, units.members, lengths), None
        if name.startswith("illegal") and not np.nansum(values):
            continue
        means = means_over_runs(values, reaching(bounds, values))
        for place, unit in enumerate(units.names):
            curve = {key: numbers(getattr(means, key)[:, place]) for key in ("mean", "low", "high")}
            if name == "cooperation" and units.is_constant(place, values):
                curve |= dict.fromkeys(("low", "high"), [None] * len(curve["mean"]))
            if (units.level == "population" and name in RUN_CURVES) or (
                units.level == "types" and name == "cooperation"
            ):
                curve["runs"] = numbers(values[:, :, place], 4)
            found[unit][name] = curve
    return found


def totals(tally: Tally, slot: int, units: Units, payoffs: Ends | None, chooses: bool) -> Json:
    """Estimates in one window by unit and metric, with `by_run`, the values of the runs."""
    found: dict[str, Json] = {name: {} for name in units.names}
    for name in units.metrics(chooses):
        values = measure(name, tally, units.members)[:, slot]
        means = means_over_runs(values, reaching(ends(name, payoffs), values))
        n = denominators(name, tally, units.members)[slot]
        for place, unit in enumerate(units.names):
            estimate = means.estimate(place, n[place])
            if name == "cooperation" and units.is_constant(place, values):
                estimate |= {"low": None, "high": None, "reason": EXACT}
            if units.level != "agents":
                estimate["by_run"] = numbers(values[:, place])
            found[unit][name] = estimate
    return found


def difference(first: np.ndarray, second: np.ndarray, bounds: Ends | None = None) -> Json:
    """First minus second, run by run `[R]`, as an estimate; `bounds`: of the difference."""
    values = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    means = means_over_runs(values, reaching(bounds, values))
    return means.estimate((), np.isfinite(values).sum())


def apart(bounds: Ends | None) -> Ends | None:
    """Bounds of the difference of two quantities with these bounds."""
    return None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])


def reaching(bounds: Ends | None, values: np.ndarray) -> Ends | None:
    """The bounds, moved out to values beyond them.

    Payoffs that a table does not have can stand in records: those of games with an illegal move.
    """
    if bounds is None or not np.isfinite(values).any():
        return bounds
    return min(bounds[0], float(np.nanmin(values))), max(bounds[1], float(np.nanmax(values)))


def shares_of_rows(counts: np.ndarray) -> np.ndarray:
    """`[R, U, U]`: every row divided by its sum; NaN in rows without any."""
    sums = counts.sum(axis=2, keepdims=True)
    found = np.full(counts.shape, np.nan)
    return np.divide(counts, sums, out=found, where=sums > 0)


def matrix(values: np.ndarray, bounds: Ends | None) -> Json:
    """`[R, U, U]`: means with intervals, as nested lists."""
    means = means_over_runs(values, reaching(bounds, values))
    return {key: numbers(getattr(means, key), 4) for key in ("mean", "low", "high")}


def selection_matrices(pairs: Pairs, window: int) -> Json:
    """Shares of the row's selections that fell on the column, by type and by agent."""
    found = {"types": matrix(shares_of_rows(pairs.type_selections[window]), (0.0, 1.0))}
    if pairs.selections is not None:
        found["agents"] = matrix(shares_of_rows(pairs.selections[window]), (0.0, 1.0))
    return found


def interactions(pairs: Pairs, window: int, payoffs: Ends | None, types: Sequence[str]) -> Json:
    """By type and its partner's type: cooperation and payoff per game of the row, and games."""

    def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        found = np.full(above.shape, np.nan)
        return np.divide(above, below, out=found, where=below > 0)

    games = pairs.games[window]
    cooperation = ratio(pairs.cooperated[window], pairs.legal[window])
    found = matrix(cooperation, (0.0, 1.0))
    for row, name in enumerate(types):
        known = np.unique(cooperation[:, row][np.isfinite(cooperation[:, row])])
        if name in CONSTANT and len(known) == 1:
            found["low"][row] = found["high"][row] = [None] * len(types)
    return {
        "cooperation": found,
        "payoff": matrix(ratio(pairs.payoff[window], games), payoffs),
        "games": [[number(float(x)) for x in row] for row in games.sum(axis=0)],
    }


def payoff_against(pairs: Pairs, window: int, row: int, columns: Sequence[int]) -> np.ndarray:
    """`[R]`: payoff per game of a type against partners of some types; NaN without games."""
    games = pairs.games[window][:, row, list(columns)].sum(axis=1)
    payoff = pairs.payoff[window][:, row, list(columns)].sum(axis=1)
    return np.divide(payoff, games, out=np.full(len(games), np.nan), where=games > 0)


def chance_of_types(type_of: np.ndarray) -> list[list[float | None]]:
    """Share of a type's selections that would fall on each type if partners were uniform."""
    counts = np.bincount(type_of)
    found = np.repeat(counts[None, :], len(counts), axis=0) - np.eye(len(counts))
    result: list[list[float | None]] = numbers(found / (len(type_of) - 1))
    return result


def end_moves(joint: np.ndarray) -> Mapping[str, Json]:
    """`[R, 5]` games of one episode by joint move: the share of each, over runs."""
    shares = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1)
    shares[joint.sum(axis=1) == 0] = np.nan
    means = means_over_runs(shares, (0.0, 1.0))
    n = joint.sum()
    return {
        name: means.estimate(place, n)
        for place, name in enumerate(("CC", "CD", "DC", "DD", "none"))
    }
