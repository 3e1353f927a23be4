"""How often the intervals hold the truth: a simulation, and its table in the docs.

`python -m tests.evaluation.test_coverage` prints the table for docs/explanation/measuring.md.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from comity.evaluation.statistics import means_over_seeds

DOC = Path(__file__).parents[2] / "docs/explanation/measuring.md"
TRIALS = 2000
"""With three seeds and with one; half as many with more."""
SHARE = (0.0, 1.0)

Draw = Callable[[np.random.Generator, int, int], np.ndarray]
"""Data of T trials with k seeds each: numerators and denominators, `[2, T, k, unit]`."""


def groups(
    random: np.random.Generator, truths: np.ndarray, number: int = 8, decisions: int = 20
) -> np.ndarray:
    """Seeds with these true shares `[T, k]`: `number` groups of `decisions` each."""
    shares = np.clip(truths, 0.0, 1.0)[..., None]
    drawn = random.binomial(decisions, shares, (*truths.shape, number))
    return np.stack([drawn, np.full(drawn.shape, decisions)]).astype(float)


def plain(values: np.ndarray) -> np.ndarray:
    """Values that are no ratios."""
    return np.stack([values, np.ones(values.shape)])


def payoffs(between: float) -> Draw:
    """Payoffs without a known range: deviation 1 inside a seed, `between` between seeds."""

    def drawn(random: np.random.Generator, trials: int, k: int) -> np.ndarray:
        means = random.normal(0.0, between, (trials, k, 1))
        return plain(random.normal(means, 1.0, (trials, k, 8)))

    return drawn


def normal(mean: float, between: float) -> Draw:
    return lambda random, *shape: groups(random, random.normal(mean, between, shape))


def beta(a: float, b: float) -> Draw:
    return lambda random, *shape: groups(random, random.beta(a, b, shape))


def two_points(often: float, high: float, low: float) -> Draw:
    """A share `often` of the seeds comes to `high`, the others to `low`."""
    return lambda random, *shape: groups(random, np.where(random.random(shape) < often, high, low))


def pure(p: float) -> Draw:
    """Every seed does always the same thing: 1 with probability p, else 0."""
    return lambda random, *shape: plain(
        np.repeat(random.random((*shape, 1)) < p, 8, axis=-1).astype(float)
    )


def rare(p: float, number: int, decisions: int = 20) -> Draw:
    return lambda random, *shape: groups(random, np.full(shape, p), number, decisions)


def ratio(a: float, b: float) -> Draw:
    """Shares of the decisions that a policy has in some state: few, many or none in a group."""

    def drawn(random: np.random.Generator, *shape: int) -> np.ndarray:
        counted = random.negative_binomial(1, 0.2, (*shape, 8))
        counted[..., 0] += 1
        return np.stack([random.binomial(counted, random.beta(a, b, (*shape, 1))), counted]) * 1.0

    return drawn


def lengths(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Payoff a round where lengths differ from match to match and from seed to seed.

    A seed's payoff a round is normal around 2; how long its matches are has nothing to do with it.
    """
    means = random.normal(2.0, 0.3, (*shape, 1))
    rounds = random.geometric(random.choice([0.5, 0.02], (*shape, 1)), (*shape, 8))
    return np.stack([random.normal(means, 1.0 / np.sqrt(rounds)) * rounds, rounds])


def one_normal(number: int) -> Draw:
    return lambda random, *shape: plain(random.normal(0.0, 1.0, (*shape, number)))


def one_varying(p: float, number: int, mean: float) -> Draw:
    """One seed's share in groups with random numbers of decisions."""

    def drawn(random: np.random.Generator, *shape: int) -> np.ndarray:
        counted = 1 + random.negative_binomial(2, 2 / (2 + mean), (*shape, number))
        return np.stack([random.binomial(counted, p), counted]) * 1.0

    return drawn


def skewed(deviation: float) -> Draw:
    """Seeds' means that are exponential (0), or lognormal with this deviation of the logarithm."""

    def drawn(random: np.random.Generator, *shape: int) -> np.ndarray:
        means = np.exp(random.normal(0.0, deviation, (*shape, 1)))
        return plain(means if deviation else random.exponential(1.0, (*shape, 1)))

    return drawn


def clipped(mean: float, between: float) -> float:
    """Mean of a normal value that is cut at 0 and 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    values = np.clip(mean + between * nodes, 0.0, 1.0)
    return float((weights * values).sum() / math.sqrt(2 * math.pi))


Case = tuple[str, Draw, float, tuple[float, float] | None]

SEVERAL: list[Case] = [
    *((f"payoffs, deviation between seeds {s}, inside 1", payoffs(s), 0.0, None)
      for s in (0, 0.3, 1, 3)),
    *((f"shares, normal around {m}, deviation {s}", normal(m, s), clipped(m, s), SHARE)
      for m, s in ((0.5, 0), (0.5, 0.05), (0.5, 0.1), (0.5, 0.2), (0.5, 0.3),
                   (0.1, 0.02), (0.1, 0.05), (0.05, 0.05), (0.9, 0.05))),
    *((f"shares, Beta({a}, {b})", beta(a, b), a / (a + b), SHARE)
      for a, b in ((2, 2), (1, 3), (1, 9), (0.5, 0.5), (0.5, 4.5), (0.3, 0.3), (0.3, 0.7),
                   (0.2, 0.8), (0.2, 3.8), (0.1, 0.1), (0.1, 0.9))),
    *((f"every seed always 0 or always 1, {p} always 1", pure(p), p, SHARE)
      for p in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9)),
    *((f"{often} of the seeds at {h}, the others at {low}", two_points(often, h, low),
       often * h + (1 - often) * low, SHARE)
      for often, h, low in ((0.9, 0.95, 0.1), (0.8, 0.95, 0.1), (0.7, 0.9, 0.2), (0.8, 0.99, 0.5))),
    *((f"rare: {p} of {n} groups of {d}", rare(p, n, d), p, SHARE)
      for p, n, d in ((0.01, 8, 1), (0.01, 8, 5), (0.01, 8, 20), (0.02, 8, 5), (0.05, 8, 1),
                      (0.05, 8, 5))),
    *((f"tiny: {p} of {n} groups of {d}", rare(p, n, d), p, SHARE)
      for p, n, d in ((0.5, 1, 1), (0.5, 1, 2), (0.3, 2, 1), (0.2, 1, 3))),
    *((f"few and varying decisions, Beta({a}, {b})", ratio(a, b), a / (a + b), SHARE)
      for a, b in ((5, 5), (1, 4), (0.3, 0.3))),
    ("payoff a round, lengths from 1 to hundreds", lengths, 2.0, None),
]  # fmt: skip
"""With several seeds."""

SINGLE: list[Case] = [
    *((f"payoffs of {n} groups", one_normal(n), 0.0, None) for n in (2, 4, 8)),
    *((f"a share of {p} in {n} groups of 20", rare(p, n), p, SHARE)
      for p, n in ((0.5, 4), (0.1, 4), (0.01, 4), (0.5, 2), (0.9, 8))),
    *((f"a share of {p} in {n} matches of one decision", rare(p, n, 1), p, SHARE)
      for p, n in ((0.5, 2), (0.5, 3), (0.2, 4), (0.9, 8), (0.01, 48), (0.0035, 48), (0.5, 48))),
    *((f"a share of {p} in {n} groups with varying decisions, {m} on average",
       one_varying(p, n, m), p, SHARE)
      for p, n, m in ((0.5, 4, 5), (0.2, 4, 5), (0.5, 8, 5), (0.05, 8, 20), (0.5, 2, 3))),
]  # fmt: skip
"""With one seed."""


LIMITS: list[Case] = [
    *((f"{often} of the seeds at {h}, the others at {low}", two_points(often, h, low),
       often * h + (1 - often) * low, SHARE)
      for often, h, low in ((0.8, 0.2, 0.95), (0.9, 0.35, 0.95), (0.7, 0.5, 0.95))),
    ("quantity without a known range, exponential between seeds", skewed(0.0), 1.0, None),
    ("quantity without a known range, lognormal between seeds", skewed(1.0), math.exp(0.5), None),
]  # fmt: skip
"""With several seeds, of which few show what the rare ones do: the docs say that these are not
covered."""


def coverage(case: Case, k: int) -> tuple[float, float]:
    """Share of the trials whose interval holds the truth, and the interval's mean length."""
    name, draw, truth, bounds = case
    random = np.random.default_rng([k, *name.encode()])
    found = means_over_seeds(*draw(random, TRIALS if k <= 3 else TRIALS // 2, k), bounds)
    assert (found.low < found.high).all(), f"no width: {name}"
    covered = (found.low - 1e-9 <= truth) & (truth <= found.high + 1e-9)
    return float(covered.mean()), float((found.high - found.low).mean())


def table(cases: Sequence[Case], numbers: Sequence[int], heads: Sequence[str]) -> list[str]:
    """Markdown: a row per case, a column per number of seeds."""
    lines = ["| data | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for case in cases:
        cells = [coverage(case, k) for k in numbers]
        shown = [f"{100 * share:.1f} % ({length:.2f})" for share, length in cells]
        lines.append(f"| {case[0]} | " + " | ".join(shown) + " |")
    return lines


def section() -> str:
    """What the docs show: share of the trials that were covered, and the mean length."""
    several = table(SEVERAL, (3, 5, 10), ("3 seeds", "5 seeds", "10 seeds"))
    single = table(SINGLE, (1,), ("one seed",))
    return "\n".join([*several, "", *single])


@cache
def limits() -> str:
    """What the docs show of what few seeds cannot tell."""
    return "\n".join(table(LIMITS, (3, 5, 10), ("3 seeds", "5 seeds", "10 seeds")))


@pytest.fixture(scope="module")
def found() -> str:
    return section()


def rows(text: str) -> dict[str, list[float]]:
    """Coverage in percent, by data."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and "%" in line]
    cells = [line.strip("| ").split(" | ") for line in lines]
    return {name: [float(cell.split(" %")[0]) for cell in rest] for name, *rest in cells}


def test_three_seeds_and_one_seed_cover_the_truth(found: str) -> None:
    """At least 93 %; the share of 2,000 trials has a deviation of half a point."""
    covered = rows(found)
    assert len(covered) == len(SEVERAL) + len(SINGLE)
    assert {name: share[0] for name, share in covered.items() if share[0] < 93.0} == {}


def test_more_seeds_cover_no_less_than_t_intervals_promise(found: str) -> None:
    """Five and ten seeds: nothing below 93 % but seeds of two values far from the ends."""
    low = {name for name, share in rows(found).items() if min(share) < 93.0}
    assert low <= {case[0] for case in SEVERAL if "of the seeds at" in case[0]}


@pytest.mark.parametrize("k, number", [(2, 2), (2, 4), (2, 6), (3, 2), (3, 4), (5, 3), (7, 2)])
def test_seeds_of_few_decisions_cover_the_truth(k: int, number: int) -> None:
    """The exact share, for every p: seeds of few matches of one decision are often equal."""
    counts = np.array(list(itertools.product(range(number + 1), repeat=k)))
    answers = (np.arange(number) < counts[..., None]) * 1.0
    found = means_over_seeds(answers, np.ones_like(answers), SHARE)
    for p in np.arange(0.005, 0.5, 0.01):
        chances = stats.binom.pmf(counts, number, p).prod(axis=1)
        covered = (found.low - 1e-9 <= p) & (p <= found.high + 1e-9)
        assert chances[covered].sum() >= 0.95, p


def test_what_few_seeds_cannot_tell_is_said_to_be_so() -> None:
    """No row stands among the limits that is covered."""
    assert all(min(shares) < 93.0 for shares in rows(limits()).values())


def test_the_docs_show_this_simulation(found: str) -> None:
    """To the point; another numpy may draw other numbers."""
    shown = rows(DOC.read_text(encoding="utf-8").split("## Coverage of the intervals")[1])
    measured = {**rows(found), **rows(limits())}
    assert list(shown) == list(measured), "python -m tests.evaluation.test_coverage writes it"
    for name, shares in measured.items():
        assert shown[name] == pytest.approx(shares, abs=2.5), name


if __name__ == "__main__":
    print(section(), limits(), sep="\n\n")
