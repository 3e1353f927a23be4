"""Distributions of values: points per unit of each item for each seat.

Each can list its outcomes exactly (`outcomes`) and sample from them (`draw`). Both get the stock,
on which only `classic` values depend. This module has the independent ones; values that divide a
total are in `comity.games.split.divided_values`, game types with constraints in
`comity.games.split.game_types`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import isfinite, perm, prod
from typing import ClassVar, Final, Protocol

import numpy as np

from comity.errors import ComityError
from comity.games.split.quantities import Stock, listable, per_item

Values = tuple[tuple[float, ...], ...]
"""`[seat][item]`."""

KINDS: Final = {
    "hands": "the seat whose hand of rock-paper-scissors wins values a unit more",
    "10-1-exclusive": "every item is worth 10 to one seat, by a fair coin, and 1 to the other",
    "10-1-ties": "1 or 10, independently and equally likely",
    "1-to-20": "whole numbers from 1 to 20, independently and equally likely",
    "uniform": "whole numbers between bounds, independently and equally likely",
    "distinct": "whole numbers between bounds, no two items worth the same to a seat",
    "bimodal": "whole numbers from a low or a high range, independently",
    "cut": "a seat's values sum to a total; every item is worth something to someone, some to both",
    "classic": "all the stock is worth the same total to every seat; else as `cut`",
    "fixed": "the same in every match",
}
"""Every kind of values (`InstanceDistribution.kind`)."""


class Valuations(Protocol):
    """A distribution of values; implementations are frozen dataclasses."""

    @property
    def kinds(self) -> int:
        """Number of items."""
        ...

    @property
    def seats(self) -> int: ...

    @property
    def kind(self) -> str:
        """A name in `KINDS`."""
        ...

    @property
    def needs_stock(self) -> bool:
        """The values depend on the stock."""
        ...

    @property
    def value_range(self) -> tuple[float, float]:
        """Minimal and maximal value per unit."""
        ...

    def draw(self, rng: np.random.Generator, stock: Stock) -> Values:
        """Values `[seat][item]`."""
        ...

    def outcomes(self, stock: Stock) -> tuple[np.ndarray, np.ndarray]:
        """All values `[K, seats, items]` and their probabilities `[K]`."""
        ...


@dataclass(frozen=True)
class UniformValues:
    """Uniform integers from low to high, independently by seat and item."""

    kinds: int
    low: int | Sequence[int] = 1
    high: int | Sequence[int] = 20
    """Inclusive bounds, per item or one number for all items."""
    seats: int = 2

    kind: ClassVar[str] = "uniform"
    needs_stock: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_seats(self.seats)
        for name in ("low", "high"):
            object.__setattr__(self, name, per_item(name, getattr(self, name), self.kinds))
        for low, high in self._bounds():
            check_range("low and high", (low, high))

    def _bounds(self) -> list[tuple[int, int]]:
        return list(zip(self.low, self.high, strict=True))  # type: ignore[arg-type]

    @property
    def value_range(self) -> tuple[float, float]:
        """Over all items."""
        return min(low for low, _ in self._bounds()), max(high for _, high in self._bounds())

    def draw(self, rng: np.random.Generator, stock: Stock) -> Values:
        """Drawn seat by seat."""
        return tuple(
            tuple(float(rng.integers(low, high + 1)) for low, high in self._bounds())
            for _ in range(self.seats)
        )

    def outcomes(self, stock: Stock) -> tuple[np.ndarray, np.ndarray]:
        """Equally likely."""
        choices = [range(low, high + 1) for low, high in self._bounds()]
        check_small(choices, self.seats)
        return independent(list(product(*choices)), self.seats)


@dataclass(frozen=True)
class DistinctValues:
    """Integers from low to high; each seat's values are distinct."""

    kinds: int
    low: int = 1
    high: int = 10
    seats: int = 2

    kind: ClassVar[str] = "distinct"
    needs_stock: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_seats(self.seats)
        check_range("low and high", (self.low, self.high))
        if self.high - self.low + 1 < self.kinds:
            raise ComityError(
                f"{self.kinds} different values do not fit between {self.low} and {self.high}"
            )

    @property
    def value_range(self) -> tuple[float, float]:
        """The bounds."""
        return self.low, self.high

    def draw(self, rng: np.random.Generator, stock: Stock) -> Values:
        """Drawn without replacement, seat by seat."""
        count = self.high - self.low + 1
        return tuple(
            tuple(float(v + self.low) for v in rng.choice(count, size=self.kinds, replace=False))
            for _ in range(self.seats)
        )

    def outcomes(self, stock: Stock) -> tuple[np.ndarray, np.ndarray]:
        """Equally likely."""
        choices = range(self.low, self.high + 1)
        listable(perm(len(choices), self.kinds) ** self.seats)
        return independent(list(permutations(choices, self.kinds)), self.seats)


@dataclass(frozen=True)
class BimodalValues:
    """Uniform on the low or on the high range with probability 1/2, by seat and item."""

    kinds: int
    low: tuple[int, int] = (1, 3)
    high: tuple[int, int] = (8, 10)
    """Inclusive bounds of each range."""
    seats: int = 2

    kind: ClassVar[str] = "bimodal"
    needs_stock: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_seats(self.seats)
        check_range("low", self.low)
        check_range("high", self.high)
        if self.low[1] >= self.high[0]:
            raise ComityError(f"the range high must lie above low, not {self.low} and {self.high}")

    @property
    def value_range(self) -> tuple[float, float]:
        """From the low range's first to the high range's last number."""
        return self.low[0], self.high[1]

    def draw(self, rng: np.random.Generator, stock: Stock) -> Values:
        """The coin first."""

        def one() -> float:
            first, last = (self.low, self.high)[int(rng.integers(2))]
            return float(rng.integers(first, last + 1))

        return tuple(tuple(one() for _ in range(self.kinds)) for _ in range(self.seats))

    def outcomes(self, stock: Stock) -> tuple[np.ndarray, np.ndarray]:
        """Weighted if the ranges differ in size."""
        modes = [range(first, last + 1) for first, last in (self.low, self.high)]
        chance = {v: 0.5 / len(mode) for mode in modes for v in mode}
        check_small([range(len(chance))] * self.kinds, self.seats)
        values, _ = independent(list(product(chance, repeat=self.kinds)), self.seats)
        lookup = np.zeros(max(chance) + 1)
        lookup[list(chance)] = list(chance.values())
        return values, lookup[values].prod(axis=(1, 2))


@dataclass(frozen=True)
class FixedValues:
    """The same values in every match."""

    kinds: int
    values: tuple[tuple[float, ...], ...]
    """Points per unit, `[seat][item]`."""

    kind: ClassVar[str] = "fixed"
    needs_stock: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_seats(len(self.values))
        for row in self.values:
            if len(row) != self.kinds:
                raise ComityError(f"values has {len(row)} numbers for {self.kinds} items")
            if not all(isfinite(v) and v >= 0 for v in row):
                raise ComityError(f"values must be numbers of at least 0, not {list(row)}")

    @property
    def seats(self) -> int:
        """Rows of the values."""
        return len(self.values)

    @property
    def value_range(self) -> tuple[float, float]:
        """Over all seats and items."""
        return min(map(min, self.values)), max(map(max, self.values))

    def draw(self, rng: np.random.Generator, stock: Stock) -> Values:
        """The values."""
        return self.values

    def outcomes(self, stock: Stock) -> tuple[np.ndarray, np.ndarray]:
        """One."""
        return np.array([self.values], dtype=float), np.ones(1)


def check_small(choices: Sequence[Sequence[int]], seats: int) -> None:
    """`ComityError` if there are too many combinations of independent values to list."""
    listable(prod(map(len, choices)) ** seats)


def independent(rows: Sequence[tuple[int, ...]], seats: int) -> tuple[np.ndarray, np.ndarray]:
    """All combinations of rows over seats, uniform: values `[K, seats, items]`, weights `[K]`."""
    count = listable(len(rows) ** seats)
    index = np.indices((len(rows),) * seats).reshape(seats, -1).T
    return np.array(rows)[index], np.full(count, 1 / count)


def check_seats(seats: int) -> None:
    """`ComityError` unless there are at least two seats."""
    if seats < 2:
        raise ComityError(f"seats must be at least 2, not {seats}")


def check_range(name: str, bounds: tuple[int, ...]) -> None:
    """`ComityError` unless two bounds enclose integers of at least 0."""
    if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1]:
        raise ComityError(f"{name} must be a range of whole numbers from 0, not {list(bounds)}")
