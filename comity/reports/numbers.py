"""Everything that the page states, as one dictionary: the content of summary.json.

Every estimate is `{"mean", "low", "high", "n"}` with n decisions (cooperation, conditional
cooperation, illegal) or rounds (payoff), or None where nothing was counted. Definitions are
those of `comity.evaluation.metrics`, counted here on whole columns.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.evaluation.metrics import OUTCOMES, STATES, STRATEGIES
from comity.reports.estimates import (
    Json,
    Measure,
    by_seed,
    concatenate,
    conditional,
    cooperation,
    estimate,
    illegal,
    margin,
    payoff,
)
from comity.reports.folders import Material, Run, learner_name
from comity.reports.moral import PerIteration, moral_curves
from comity.reports.negotiation import negotiation, negotiation_curves
from comity.reports.tables import Table, read_crossplay, read_training

HEALTH = ("reward", "entropy", "kl", "gradient_norm")
"""Quantities of metrics.jsonl that are drawn beside the learning curves."""

REFERENCE: dict[str, dict[str, float]] = {
    name: {"start": 0.0 if name == "always_defect" else 1.0, **row}
    for name, row in STRATEGIES.items()
}
"""P(C | state) of the reference strategies, with their first move."""


def joint_outcomes(table: Table) -> dict[str, float] | None:
    """Shares of the rounds' joint outcomes, the trained seat's move first (both: seat 0's).

    "illegal": rounds in which some answer was illegal, or some seat made no move. None unless
    two seats with two moves each played.
    """
    table = table.where(table.choice)
    if not len(table) or set(np.unique(table.seat)) != {0, 1}:
        return None
    if max(table.move.max(), table.played.max()) > 1:
        return None
    learners = np.unique(table.seat[table.trained])
    first = int(learners[0]) if len(learners) else 0
    keys, index = np.unique(
        np.stack([table.seed, table.match, table.round]), axis=1, return_inverse=True
    )
    index = index.reshape(-1)
    moves = np.full((keys.shape[1], 2), -1)
    moves[index, np.where(table.seat == first, 0, 1)] = np.where(table.move < 0, -1, table.played)
    legal = (moves >= 0).all(axis=1)
    code = np.where(legal, moves[:, 0] * 2 + moves[:, 1], 4)
    shares = np.bincount(code, minlength=5) / len(code)
    return {
        name: round(float(share), 6)
        for name, share in zip((*OUTCOMES, "illegal"), shares, strict=True)
    }


def describe(table: Table) -> Json:
    """Cooperation, payoff, illegal answers and conditional cooperation of some decisions."""
    return {
        "cooperation": estimate(table, cooperation),
        "payoff": estimate(table, payoff),
        "illegal": estimate(table, illegal),
        "conditional_cooperation": {state: estimate(table, conditional(state)) for state in STATES},
    }


def summarize(material: Material, progress: Callable[[str], None] = lambda line: None) -> Json:
    """All numbers of the report (without the head that says what was run)."""
    policies: Json = {}
    learning: Json = {}
    outcomes: Json = {}
    moral: Json = {}
    talks: Json = {}
    for name in material.policies:
        progress(name)
        runs = [run for run in material.runs if run.policy == name]
        tables = _tables(runs)
        learners = _by_player(tables, _players(tables, learners=True))
        for player, trained in learners.items():
            learner = learner_name(name, player)
            policies[learner], learning[learner], outcomes[learner] = _trained(runs, trained)
            moral[learner] = moral_curves(runs, trained)
            talks[learner] = negotiation_curves(runs, player)
        if not learners:
            if not any("human" in run.config.get("seats", ()) for run in runs):
                raise ComityError(
                    f"{runs[0].path} has no trained decisions; nothing is left to report"
                )
            for player, seated in _by_player(tables, _players(tables)).items():
                called = f"{player} ({name})" if player in policies else player
                policies[called] = _untrained(seated)
                talks[called] = negotiation_curves(runs, player)
    crossplay: Json = {}
    if material.crossplay is not None:
        progress("cross-play")
        table = read_crossplay(material.crossplay / "decisions.parquet")
        crossplay = crossplay_matrix(table)
        for name in crossplay:
            described = describe(table.where(table.player == name))
            if name in policies:
                policies[name]["crossplay"] = described
            else:
                policies[name] = {
                    "source": "cross-play",
                    **described,
                    "per_seed": _per_seed(table.where(table.player == name)),
                }
    return {
        "policies": policies,
        "learning": learning,
        "outcomes": outcomes,
        "moral": {name: one for name, one in moral.items() if one},
        "negotiation": negotiation(material, talks),
        "crossplay": crossplay,
        "reference": REFERENCE,
    }


def _tables(runs: list[Run]) -> PerIteration:
    """The decisions of a policy's runs by iteration."""
    tables: PerIteration = {i: [] for i in sorted({i for run in runs for i in run.iterations})}
    for run in runs:
        for iteration in run.iterations:
            tables[iteration].append(read_training(run.decisions(iteration), run.seed))
    return tables


def _players(tables: PerIteration, learners: bool = False) -> list[str]:
    """Names of all who decided, or only of those who were trained."""
    every = [table for at in tables.values() for table in at]
    named = [t.player[t.trained if learners else t.answer] for t in every]
    return sorted({str(player) for players in named for player in np.unique(players)})


def _by_player(tables: PerIteration, players: Iterable[str]) -> dict[str, PerIteration]:
    """For each player the decisions with `trained` marking its rows only.

    Where several learners were trained (an adapter per seat), each is a policy of its own. Where
    nobody was, every player's answers are marked.
    """
    learned = any(t.trained.any() for at in tables.values() for t in at)
    return {
        player: {
            iteration: [
                replace(t, trained=(t.trained if learned else t.answer) & (t.player == player))
                for t in at
            ]
            for iteration, at in tables.items()
        }
        for player in players
    }


def _untrained(tables: PerIteration) -> Json:
    """Summary of a player in matches that nobody learned from."""
    marked = concatenate([t.where(t.trained) for at in tables.values() for t in at])
    return {"source": "as played", **describe(marked), "per_seed": _per_seed(marked)}


def _trained(runs: list[Run], tables: PerIteration) -> tuple[Json, Json, Json]:
    """Summary, learning curves and joint outcomes of the runs (seeds) of one policy."""
    measures: dict[str, Measure] = {
        "cooperation": cooperation,
        "payoff": payoff,
        "illegal": illegal,
    }
    curves: dict[str, list[Json | None]] = {name: [] for name in measures}
    shares: list[dict[str, float] | None] = []
    for at in tables.values():
        whole = concatenate(at)
        trained = whole.where(whole.trained)
        for name, measure in measures.items():
            point = estimate(trained, measure)
            if point is not None and name != "illegal" and len(runs) > 1:
                point["seeds"] = by_seed(trained, measure)
            curves[name].append(point)
        shares.append(joint_outcomes(whole))
    final = concatenate([_last(run, tables) for run in runs])
    final = final.where(final.trained)
    summary = {
        "source": "last iteration",
        "seeds": sorted(run.seed for run in runs),
        "last_iteration": {str(run.seed): run.iterations[-1] for run in runs},
        **describe(final),
        "per_seed": _per_seed(final),
    }
    iterations = list(tables)
    health = {key: _over_seeds(runs, iterations, key) for key in HEALTH}
    learning = {
        "iteration": iterations,
        **curves,
        **{key: values for key, values in health.items() if any(v is not None for v in values)},
        **_against(runs, iterations),
    }
    return summary, learning, _transposed(iterations, shares)


def _last(run: Run, tables: PerIteration) -> Table:
    """Decisions of a run's own last iteration (seeds may have come to different ones)."""
    return next(t for t in tables[run.iterations[-1]] if t.seed[0] == run.seed)


def _transposed(iterations: list[int], shares: list[dict[str, float] | None]) -> Json:
    """Lists per outcome; empty unless every iteration has joint outcomes."""
    known = [share for share in shares if share is not None]
    if len(known) < len(shares):
        return {}
    return {"iteration": iterations, **{name: [s[name] for s in known] for name in known[0]}}


def _against(runs: list[Run], iterations: list[int]) -> Json:
    """`{"against": {kind of opponent: {"payoff", "cooperation"}}}` where there were several kinds.

    Of all learners of a run together, as metrics.jsonl has it.
    """
    kinds = dict.fromkeys(
        kind
        for run in runs
        for line in run.metrics
        for kind, row in line.get("by_opponent", {}).items()
        if row["matches"]
    )
    if len(kinds) < 2:
        return {}
    return {
        "against": {
            kind: {
                key: _over_seeds(runs, iterations, "by_opponent", kind, key)
                for key in ("payoff", "cooperation")
            }
            for kind in kinds
        }
    }


def _over_seeds(runs: list[Run], iterations: list[int], *keys: str) -> list[Json | None]:
    """Mean over seeds of a number in metrics.jsonl, with the least and the greatest seed."""
    found: dict[int, list[float]] = {iteration: [] for iteration in iterations}
    for run in runs:
        for line in run.metrics:
            value: Any = line
            for key in keys:
                value = value.get(key, {})
            if not isinstance(value, int | float) or not np.isfinite(value):
                continue
            if line["iteration"] in found:
                found[line["iteration"]].append(float(value))
    return [
        {
            "mean": round(float(np.mean(values)), 6),
            "low": round(min(values), 6),
            "high": round(max(values), 6),
            "n": len(values),
        }
        if values
        else None
        for values in found.values()
    ]


def _per_seed(table: Table) -> Json:
    return {
        str(seed): {
            "cooperation": estimate(table.where(table.seed == seed), cooperation),
            "payoff": estimate(table.where(table.seed == seed), payoff),
        }
        for seed in np.unique(table.seed)
    }


def crossplay_matrix(table: Table) -> Json:
    """`{row: {column: {"payoff", "cooperation", "margin"}}}`: what the row's player gets and does.

    A pair's matches count for both of its cells, whichever seat each player sat on. The margin
    is the row's payoff minus the column's; a player has none over itself (None).
    """
    names = list(dict.fromkeys(_in_order(table)))
    matrix: Json = {}
    for row in names:
        matrix[row] = {}
        for column in names:
            pair = table.where(
                ((table.player == row) & (table.opponent == column))
                | ((table.player == column) & (table.opponent == row))
            )
            cell = pair.where(pair.player == row)
            if len(cell):
                matrix[row][column] = {
                    "payoff": estimate(cell, payoff),
                    "cooperation": estimate(cell, cooperation),
                    "margin": None if row == column else estimate(pair, margin(row)),
                }
    return matrix


def _in_order(table: Table) -> Iterable[str]:
    """Player names as they first appear."""
    names, first = np.unique(table.player, return_index=True)
    return (str(names[i]) for i in np.argsort(first))
