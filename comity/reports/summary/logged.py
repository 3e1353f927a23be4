"""Curves from metrics.jsonl: numbers that are logged for the learners of a run together."""

from typing import Any

import numpy as np

from comity.evaluation.metrics import METRICS
from comity.evaluation.payoff_ranges import Range
from comity.evaluation.statistics import SEEDS
from comity.reports.loading.folders import Run
from comity.reports.summary.estimates import SHARE, Json, interval


def over_seeds(
    runs: list[Run], iterations: list[int], bounds: Range | None, *keys: str
) -> list[Json | None]:
    """Mean over seeds of a number in metrics.jsonl."""
    found: dict[int, list[np.ndarray]] = {iteration: [] for iteration in iterations}
    for run in runs:
        for line in run.metrics:
            value: Any = line
            for key in keys:
                value = value.get(key, {})
            if not isinstance(value, int | float) or not np.isfinite(value):
                continue
            if line["iteration"] in found:
                found[line["iteration"]].append(np.array([float(value)]))
    return [interval(values, bounds, SEEDS) for values in found.values()]


def further(runs: list[Run], iterations: list[int]) -> Json:
    """`{"metrics": {name: curve}}`: the metrics by name that metrics.jsonl has values of."""
    names = dict.fromkeys(
        name
        for run in runs
        for line in run.metrics
        for name, value in line.get("metrics", {}).items()
        if value is not None
    )
    curves = {
        name: over_seeds(runs, iterations, SHARE if name in METRICS else None, "metrics", name)
        for name in names
    }
    return {"metrics": curves} if curves else {}


def against(runs: list[Run], iterations: list[int], payoffs: Range | None) -> Json:
    """`{"by_opponent": {kind: {"payoff", "cooperation"}}}`; `{}` with a single kind of opponent.

    All learners of a run together, as in metrics.jsonl.
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
        "by_opponent": {
            kind: {
                key: over_seeds(runs, iterations, bounds, "by_opponent", kind, key)
                for key, bounds in (("payoff", payoffs), ("cooperation", SHARE))
            }
            for kind in kinds
        }
    }
