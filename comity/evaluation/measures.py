"""What a measure is: a numerator and a denominator, counted over decisions.

Counts of two lists of decisions add up. `rate` divides; `per_match` counts each match separately,
in the form that `comity.evaluation.statistics.mean_over_seeds` takes.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import numpy as np

from comity.rollout.records import Decision

Count = tuple[float, float]
"""Numerator and denominator."""

Measure = Callable[[Sequence[Decision]], Count]


def rate(count: Count) -> float | None:
    """Numerator over denominator; None where nothing was counted."""
    numerator, denominator = count
    return numerator / denominator if denominator else None


def per_match(decisions: Iterable[Decision], measure: Measure) -> np.ndarray:
    """float64 `[match, 2]`: the measure of each (iteration, match), in that order."""

    def key(decision: Decision) -> tuple[int, int]:
        return decision.iteration, decision.match

    matches = groupby(sorted(decisions, key=key), key=key)
    return np.array([measure(list(match)) for _, match in matches]).reshape(-1, 2)
