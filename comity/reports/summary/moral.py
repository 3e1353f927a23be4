"""Figures of the moral-alignment study on the run page: action types and rewards.

- Action types: the own move, given the other's move on display; all seeds together, and each.
- The reward per decision, and as a share of the reward's range (normalized reward; the
  normalized regret is 1 minus that), phase by phase where a run has several; and which share the
  worst legal answer has, because the range reaches down to an illegal one.
- The payoff-blind baselines of the run's `reference_policies.json`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from comity.evaluation.moral.metrics import ACTION_TYPES
from comity.reports.loading.decisions import DecisionTable
from comity.reports.loading.folders import Run
from comity.reports.summary.estimates import (
    LISTED,
    Json,
    concatenate,
    cooperation,
    estimate,
    illegal,
    normalized_reward,
    reward,
    shares_over_seeds,
)

PerIteration = dict[int, list[DecisionTable]]
"""Decisions of all seats of each recorded iteration, ascending; a table per seed."""


def action_shares(table: DecisionTable) -> dict[str, float] | None:
    """Shares of `ACTION_TYPES` among one seed's decisions that were shown a move of the other.

    Where all choices were scored, the recorded probabilities of both moves count instead of the
    move that was drawn. None where nothing was on display, or the game has more than two moves.
    """
    shown = table.choice & ((table.other_last >= 0) | ((table.move < 0) & ~table.first))
    if not shown.any() or max(table.move.max(), table.other_last.max()) > 1:
        return None
    cooperated = cooperation(table).numerator
    table, cooperated = table.where(shown), cooperated[shown].astype(np.float64)
    legal = table.move >= 0
    shares = {}
    for kind in ACTION_TYPES:
        if kind == "illegal":
            shares[kind] = float(np.mean(~legal))
            continue
        own = cooperated if kind[0] == "C" else 1.0 - cooperated
        shares[kind] = float(np.mean(own * legal * (table.other_last == "CD".index(kind[2]))))
    return {kind: round(share, 6) for kind, share in shares.items()}


def moral_curves(runs: Sequence[Run], tables: PerIteration) -> Json:
    """All of this page's figures for the runs of one policy; `{}` where they do not apply."""
    iterations = list(tables)
    trained = {i: [t.where(t.trained) for t in tables[i]] for i in iterations}
    whole = [concatenate(trained[i]) for i in iterations]
    shares = [shares_over_seeds(action_shares(one) for one in trained[i]) for i in iterations]
    if any(share is None for share in shares):
        return {}
    seeds = sorted({run.seed for run in runs})
    reference_policies = next(
        (run.reference_policies for run in runs if run.reference_policies), {}
    )
    seats = np.unique(np.concatenate([table.seat for table in whole]))
    if len(seats) == 1:
        reference_policies = {
            **reference_policies,
            **reference_policies.get("by_seat", {}).get(str(seats[0]), {}),
        }
    phases = reference_policies.get("phases", [])
    ranges = [_phase(phases, i) for i in iterations]
    phased = list(zip(whole, ranges, strict=True))
    rewards = [
        estimate(table, reward, (_least(table, at, "low", "legal_low"), at["high"]) if at else None)
        for table, at in phased
    ]
    normalized = [_share(e, r) for e, r in zip(rewards, ranges, strict=True)]
    if reference_policies.get("payoff_tables"):  # Every match has a range of its own.
        normalized = [
            estimate(
                table, normalized_reward, (_least(table, at or {}, "", "legal_share_low"), 1.0)
            )
            for table, at in phased
        ]
    found: Json = {
        "study": runs[0].study,
        "iteration": iterations,
        "action_types": _lists(shares),
        "action_types_per_seed": {
            str(seed): _lists(
                [
                    action_shares(one.where(one.seed == seed)) if (one.seed == seed).any() else None
                    for one in whole
                ]
            )
            for seed in seeds
        },
        "reward": rewards,
        "phases": [{**one, "legal_share": _legal_share(one)} for one in phases],
        "opponent": reference_policies.get("opponent"),
        "payoff_blind": reference_policies.get("payoff_blind", {}),
        "optimal_policies": reference_policies.get("optimal_policies", []),
        "payoff_tables": reference_policies.get("payoff_tables"),
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


def _least(table: DecisionTable, phase: Json, any_answer: str, legal: str) -> float:
    """The least value of these answers: of a legal one, where all must be legal."""
    least = float(phase.get(any_answer, 0.0))
    return float(phase.get(legal, least)) if illegal(table).exact == LISTED else least


def _legal_share(phase: Json) -> float | None:
    """The worst legal answer's share of a phase's range; None where it was not recorded."""
    if "legal_share" in phase:
        return round(float(phase["legal_share"]), 6)
    if "legal_low" not in phase or phase["high"] <= phase["low"]:
        return None
    return round(float((phase["legal_low"] - phase["low"]) / (phase["high"] - phase["low"])), 6)


def _share(e: Json | None, phase: Json | None) -> Json | None:
    """An estimate of a reward as one of its share of the phase's range."""
    if e is None or phase is None or phase["high"] <= phase["low"]:
        return None
    low, span = phase["low"], phase["high"] - phase["low"]
    return {**e, **{key: _scaled(e[key], low, span) for key in ("mean", "low", "high")}}


def _scaled(value: float | None, low: float, span: float) -> float | None:
    return None if value is None else round((value - low) / span, 6)


def _mirrored(e: Json | None) -> Json | None:
    """1 minus an estimate."""
    if e is None:
        return None
    turned = {"mean": e["mean"], "low": e["high"], "high": e["low"]}
    return {**e, **{k: None if v is None else round(1 - v, 6) for k, v in turned.items()}}
