"""Distributions of quantities: the units of each item.

Each can list its outcomes exactly (`outcomes`) and sample from them (`draw`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement, pairwise, product
from math import factorial, prod
from typing import Protocol

import numpy as np

from comity.errors import ComityError

Stock = tuple[int, ...]

MAX_OUTCOMES = 4_000_000
"""Distributions with more outcomes are not listed."""

TOTALS = (5, 6, 7)
"""Total units of all items in Deal or No Deal."""


class Quantities(Protocol):
    """A distribution of stocks; implementations are frozen dataclasses."""

    @property
    def kinds(self) -> int:
        """Number of items."""
        ...

    @property
    def most(self) -> Stock:
        """Maximal units of each item, `[item]`."""
        ...

    def draw(self, rng: np.random.Generator) -> Stock:
        """Units of each item, `[item]`."""
        ...

    def outcomes(self) -> tuple[np.ndarray, np.ndarray]:
        """All stocks int `[K, items]` and their probabilities `[K]`."""
        ...


@dataclass(frozen=True)
class FixedQuantities:
    """The same stock in every round."""

    kinds: int
    units: int | Sequence[int] = 10
    """Per item, or one number for all items."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", per_item("stock", self.units, self.kinds))
        positive("stock", self.most)

    @property
    def most(self) -> Stock:
        """The stock."""
        return tuple(self.units)  # type: ignore[arg-type]

    def draw(self, rng: np.random.Generator) -> Stock:
        """The stock."""
        return self.most

    def outcomes(self) -> tuple[np.ndarray, np.ndarray]:
        """One."""
        return np.array([self.most]), np.ones(1)


@dataclass(frozen=True)
class RandomQuantities:
    """Uniform whole numbers from low to high, item by item."""

    kinds: int
    low: int | Sequence[int] = 1
    high: int | Sequence[int] = 10
    """Inclusive bounds, per item or one number for all items."""
    even: bool = False
    """Even numbers only, so that every item can be divided in half."""

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            object.__setattr__(self, name, per_item(name, getattr(self, name), self.kinds))
        positive("low", tuple(self.low))  # type: ignore[arg-type]
        for number, choice in enumerate(self._choices()):
            if not choice:
                what = "even numbers" if self.even else "numbers"
                raise ComityError(f"low and high leave no {what} for item {number + 1}")

    def _choices(self) -> list[range]:
        bounds = zip(self.low, self.high, strict=True)  # type: ignore[arg-type]
        if self.even:
            return [range(low + low % 2, high + 1, 2) for low, high in bounds]
        return [range(low, high + 1) for low, high in bounds]

    @property
    def most(self) -> Stock:
        """The largest number of each item."""
        return tuple(choice[-1] for choice in self._choices())

    def draw(self, rng: np.random.Generator) -> Stock:
        """Drawn item by item."""
        return tuple(choice[int(rng.integers(len(choice)))] for choice in self._choices())

    def outcomes(self) -> tuple[np.ndarray, np.ndarray]:
        """Equally likely."""
        choices = self._choices()
        count = listable(prod(map(len, choices)))
        return np.array(list(product(*choices))), np.full(count, 1 / count)


@dataclass(frozen=True)
class CutQuantities:
    """A uniform total, divided by sorted uniform cuts; an item may have 0 units.

    The cuts are independent and uniform on 0..total; the quantities are their differences (Deal
    or No Deal in the studies of iterated negotiation).
    """

    kinds: int
    totals: tuple[int, ...] = TOTALS

    def __post_init__(self) -> None:
        check_totals(self.totals, 1)

    @property
    def most(self) -> Stock:
        """The largest total, of every item."""
        return (max(self.totals),) * self.kinds

    def draw(self, rng: np.random.Generator) -> Stock:
        """The total, then the cuts."""
        total = self.totals[int(rng.integers(len(self.totals)))]
        cuts = sorted(int(c) for c in rng.integers(0, total + 1, size=self.kinds - 1))
        return _between(cuts, total)

    def outcomes(self) -> tuple[np.ndarray, np.ndarray]:
        """Weighted by the number of cuts that give them."""
        stocks, weights = [], []
        for total in self.totals:
            parts, ways = cut_parts(total, self.kinds)
            stocks.append(parts)
            weights.append(ways / ways.sum() / len(self.totals))
        return np.concatenate(stocks), np.concatenate(weights)


@dataclass(frozen=True)
class WholeQuantities:
    """A uniform total, then a uniform division with at least one unit of every item.

    The stocks of Deal or No Deal with `classic` values (arXiv 1706.05125).
    """

    kinds: int
    totals: tuple[int, ...] = TOTALS

    def __post_init__(self) -> None:
        check_totals(self.totals, self.kinds)

    @property
    def most(self) -> Stock:
        """The largest total with one unit of every other item."""
        return (max(self.totals) - self.kinds + 1,) * self.kinds

    def _divisions(self, total: int) -> np.ndarray:
        return cut_parts(total - self.kinds, self.kinds)[0] + 1

    def draw(self, rng: np.random.Generator) -> Stock:
        """The total first."""
        divisions = self._divisions(self.totals[int(rng.integers(len(self.totals)))])
        return tuple(int(q) for q in divisions[int(rng.integers(len(divisions)))])

    def outcomes(self) -> tuple[np.ndarray, np.ndarray]:
        """All totals equally likely."""
        divisions = [self._divisions(total) for total in self.totals]
        weights = [np.full(len(d), 1 / len(d) / len(divisions)) for d in divisions]
        return np.concatenate(divisions), np.concatenate(weights)


QUANTITIES: dict[str, Callable[..., Quantities]] = {
    "fixed": FixedQuantities,
    "random": RandomQuantities,
    "cut": CutQuantities,
    "whole": WholeQuantities,
}
"""Every distribution of quantities by name."""


@lru_cache(maxsize=64)
def cut_parts(total: int, kinds: int) -> tuple[np.ndarray, np.ndarray]:
    """All divisions of a total int `[K, kinds]`, zeros allowed, and the number of cuts of each."""
    parts, ways = [], []
    for cuts in combinations_with_replacement(range(total + 1), kinds - 1):
        parts.append(_between(list(cuts), total))
        orders = factorial(kinds - 1) // prod(factorial(cuts.count(c)) for c in set(cuts))
        ways.append(orders)
    listable(len(parts))
    return np.array(parts), np.array(ways)


def _between(cuts: list[int], total: int) -> Stock:
    edges = [0, *cuts, total]
    return tuple(after - before for before, after in pairwise(edges))


def listable(count: int) -> int:
    """`count`; raises `ComityError` above `MAX_OUTCOMES`."""
    if count > MAX_OUTCOMES:
        raise ComityError(f"{count} outcomes are too many to list (at most {MAX_OUTCOMES})")
    return count


def per_item(name: str, numbers: int | Sequence[int], kinds: int) -> tuple[int, ...]:
    """One whole number for each item."""
    given = (numbers,) * kinds if isinstance(numbers, int) else tuple(numbers)
    if len(given) != kinds:
        raise ComityError(f"{name} has {len(given)} numbers for {kinds} items")
    if any(isinstance(n, bool) or not isinstance(n, int) for n in given):
        raise ComityError(f"{name} must be whole numbers, not {list(given)}")
    return given


def positive(name: str, numbers: tuple[int, ...]) -> None:
    """`ComityError` unless there is at least one unit of everything."""
    if min(numbers) < 1:
        raise ComityError(f"{name} must be at least 1 for every item, not {list(numbers)}")


def check_totals(totals: tuple[int, ...], least: int) -> None:
    """`ComityError` unless the totals differ and are large enough."""
    if not totals or len(set(totals)) != len(totals) or min(totals) < least:
        raise ComityError(
            f"totals must be different whole numbers of at least {least}, not {list(totals)}"
        )
