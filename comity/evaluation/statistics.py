"""Means with confidence intervals, by the bootstrap over whole runs and whole matches.

Decisions inside a match depend on each other, and matches of one run share the policy that
its random seed led to. Resampling decisions as if they were independent would give
intervals that are far too narrow. So the levels are resampled from the top: first seeds,
then matches inside each drawn seed (Davison and Hinkley, "Bootstrap Methods and their
Application", 1997, section 3.8; also Saravanan et al., 2020, arXiv 2007.07797). A match is
never split.

The intervals are percentile intervals. With a handful of seeds they are still somewhat too
narrow: the spread between 3 seeds says little about the spread between all seeds.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float
    n: int
    """What the mean is over: the sum of the denominators (decisions, rounds), or the number
    of matches where each match gave one plain value."""

    def as_dict(self) -> dict[str, float | int]:
        """`{"mean", "low", "high", "n"}`, ready for JSON."""
        return asdict(self)


def bootstrap_mean(
    groups: Sequence[np.ndarray],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """Mean over seeds and matches, with a hierarchical bootstrap interval.

    `groups`: one array per seed. `[match]`: one value per match. `[match, 2]`: a numerator
    and a denominator per match (cooperated, decided); the mean is then the ratio of the sums,
    in which a match with many decisions weighs more and one with none weighs nothing. The
    mean of per-match ratios would be biased where the denominators vary.

    Every seed weighs the same, however many matches it has: sums are taken over the seeds'
    averages per match. Where all seeds have equally many matches this is the pooled ratio.

    One seed only: the ordinary bootstrap over its matches. One match only, or all equal: the
    data show no spread, and `low == mean == high`.

    Resamples in which nothing was counted (denominator 0) are left out of the interval.
    None where nothing was counted at all. The same arguments give the same numbers.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    pairs = [pair for pair in map(_as_pairs, groups) if len(pair)]
    total = sum((pair.sum(axis=0) for pair in pairs), start=np.zeros(2))
    if total[1] <= 0.0:
        return None

    # Ragged seeds lie side by side in one array; `first` is where each begins.
    sizes = np.array([len(pair) for pair in pairs])
    first = np.cumsum(sizes) - sizes
    flat = np.concatenate([pair / len(pair) for pair in pairs])
    numerator, denominator = flat.sum(axis=0)

    random = np.random.default_rng(seed)
    seeds, longest = len(pairs), int(sizes.max())
    drawn_seed = random.integers(0, seeds, size=(resamples, seeds, 1))
    size = sizes[drawn_seed]
    drawn = first[drawn_seed] + (random.random((resamples, seeds, longest)) * size).astype(np.intp)
    if sizes.min() < longest:
        # A shorter seed needs fewer draws; the rest point to a row of zeros.
        drawn = np.where(np.arange(longest) < size, drawn, len(flat))
    padded = np.vstack([flat, np.zeros(2)])
    sums = np.stack([padded[:, side][drawn].sum(axis=(1, 2)) for side in (0, 1)])
    sums = sums[:, sums[1] > 0.0]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(sums[0] / sums[1], (tail, 1.0 - tail))
    mean = float(numerator / denominator)
    # Rounding (all values equal) must not leave the mean outside: error bars have lengths.
    return Estimate(mean, min(float(low), mean), max(float(high), mean), n=round(total[1]))


def _as_pairs(values: np.ndarray) -> np.ndarray:
    """float64 `[match, 2]`: numerator and denominator (1 where plain values were given)."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 2))
    if array.ndim == 1:
        array = np.stack([array, np.ones_like(array)], axis=1)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"expected [match] or [match, 2], not shape {array.shape}")
    if not np.isfinite(array).all() or (array[:, 1] < 0).any():
        raise ValueError("values must be finite and denominators must not be negative")
    return array
