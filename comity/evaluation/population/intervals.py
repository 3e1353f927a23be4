"""Means over runs with their intervals, for many quantities at once.

The intervals are those of `comity.evaluation.statistics.mean_over_seeds` with one value per run;
that module defines them, and the tests compare both on every value.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import special

from comity.evaluation.statistics import CONFIDENCE, END_POWER, ONE_UNIT, UNBOUNDED

ONE_RUN = ONE_UNIT.format("run")


@dataclass(frozen=True)
class Means:
    """Means over runs: arrays of one shape; NaN where nothing was counted or no interval is."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: np.ndarray
    """int: runs in which something was counted."""

    def estimate(self, place: Any, n: float) -> dict[str, Any]:
        """One of them as an estimate, ready for JSON; `n`: what it was counted over."""
        mean, low, high = (number(x[place]) for x in (self.mean, self.low, self.high))
        runs = int(self.runs[place])
        reason = "" if low is not None else _reason(runs)
        return {
            "mean": mean, "low": low, "high": high, "n": round(float(n)), "units": runs,
            "over": "runs", "reason": reason,
        }  # fmt: skip


def means_over_runs(
    values: np.ndarray, bounds: tuple[float, float] | None = None, confidence: float = CONFIDENCE
) -> Means:
    """`values` `[R, ...]`, one per run, NaN where a run counted nothing; every run weighs the same.

    `bounds`: least and greatest value that the quantity can have; None or infinite ends: unknown.
    Raises `ValueError` for values outside of them.
    """
    values = np.asarray(values, dtype=np.float64)
    counted = np.isfinite(values)
    k = counted.sum(axis=0)
    with np.errstate(all="ignore"):
        mean = np.where(counted, values, 0.0).sum(axis=0) / k
        spread = np.where(counted, (values - mean) ** 2, 0.0).sum(axis=0)
        error = spread / (k * (k - 1.0))
        least = np.where(counted, values, np.inf).min(axis=0)
        most = np.where(counted, values, -np.inf).max(axis=0)
        size = np.maximum(1.0, np.maximum(np.abs(least), np.abs(most)))
        equal = most - least <= 1e-9 * size
        t = special.stdtrit(np.maximum(k - 1.0, 1.0), (1.0 + confidence) / 2.0)
        spread = np.where(equal, 0.0, t**2 * error)
        if bounds is None or not np.isfinite(bounds).all():
            low, high = mean - spread**0.5, mean + spread**0.5
            low, high = (np.where(equal, np.nan, end) for end in (low, high))
            if bounds is not None:
                low, high = np.maximum(low, bounds[0]), np.minimum(high, bounds[1])
        else:
            low, high = _bounded(values, mean, spread, k, bounds, confidence)
        alone = k < 2
    low, high = (np.where(alone, np.nan, end) for end in (low, high))
    return Means(mean, low, high, k)


def _bounded(
    values: np.ndarray,
    mean: np.ndarray,
    spread: np.ndarray,
    k: np.ndarray,
    bounds: tuple[float, float],
    confidence: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The hull of three intervals on the scale on which the bounds are 0 and 1."""
    slack = 1e-6 * max(1.0, *map(abs, bounds))
    if (values < bounds[0] - slack).any() or (values > bounds[1] + slack).any():
        raise ValueError(f"values lie outside of the bounds {bounds}")
    span = bounds[1] - bounds[0]
    if span <= 0.0:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    share = np.clip((values - bounds[0]) / span, 0.0, 1.0)
    middle = np.clip((mean - bounds[0]) / span, 0.0, 1.0)
    c = spread / span**2 / np.maximum(middle * (1.0 - middle), 1e-12)
    center, root = 2 * middle + c, (c * c + 4 * c * middle * (1 - middle)) ** 0.5
    wilson = (
        np.maximum((center - root) / (2 * (1 + c)), 0.0),
        np.minimum((center + root) / (2 * (1 + c)), 1.0),
    )
    near = np.where(np.isfinite(share), (2 * share - 1) ** END_POWER, 0.0).sum(axis=0) / k
    tail, some, none = (1.0 - confidence) / 2.0, middle * k, (1.0 - middle) * k
    least = np.where(some > 0.0, special.betaincinv(np.maximum(some, 1e-300), none + 1.0, tail), 0)
    most = np.where(
        none > 0.0, special.betaincinv(some + 1.0, np.maximum(none, 1e-300), 1.0 - tail), 1.0
    )
    unseen = _unseen(values, k, confidence)
    low = np.minimum.reduce([wilson[0], middle + near * (least - middle), middle * (1.0 - unseen)])
    high = np.maximum.reduce(
        [wilson[1], middle + near * (most - middle), middle + (1.0 - middle) * unseen]
    )
    return np.minimum(bounds[0] + span * low, mean), np.maximum(bounds[0] + span * high, mean)


def _unseen(values: np.ndarray, k: np.ndarray, confidence: float) -> np.ndarray:
    """How far the mean may be off where many runs gave exactly one value: see `statistics`."""
    order = np.sort(values, axis=0)  # NaN comes last
    size = np.maximum(1.0, np.nanmax(np.abs(np.where(np.isfinite(values), values, 0.0)), axis=0))
    run = np.ones(values.shape[1:])
    alike = np.ones(values.shape[1:])
    for before, after in pairwise(order):
        same = after - before <= 1e-9 * size  # False for NaN
        run = np.where(same, run + 1, 1)
        alike = np.maximum(alike, run)
    tied = (alike - 1) / np.maximum(k - 1, 1)
    return np.asarray(tied * (1.0 - ((1.0 - confidence) / 2.0) ** (1.0 / np.maximum(k, 1))))


def number(value: float, digits: int = 6) -> float | None:
    """A number for JSON: None for NaN and infinities, and no more digits than anybody reads."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def numbers(values: np.ndarray, digits: int = 6) -> list[Any]:
    """An array as nested lists of such numbers."""
    if values.ndim == 0:
        return number(float(values), digits)  # type: ignore[return-value]
    return [numbers(one, digits) for one in values]


def _reason(runs: int) -> str:
    if runs == 0:
        return "nothing was counted"
    return ONE_RUN if runs == 1 else UNBOUNDED.format("runs")
