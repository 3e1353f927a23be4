"""Paired comparison of agents under common random numbers.

Two agents are compared on the same environment seeds against the same opponents; the unit is the
difference of their values on one environment seed. What both share (deals, lengths, trembles)
cancels.

The p-value is that of a sign-flip permutation test (Fisher 1935, The Design of Experiments, section
21): if the agents were interchangeable on every seed, each difference would be as likely with the
other sign, and the test asks how often flipped signs give a mean at least as far from 0. Exact by
enumeration up to `MAX_EXACT` differences other than 0, above it with random flips, of which the
observed signs are one: p = (1 + hits) / (1 + flips) (Phipson and Smyth 2010, Statistical
Applications in Genetics and Molecular Biology 9, 39). Differences of 0 tell nothing and change no
p-value.

With n such differences no p-value is below 2 / 2^n: five of them never reach 0.05. Then the verdict
is "too few to say", whatever the mean. Over many comparisons p-values are corrected by Holm's
method (1979, Scandinavian Journal of Statistics 6, 65-70), which keeps the probability of any false
claim below alpha.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from comity.errors import ComityError
from comity.evaluation.statistics import Estimate, mean_over_seeds
from comity.games.randomness import COMPARISON, generator

ALPHA = 0.05
"""Probability of a false claim."""

MAX_EXACT = 16
"""Most differences whose 2^n signs are enumerated."""

FLIPS = 100_000
"""Random sign flips beyond that."""

HIGHER, LOWER, OPEN, TOO_FEW = (
    "higher",
    "lower",
    "no difference shown",
    "too few to say",
)
"""Verdicts on the first agent, compared with the second."""


@dataclass(frozen=True)
class SignFlipTest:
    """A two-sided p-value and the least one that these data could have given."""

    p: float
    least: float
    """The p-value if all differences had the same sign: 2 / 2^n."""
    informative: int
    """Differences other than 0."""
    exact: bool


@dataclass(frozen=True)
class Comparison:
    """Two agents compared on the same environment seeds."""

    first: str
    second: str
    difference: Estimate
    """Mean of first minus second over environment seeds, with its interval (not corrected for
    other comparisons)."""
    test: SignFlipTest
    adjusted: float
    """p-value after Holm's correction; that of the test for a single comparison."""
    verdict: str
    """`HIGHER`, `LOWER`, `OPEN` or `TOO_FEW`."""
    comparisons: int = 1
    """How many comparisons the p-value is corrected for."""

    def sentence(self) -> str:
        """The verdict in words."""
        corrected = (
            f", corrected for {self.comparisons} comparisons (Holm)" if self.comparisons > 1 else ""
        )
        seeds = f"{self.difference.n} environment seeds"
        if self.verdict == TOO_FEW:
            return (
                f"{self.first} and {self.second}: too few to say ({seeds}, of which "
                f"{self.test.informative} differ{corrected})"
            )
        said = {
            HIGHER: f"{self.first} is higher than {self.second}",
            LOWER: f"{self.first} is lower than {self.second}",
            OPEN: f"{self.first} and {self.second}: no difference shown",
        }[self.verdict]
        return f"{said} (p = {self.adjusted:.3g}{corrected}, {seeds})"


def sign_flip_test(differences: np.ndarray, flips: int = FLIPS) -> SignFlipTest:
    """Tests whether `differences` `[pair]` are symmetric around 0; see the module.

    The same differences always give the same p-value (random flips are seeded).
    """
    found = np.asarray(differences, dtype=np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ComityError("differences must be a list of finite numbers")
    size = np.abs(found[found != 0])
    n = len(size)
    if n == 0:
        return SignFlipTest(1.0, 1.0, 0, True)
    size = size / size.max()
    # Ties in exact arithmetic must not be decided by rounding.
    observed = abs(float((found[found != 0] / np.abs(found).max()).sum())) - 1e-9
    if n <= MAX_EXACT:
        sums = np.zeros(1)
        for one in size:
            sums = np.concatenate([sums + one, sums - one])
        return SignFlipTest(float((np.abs(sums) >= observed).mean()), 2.0 / 2**n, n, True)
    rng = generator(n, COMPARISON)
    hits = 0
    block = max(1, 2_000_000 // n)
    for start in range(0, flips, block):
        signs = rng.integers(0, 2, size=(min(block, flips - start), n), dtype=np.int8) * 2 - 1
        hits += int((np.abs(signs @ size) >= observed).sum())
    return SignFlipTest((1 + hits) / (1 + flips), max(2.0 / 2**n, 1 / (1 + flips)), n, False)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the given order: max over smaller ones of (m - rank) p, at most 1."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def compare(
    first: str,
    second: str,
    differences: np.ndarray,
    bounds: tuple[float, float] | None = None,
    alpha: float = ALPHA,
    estimated: Estimate | None = None,
) -> Comparison:
    """Compares two agents by `differences` `[seed]`; `bounds`: the least and the largest possible.

    `estimated`: their mean, if it is known.
    Raises `ComityError` without any common environment seed.
    """
    test = sign_flip_test(differences)
    estimate = estimated or mean_over_seeds([np.asarray(differences)], bounds, "environment seeds")
    if estimate is None:
        raise ComityError(
            f"{first} and {second} have no environment seed in common, so they cannot be compared "
            "under common random numbers"
        )
    verdict = _verdict(estimate.mean, test.p, test.least, alpha)
    return Comparison(first, second, estimate, test, test.p, verdict)


def corrected(comparisons: Sequence[Comparison], alpha: float = ALPHA) -> list[Comparison]:
    """The comparisons with p-values and verdicts corrected for their number by Holm's method.

    "Too few to say" is what even the clearest result could not have made significant, given the
    other comparisons.
    """
    p_values = [one.test.p for one in comparisons]
    adjusted = holm(p_values)
    found = []
    for i, one in enumerate(comparisons):
        clearest = holm([*p_values[:i], one.test.least, *p_values[i + 1 :]])[i]
        verdict = _verdict(one.difference.mean, adjusted[i], clearest, alpha)
        found.append(
            replace(one, adjusted=adjusted[i], verdict=verdict, comparisons=len(comparisons))
        )
    return found


def _verdict(mean: float, p: float, least: float, alpha: float) -> str:
    if least > alpha:
        return TOO_FEW
    if p > alpha:
        return OPEN
    return HIGHER if mean > 0 else LOWER
