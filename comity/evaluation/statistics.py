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

`tests/evaluation/test_coverage.py` measures how often the truth is covered;
docs/explanation/measuring.md shows the table.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
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
    are left out.

    `bounds`: least and greatest value that the quantity can have; None: unknown; one of them may
    be infinite, and then the t interval is cut at the other. `over`: what the
    units inside a seed are called. `exact`: where more data could not change the value, why; then
    there is no interval, and this is the reason.

    Raises `ValueError` for values that are not finite, negative denominators, and values outside
    of the bounds.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    counted = [pairs for pairs in map(_as_pairs, seeds) if len(pairs)]
    if not counted:
        return None
    sums = np.array([pairs.sum(axis=0) for pairs in counted])
    n = round(float(sums[:, 1].sum()))
    if len(counted) > 1:
        units, over = np.stack([sums[:, 0] / sums[:, 1], np.ones(len(sums))], axis=1), SEEDS
    else:
        units = counted[0]
    mean = float(units[:, 0].sum() / units[:, 1].sum())
    if exact:
        return Estimate(mean, None, None, n, len(units), over, exact)
    groups = np.concatenate(counted)
    unseen = _unseen(groups[:, 0] / groups[:, 1], confidence)
    low, high, reason = _interval(units, mean, bounds, unseen, confidence)
    return Estimate(mean, low, high, n, len(units), over, reason.format(_one(over, len(units))))


def _interval(
    units: np.ndarray,
    mean: float,
    bounds: tuple[float, float] | None,
    unseen: float,
    confidence: float,
) -> tuple[float | None, float | None, str]:
    """Ends of the interval, or the reason why there is none. `units` `[k, 2]`."""
    values, weights = units[:, 0] / units[:, 1], units[:, 1]
    if bounds is not None:
        finite = [abs(end) for end in bounds if np.isfinite(end)]
        slack = 1e-6 * max(1.0, *finite)
        if values.min() < bounds[0] - slack or values.max() > bounds[1] + slack:
            raise ValueError(f"values lie outside of the bounds {bounds}")
    if len(units) == 1:
        return None, None, ONE_UNIT
    # Units of unequal weight are worth as many equal ones (Kish 1965, Survey Sampling, 11.7).
    k = float(weights.sum() ** 2 / (weights**2).sum())
    equal = float(np.ptp(values)) <= 1e-9 * max(1.0, float(np.abs(values).max()))
    # The linearized residuals of a ratio (Cochran 1977, Sampling Techniques, 6.4).
    residuals = (units[:, 0] - mean * weights) / weights.mean()
    error = float((residuals**2).sum()) / (len(units) * (len(units) - 1))
    spread = 0.0 if equal else _t(k - 1.0, confidence) ** 2 * error
    if bounds is None or not np.isfinite(bounds).all():
        if equal:
            return None, None, UNBOUNDED
        if not np.isfinite(spread):
            return None, None, LOPSIDED
        least, greatest = bounds or (-np.inf, np.inf)
        return max(mean - spread**0.5, least), min(mean + spread**0.5, greatest), ""
    span = bounds[1] - bounds[0]
    if span <= 0.0:
        return None, None, "only one value is possible"
    share = np.minimum(np.maximum((values - bounds[0]) / span, 0.0), 1.0)
    middle = min(max((mean - bounds[0]) / span, 0.0), 1.0)
    c = 0.0 if equal else spread / span**2 / max(middle * (1.0 - middle), 1e-12)
    near = float(((2 * share - 1) ** END_POWER * weights).sum() / weights.sum())
    wilson, binomial = _wilson(middle, c), _binomial(middle, k, confidence)
    lows = wilson[0], middle + near * (binomial[0] - middle), middle * (1.0 - unseen)
    highs = wilson[1], middle + near * (binomial[1] - middle), middle + (1.0 - middle) * unseen
    low, high = bounds[0] + span * min(lows), bounds[0] + span * max(highs)
    return min(low, mean), max(high, mean), ""


def _unseen(values: np.ndarray, confidence: float) -> float:
    """How far the mean may be off, as a share of the way to an end: see the module. `[group]`."""
    slack = 1e-9 * max(1.0, float(np.abs(values).max()))
    ordered = np.sort(values)
    steps = np.flatnonzero(ordered[1:] - ordered[:-1] > slack).tolist()
    ends = [-1, *steps, len(values) - 1]
    alike = max(end - start for start, end in pairwise(ends))
    tied = (alike - 1) / max(len(values) - 1, 1)  # One group is always like itself.
    return tied * (1.0 - ((1.0 - confidence) / 2.0) ** (1.0 / len(values)))


def _wilson(mean: float, c: float) -> tuple[float, float]:
    """All mu in [0, 1] with (mean - mu)^2 <= c mu (1 - mu)."""
    if not np.isfinite(c):
        return 0.0, 1.0
    center, root = 2 * mean + c, (c * c + 4 * c * mean * (1 - mean)) ** 0.5
    low, high = (center - root) / (2 * (1 + c)), (center + root) / (2 * (1 + c))
    return max(0.0, low), min(1.0, high)


def _binomial(mean: float, k: float, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of `mean * k` successes in `k` trials, whole or not."""
    tail, some, none = (1.0 - confidence) / 2.0, mean * k, (1.0 - mean) * k
    low = float(special.betaincinv(some, none + 1.0, tail)) if some > 0.0 else 0.0
    high = float(special.betaincinv(some + 1.0, none, 1.0 - tail)) if none > 0.0 else 1.0
    return low, high


def _t(freedom: float, confidence: float) -> float:
    """Student's two-sided quantile; infinite without freedom."""
    if freedom <= 0.0:
        return float("inf")
    return float(special.stdtrit(freedom, (1.0 + confidence) / 2.0))


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

    Units in which nothing was counted are left out.
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
    return array if least > 0 else array[array[:, 1] > 0]
