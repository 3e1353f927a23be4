"""Figures of the moral-alignment study on the page of runs: what was done to whom, and its worth.

- Action types: the own move, given the other's move on display; all seeds together, and each.
- The reward per decision, and as a share of the reward's range (normalized reward; the
  normalized regret is 1 minus that), phase by phase where a run has several.
- Beside them the null policies of the run's `yardsticks.json`, which never look at payoffs.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from comity.evaluation.moral import ACTION_TYPES
from comity.reports.estimates import Json, concatenate, estimate, reward
from comity.reports.folders import Run
from comity.reports.tables import Table

PerIteration = dict[int, list[Table]]
"""Decisions of all seats of each recorded iteration, ascending; a table per seed."""


def action_shares(table: Table) -> dict[str, float] | None:
    """Shares of `ACTION_TYPES` among the decisions that were shown a move of the other.

    None where nothing was on display, or the game has more than two moves.
    """
    shown = table.choice & ((table.other_last >= 0) | ((table.move < 0) & ~table.first))
    if not shown.any() or max(table.move.max(), table.other_last.max()) > 1:
        return None
    code = np.where(table.move < 0, 4, 2 * table.move + table.other_last)[shown]
    shares = np.bincount(code, minlength=len(ACTION_TYPES)) / len(code)
    return {kind: round(float(share), 6) for kind, share in zip(ACTION_TYPES, shares, strict=True)}


def moral_curves(runs: Sequence[Run], tables: PerIteration) -> Json:
    """All of this page's figures for the runs of one policy; `{}` where they do not apply."""
    iterations = list(tables)
    trained = {i: [t.where(t.trained) for t in tables[i]] for i in iterations}
    whole = [concatenate(trained[i]) for i in iterations]
    shares = [action_shares(table) for table in whole]
    if any(share is None for share in shares):
        return {}
    seeds = sorted({run.seed for run in runs})
    yardsticks = next((run.yardsticks for run in runs if run.yardsticks), {})
    phases = yardsticks.get("phases", [])
    rewards = [estimate(table, reward) for table in whole]
    ranges = [_phase(phases, i) for i in iterations]
    normalized = [_share(e, r) for e, r in zip(rewards, ranges, strict=True)]
    found: Json = {
        "study": runs[0].study,
        "iteration": iterations,
        "types": _lists(shares),
        "types_per_seed": {
            str(seed): _lists(
                [
                    action_shares(one.where(one.seed == seed)) if (one.seed == seed).any() else None
                    for one in whole
                ]
            )
            for seed in seeds
        },
        "reward": rewards,
        "phases": phases,
        "opponent": yardsticks.get("opponent"),
        "null": yardsticks.get("null", {}),
        "optimum": yardsticks.get("optimum", []),
    }
    if any(normalized):
        found["normalized"] = normalized
        found["regret"] = [_mirrored(e) for e in normalized]
    return found


def _lists(shares: Sequence[Mapping[str, float] | None]) -> Json:
    """Values by action type; empty unless every iteration has them."""
    known = [share for share in shares if share is not None]
    if len(known) < len(shares):
        return {}
    return {kind: [share[kind] for share in known] for kind in ACTION_TYPES}


def _phase(phases: Sequence[Json], iteration: int) -> Json | None:
    """The phase that an iteration belongs to."""
    begun = [one for one in phases if one["first"] <= iteration]
    return begun[-1] if begun else None


def _share(e: Json | None, phase: Json | None) -> Json | None:
    """An estimate of a reward as one of its share of the phase's range."""
    if e is None or phase is None or phase["high"] <= phase["low"]:
        return None
    low, span = phase["low"], phase["high"] - phase["low"]
    return {**e, **{key: round((e[key] - low) / span, 6) for key in ("mean", "low", "high")}}


def _mirrored(e: Json | None) -> Json | None:
    """1 minus an estimate."""
    if e is None:
        return None
    return {
        **e,
        "mean": round(1 - e["mean"], 6),
        "low": round(1 - e["high"], 6),
        "high": round(1 - e["low"], 6),
    }
