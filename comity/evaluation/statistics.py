"""Means with confidence intervals: over training seeds, each of which weighs the same.

Decisions inside a match depend on each other, and all matches of one run share the policy that
its random seed led to. So what an interval is over is a whole *unit*:

- several seeds: a unit is a seed's own mean (a ratio's seeds are divided first, then averaged),
  and the interval speaks of other seeds;
- one seed: a unit is a group of matches on one environment (or a match, where there is only one
  group), and the interval speaks of this one trained policy only;
- one unit: there is no spread to see, and so no interval.

A quantity with a known range is put on the scale on which that is [0, 1]. Its interval is the
hull of three:

- Wilson's interval (1927, JASA 22, 209-212) with Student's quantile and the variance between
  units: all mu with (mean - mu)^2 <= c mu (1 - mu), c = t^2 s^2 / (k mean (1 - mean)), for k units
  with variance s^2 and k - 1 degrees of freedom. In the middle of the range this is Student's t
  interval; near an end it is longer on the inner side, because what is bounded is skewed there.
- The interval of Clopper and Pearson (1934, Biometrika 26, 404-413) for k trials of which
  k * mean succeeded, drawn toward the mean by the factor w: the mean of (2x - 1)^4 over the
  units x, which is 1 at the ends and 0 in the middle. Where seeds gather at an end, their spread
  says nothing: three at exactly 1 leave 29 to 100 %.
- Where many groups gave exactly one value, rarer ones may only not have been seen yet: whatever
  happens in a share p of all groups stays unseen in n of them with probability (1 - p)^n. So the
  mean may be off by p = 1 - 0.025^(1/n) of the way to each end, n being the groups of all seeds,
  times (m - 1)/(n - 1) where m of them gave the same value. Without this, equal seeds would have
  no width.

Without a known range it is Student's t interval.

Few seeds can be nearly equal by chance, most of all where they have few decisions. So with several
seeds the interval is also no shorter than that over the groups of all seeds, made in the same way
as the one inside a seed, with the groups of each seed weighing the same in sum.

`tests/evaluation/test_coverage.py` measures how often the truth is covered;
docs/explanation/measuring.md shows the table.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import special

CONFIDENCE = 0.95
END_POWER = 4
"""How fast the weight w falls from the ends of a range. The greatest even power with which three
seeds of every distribution in the simulation, those of two values among them, are covered."""

SEEDS = "seeds"
ONE_UNIT = "one {}: nothing shows how far another would be from it"
UNBOUNDED = "all {} gave the same value, and its range is not known"
ONE_VALUE = "only one value is possible"
LOPSIDED = "nearly everything was counted in one of the {}"


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval, or the reason why it has none."""

    mean: float
    low: float | None
    high: float | None
    """Ends of the interval; both None where there is none."""
    n: int
    """What the mean is over: the sum of the denominators (decisions, rounds), or the number of
    values where plain ones were given."""
    units: int
    """How many units the interval is over."""
    over: str
    """What they are: "seeds", or, inside one seed, what the caller calls them."""
    reason: str = ""
    """Why there is no interval; empty where there is one."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; numbers as they are."""
        return asdict(self)


def mean_over_seeds(
    seeds: Sequence[np.ndarray],
    bounds: tuple[float, float] | None = None,
    over: str = "groups of matches",
    exact: str = "",
    confidence: float = CONFIDENCE,
) -> Estimate | None:
    """Mean over seeds with its interval; None where nothing was counted.

    `seeds`: an array per seed. `[unit]`: one value per unit inside the seed. `[unit, 2]`: a
    numerator and a denominator per unit (cooperated, decided); a seed's value is the ratio of
    their sums, in which a unit with many decisions weighs more. Seeds in which nothing was counted
    are left out. A unit may add to the numerator alone (points that nobody was due).

    `bounds`: least and greatest value that the quantity can have; None: unknown; one of them may
    be infinite, and then the t interval is cut at the other. `over`: what the
    units inside a seed are called. `exact`: where more data could not change the value, why; then
    there is no interval, and this is the reason.

    Raises `ValueError` for values that are not finite, negative denominators, and values outside
    of the bounds.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    counted = [pairs for pairs in map(_as_pairs, seeds) if pairs[:, 1].any()]
    if not counted:
        return None
    pairs = np.zeros((2, len(counted), max(map(len, counted))))
    for seed, found in enumerate(counted):
        pairs[:, seed, : len(found)] = found.T
    means = means_over_seeds(pairs[0], pairs[1], bounds, confidence)
    over = SEEDS if len(counted) > 1 else over
    return _estimate(means, (), round(float(pairs[1].sum())), bounds, over, exact)


def means_over_units(
    tables: Sequence[np.ndarray],
    bounds: tuple[float, float] | None,
    over: str,
    exact: Sequence[str],
) -> list[Estimate | None]:
    """`mean_over_seeds([table], bounds, over, exact)` of each of many tables, at once."""
    pairs = [_as_pairs(table) for table in tables]
    padded = np.zeros((2, len(pairs), 1, max(map(len, pairs), default=0)))
    for place, found in enumerate(pairs):
        padded[:, place, 0, : len(found)] = found.T
    if not padded.size:
        return [None] * len(pairs)
    means, n = means_over_seeds(padded[0], padded[1], bounds), padded[1].sum(axis=(1, 2))
    return [
        _estimate(means, place, round(float(n[place])), bounds, over, exact[place])
        if n[place] > 0
        else None
        for place in range(len(pairs))
    ]


def _estimate(
    means: "Means", place: Any, n: int, bounds: tuple[float, float] | None, over: str, exact: str
) -> Estimate:
    """One of many means, or the reason why it has no interval."""
    mean, low, high = (float(end[place]) for end in (means.mean, means.low, means.high))
    units = int(means.units[place])
    if exact or np.isnan(low):
        reason = exact or _reason(units, bounds, bool(means.equal[place]))
        return Estimate(mean, None, None, n, units, over, reason.format(_one(over, units)))
    return Estimate(mean, low, high, n, units, over)


@dataclass(frozen=True)
class Means:
    """Many means over seeds with their intervals: arrays of one shape."""

    mean: np.ndarray
    """NaN where nothing was counted."""
    low: np.ndarray
    high: np.ndarray
    """Ends of the intervals; both NaN where there is none."""
    units: np.ndarray
    """int: units in which something was counted."""
    equal: np.ndarray
    """bool: all of them have the same value."""


def means_over_seeds(
    numerators: np.ndarray,
    denominators: np.ndarray,
    bounds: tuple[float, float] | None = None,
    confidence: float = CONFIDENCE,
) -> Means:
    """The means and intervals of `mean_over_seeds`, for many quantities at once.

    Both `[..., seed, unit]`; where both are 0, nothing was counted. With one seed the
    units inside it are the interval's, with several the seeds, also where only one counted
    anything. `bounds` and `confidence` as there.

    Raises `ValueError` for values outside of the bounds.
    """
    with np.errstate(all="ignore"):
        whole = denominators.sum(axis=-1)
        groups = np.where(denominators > 0, numerators / denominators, np.nan)
        # Each seed's groups weigh the same in sum, so that all of them have the mean over seeds.
        shares = np.where(whole > 0, 1.0 / whole, 0.0)[..., None]
        each = [(x * shares).reshape(*x.shape[:-2], -1) for x in (numerators, denominators)]
        unseen = _unseen(groups.reshape(each[0].shape), confidence)
        within = _intervals(each[0], each[1], unseen, bounds, confidence)
        if numerators.shape[-2] == 1:
            return within
        counted = (whole > 0).astype(np.float64)
        rates = np.where(whole > 0, numerators.sum(axis=-1) / whole, 0.0)
        found = _intervals(rates, counted, unseen, bounds, confidence)
        if numerators.shape[-1] == 1:
            return found
        low, high = np.fmin(found.low, within.low), np.fmax(found.high, within.high)
        low, high = (np.where(found.units < 2, np.nan, end) for end in (low, high))
        return Means(found.mean, low, high, found.units, found.equal)


def _intervals(
    totals: np.ndarray,
    weights: np.ndarray,
    unseen: np.ndarray,
    bounds: tuple[float, float] | None,
    confidence: float,
) -> Means:
    """Totals and weights of the units `[..., unit]`."""
    counted = weights > 0
    units, sums = (counted | (totals != 0)).sum(axis=-1), weights.sum(axis=-1)
    values = np.where(counted, totals / weights, np.nan)
    mean = totals.sum(axis=-1) / sums
    least = np.where(counted, values, np.inf).min(axis=-1)
    most = np.where(counted, values, -np.inf).max(axis=-1)
    if bounds is not None:
        slack = 1e-6 * max(1.0, *(abs(end) for end in bounds if np.isfinite(end)))
        if (values < bounds[0] - slack).any() or (values > bounds[1] + slack).any():
            raise ValueError(f"values lie outside of the bounds {bounds}")
    # Units of unequal weight are worth as many equal ones (Kish 1965, Survey Sampling, 11.7).
    k = sums**2 / (weights**2).sum(axis=-1)
    equal = most - least <= 1e-9 * np.maximum(1.0, np.maximum(np.abs(least), np.abs(most)))
    equal = equal & (units == counted.sum(axis=-1))
    # The linearized residuals of a ratio (Cochran 1977, Sampling Techniques, 6.4).
    residuals = (totals - mean[..., None] * weights) / (sums / units)[..., None]
    error = (residuals**2).sum(axis=-1) / (units * (units - 1.0))
    spread = np.where(equal, 0.0, _t(k - 1.0, confidence) ** 2 * error)
    if bounds is None or not np.isfinite(bounds).all():
        lower, upper = bounds or (-np.inf, np.inf)
        low, high = np.maximum(mean - spread**0.5, lower), np.minimum(mean + spread**0.5, upper)
        unknown = equal | ~np.isfinite(spread)
    else:
        low, high = _bounded(values, weights, mean, k, spread, unseen, bounds, confidence)
        unknown = np.full(mean.shape, bounds[1] <= bounds[0])
    unknown = unknown | (units < 2)
    low, high = (np.where(unknown, np.nan, end) for end in (low, high))
    return Means(mean, low, high, units, equal)


def _bounded(
    values: np.ndarray,
    weights: np.ndarray,
    mean: np.ndarray,
    k: np.ndarray,
    spread: np.ndarray,
    unseen: np.ndarray,
    bounds: tuple[float, float],
    confidence: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The hull of the three intervals."""
    span = bounds[1] - bounds[0]
    share = np.minimum(np.maximum((values - bounds[0]) / span, 0.0), 1.0)
    middle = np.minimum(np.maximum((mean - bounds[0]) / span, 0.0), 1.0)
    c = spread / span**2 / np.maximum(middle * (1.0 - middle), 1e-12)
    ends = np.where(weights > 0, (2 * share - 1) ** END_POWER * weights, 0.0)
    near = ends.sum(axis=-1) / weights.sum(axis=-1)
    wilson, binomial = _wilson(middle, c), _binomial(middle, k, confidence)
    lows = wilson[0], middle + near * (binomial[0] - middle), middle * (1.0 - unseen)
    highs = wilson[1], middle + near * (binomial[1] - middle), middle + (1.0 - middle) * unseen
    low = bounds[0] + span * np.minimum.reduce(lows)
    high = bounds[0] + span * np.maximum.reduce(highs)
    return np.minimum(low, mean), np.maximum(high, mean)


def _unseen(values: np.ndarray, confidence: float) -> np.ndarray:
    """How far the mean may be off, as a share of the way to an end: see the module.

    `values` `[..., group]`; NaN where nothing was counted.
    """
    number = np.isfinite(values).sum(axis=-1)
    size = np.where(np.isfinite(values), np.abs(values), 0.0).max(axis=-1)
    slack = 1e-9 * np.maximum(1.0, size)
    ordered = np.sort(values, axis=-1)  # NaN comes last, and is like nothing.
    place = np.arange(values.shape[-1])
    begins = np.zeros(values.shape, dtype=np.intp)
    begins[..., 1:] = ~(ordered[..., 1:] - ordered[..., :-1] <= slack[..., None]) * place[1:]
    alike = (place - np.maximum.accumulate(begins, axis=-1)).max(axis=-1) + 1
    tied = (alike - 1) / np.maximum(number - 1, 1)  # One group is always like itself.
    return np.asarray(tied * (1.0 - ((1.0 - confidence) / 2.0) ** (1.0 / np.maximum(number, 1))))


def _wilson(mean: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All mu in [0, 1] with (mean - mu)^2 <= c mu (1 - mu)."""
    center, root = 2 * mean + c, (c * c + 4 * c * mean * (1 - mean)) ** 0.5
    low, high = (center - root) / (2 * (1 + c)), (center + root) / (2 * (1 + c))
    known = np.isfinite(c)
    return np.where(known, np.maximum(low, 0.0), 0.0), np.where(known, np.minimum(high, 1.0), 1.0)


def _binomial(mean: np.ndarray, k: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson's interval of `mean * k` successes in `k` trials, whole or not."""
    tail, some, none = (1.0 - confidence) / 2.0, mean * k, (1.0 - mean) * k
    low = np.where(some > 0.0, special.betaincinv(some, none + 1.0, tail), 0.0)
    high = np.where(none > 0.0, special.betaincinv(some + 1.0, none, 1.0 - tail), 1.0)
    return low, high


def _t(freedom: np.ndarray, confidence: float) -> np.ndarray:
    """Student's two-sided quantile; infinite without freedom."""
    quantile = special.stdtrit(freedom, (1.0 + confidence) / 2.0)
    return np.where(freedom > 0.0, quantile, np.inf)


def _reason(units: int, bounds: tuple[float, float] | None, equal: bool) -> str:
    """Why there is no interval."""
    if units == 1:
        return ONE_UNIT
    if bounds is not None and np.isfinite(bounds).all():
        return ONE_VALUE
    return UNBOUNDED if equal else LOPSIDED


def _one(over: str, units: int) -> str:
    """The units' name, in the singular where there is one."""
    if units > 1:
        return over
    head, of, rest = over.partition(" of ")
    for plural, singular in (("matches", "match"), ("s", "")):
        if head.endswith(plural):
            head = head.removesuffix(plural) + singular
            break
    return head + of + rest


def _as_pairs(values: np.ndarray) -> np.ndarray:
    """float64 `[unit, 2]`: numerator and denominator (1 where plain values were given).

    Units in which both are 0 are left out: nothing was counted in them.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 2))
    if array.ndim == 1:
        plain, array = array, np.ones((len(array), 2))
        array[:, 0] = plain
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"expected [unit] or [unit, 2], not shape {array.shape}")
    least = array[:, 1].min()
    if not np.isfinite(array).all() or least < 0:
        raise ValueError("values must be finite and denominators must not be negative")
    return array if least > 0 else array[array.any(axis=1)]
