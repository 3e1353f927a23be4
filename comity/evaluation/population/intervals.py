"""Means over runs with their intervals, for many quantities at once.

The intervals are those of `comity.evaluation.statistics.means_over_seeds` with one value per run.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from comity.evaluation.statistics import CONFIDENCE, ONE_UNIT, UNBOUNDED, means_over_seeds

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
    values = np.moveaxis(np.asarray(values, dtype=np.float64), 0, -1)[..., None]
    counted = np.isfinite(values)
    found = means_over_seeds(
        np.where(counted, values, 0.0), counted.astype(np.float64), bounds, confidence
    )
    return Means(found.mean, found.low, found.high, found.units)


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
