"""The two value distributions of Deal or No Deal, in which values divide a total.

For two seats. A pair of value vectors is *valid* if every item has positive value for some seat,
and some item for both.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import ClassVar

import numpy as np

from comity.errors import ComityError
from comity.games.split.quantities import Stock, cut_parts, listable
from comity.games.split.valuations import Values


@dataclass(frozen=True)
class CutValues:
    """A total divided by sorted uniform cuts for each seat, conditioned on a valid pair.

    Sampled from the exact weights, without rejection.
    """

    kinds: int
    total: int = 10
    """Sum of a seat's values."""

    kind: ClassVar[str] = "cut"
    needs_stock: ClassVar[bool] = False
    seats: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.total < 1:
            raise ComityError(f"total must be at least 1, not {self.total}")
        if not _cut_pairs(self.total, self.kinds)[2].any():
            raise ComityError(
                f"a total of {self.total} cannot be divided over {self.kinds} items so that each "
                "is worth something to someone and some to both; give it more"
            )

    @property
    def acceptance(self) -> float:
        """Probability that two independent vectors form a valid pair."""
        _, ways, _ = _cut_pairs(self.total, self.kinds)
        return float(ways.sum() / (self.total + 1) ** (2 * (self.kinds - 1)))

    @property
    def value_range(self) -> tuple[float, float]:
        """Minimum and maximum over all valid pairs."""
        values, _, _ = _cut_pairs(self.total, self.kinds)
        return float(values.min()), float(values.max())

    def draw(self, rng: np.random.Generator, stock: Stock) -> Values:
        """A valid pair, sampled by its weight."""
        values, _, edges = _cut_pairs(self.total, self.kinds)
        chosen = int(np.searchsorted(edges, rng.integers(edges[-1]), side="right"))
        return as_values(values[chosen])

    def outcomes(self, stock: Stock) -> tuple[np.ndarray, np.ndarray]:
        """All valid pairs, weighted by the number of cuts that give them."""
        values, ways, _ = _cut_pairs(self.total, self.kinds)
        return values, ways / ways.sum()


@dataclass(frozen=True)
class ClassicValues:
    """Uniform over the valid pairs in which the stock is worth `total` to each seat.

    The values of Deal or No Deal (arXiv 1706.05125).
    """

    kinds: int
    total: int = 10
    """Value of the whole stock for each seat."""

    kind: ClassVar[str] = "classic"
    needs_stock: ClassVar[bool] = True
    seats: ClassVar[int] = 2

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0 to the total (a single unit with all the value)."""
        return 0.0, float(self.total)

    def draw(self, rng: np.random.Generator, stock: Stock) -> Values:
        """Uniform over the valid pairs for this stock."""
        pairs = _classic_pairs(stock, self.total)
        return as_values(pairs[int(rng.integers(len(pairs)))])

    def outcomes(self, stock: Stock) -> tuple[np.ndarray, np.ndarray]:
        """Equally likely."""
        pairs = _classic_pairs(stock, self.total)
        return pairs, np.full(len(pairs), 1 / len(pairs))


def as_values(rows: np.ndarray) -> Values:
    """An array `[seats, items]` as tuples of floats."""
    return tuple(tuple(float(v) for v in row) for row in rows)


def _valid_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """bool `[A, B]`: every item has positive value for some seat, some item for both."""
    one, other = first[:, None] > 0, second[None] > 0
    fits: np.ndarray = np.logical_and((one | other).all(axis=-1), (one & other).any(axis=-1))
    return fits


def _pairs(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Valid pairs int `[K, 2, items]`, and their row numbers int `[K, 2]`."""
    listable(len(rows) ** 2)
    index = np.argwhere(_valid_pairs(rows, rows))
    return rows[index], index


@lru_cache(maxsize=16)
def _cut_pairs(total: int, kinds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Valid pairs int `[K, 2, kinds]`, the number of cuts of each, and its cumulative sum."""
    parts, ways = cut_parts(total, kinds)
    values, index = _pairs(parts)
    weights = ways[index].prod(axis=1)
    return values, weights, np.cumsum(weights)


@lru_cache(maxsize=256)
def _classic_pairs(stock: Stock, total: int) -> np.ndarray:
    """Valid pairs int `[K, 2, items]` in which the stock is worth `total` to both seats."""
    most = [range(total // q + 1) if q else range(1) for q in stock]
    listable(prod(map(len, most)))
    rows = [row for row in product(*most) if sum(np.multiply(row, stock)) == total]
    pairs = _pairs(np.array(rows))[0] if rows else np.zeros((0, 2, len(stock)))
    if not len(pairs):
        raise ComityError(f"no values make the stock {list(stock)} worth {total} to both seats")
    return pairs
