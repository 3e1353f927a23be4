"""Everything that the page states, as one dictionary: the content of summary.json.

Every estimate is `{"mean", "low", "high", "n"}` with n decisions (cooperation, conditional
cooperation, illegal) or rounds (payoff), or None where nothing was counted. Definitions are
those of `comity.evaluation.metrics`, counted here on whole columns.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from comity.errors import ComityError
from comity.evaluation.metrics import OUTCOMES, STATES, STRATEGIES
from comity.reports.estimates import (
    Json,
    Measure,
    concatenate,
    conditional,
    cooperation,
    estimate,
    illegal,
    payoff,
)
from comity.reports.folders import Material, Run, learner_name
from comity.reports.moral import PerIteration, moral_curves
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
    for name in material.policies:
        progress(name)
        runs = [run for run in material.runs if run.policy == name]
        for learner, trained in _learners(name, runs).items():
            policies[learner], learning[learner], outcomes[learner] = _trained(runs, trained)
            moral[learner] = moral_curves(runs, trained)
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
        "crossplay": crossplay,
        "reference": REFERENCE,
    }


def _learners(policy: str, runs: list[Run]) -> dict[str, PerIteration]:
    """The decisions of a policy's runs by the name to report them under.

    Where several learners were trained (an adapter per seat), each is a policy of its own, and
    `trained` marks its rows only.
    """
    tables: PerIteration = {i: [] for i in sorted({i for run in runs for i in run.iterations})}
    for run in runs:
        for iteration in run.iterations:
            tables[iteration].append(read_training(run.decisions(iteration), run.seed))
    players = {str(p) for at in tables.values() for t in at for p in np.unique(t.player[t.trained])}
    if not players:
        raise ComityError(f"{runs[0].path} has no trained decisions; nothing is left to report")
    return {
        learner_name(policy, player): {
            iteration: [replace(t, trained=t.trained & (t.player == player)) for t in at]
            for iteration, at in tables.items()
        }
        for player in sorted(players)
    }


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
            curves[name].append(estimate(trained, measure))
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


def _over_seeds(runs: list[Run], iterations: list[int], key: str) -> list[Json | None]:
    """Mean over seeds of a number in metrics.jsonl, with the least and the greatest seed."""
    found: dict[int, list[float]] = {iteration: [] for iteration in iterations}
    for run in runs:
        for line in run.metrics:
            value = line.get(key)
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
    """`{row: {column: {"payoff", "cooperation"}}}`: what the row's player gets and does.

    A pair's matches count for both of its cells, whichever seat each player sat on.
    """
    names = list(dict.fromkeys(_in_order(table)))
    matrix: Json = {}
    for row in names:
        own = table.where(table.player == row)
        cells = {column: own.where(own.opponent == column) for column in names}
        matrix[row] = {
            column: {"payoff": estimate(cell, payoff), "cooperation": estimate(cell, cooperation)}
            for column, cell in cells.items()
            if len(cell)
        }
    return matrix


def _in_order(table: Table) -> Iterable[str]:
    """Player names as they first appear."""
    names, first = np.unique(table.player, return_index=True)
    return (str(names[i]) for i in np.argsort(first))
