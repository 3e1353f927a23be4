"""Rules of claiming, as arrays over many deals.

A rule says what a seat claims when it knows everybody's values, and whether it accepts what
another seat leaves it. Scripted negotiators and exact references share them. Shapes: K deals,
S seats, I items; values are points per unit.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from comity.errors import ComityError

ClaimDistribution = list[tuple[np.ndarray, np.ndarray]]
"""Claims int `[K, I]`, each with its probability `[K, I]`; items are independent."""


class ClaimRule(Protocol):
    """How a seat claims; implementations are frozen dataclasses.

    What it claims of an item depends on this item's values and stock only.
    """

    def claims(self, values: np.ndarray, stock: np.ndarray, seat: int) -> ClaimDistribution:
        """What the seat claims, from values `[K, S, I]` and stock `[K, I]`."""
        ...

    def accepts(
        self, values: np.ndarray, stock: np.ndarray, seat: int, rest: np.ndarray
    ) -> np.ndarray:
        """Probability `[K]` that the seat accepts the units `rest` `[K, I]`, the others' being
        what is then left of the stock."""
        ...


@dataclass(frozen=True)
class WelfareMaximizing:
    """All of what is worth most to the seat, nothing of what is worth more to another.

    Seats to whom an item is worth the same divide it evenly; odd units go to lower seats. It
    accepts whatever is worth something to anybody, because nothing is what it gets otherwise.
    """

    def claims(self, values: np.ndarray, stock: np.ndarray, seat: int) -> ClaimDistribution:
        """One claim, for sure."""
        holds = values == values.max(axis=1, keepdims=True)
        holders = holds.sum(axis=1)
        before = holds[:, :seat].sum(axis=1)
        return certain(holds[:, seat] * (stock // holders + (before < stock % holders)))

    def accepts(
        self, values: np.ndarray, stock: np.ndarray, seat: int, rest: np.ndarray
    ) -> np.ndarray:
        """1 where the split is worth anything."""
        own = (values[:, seat] * rest).sum(axis=1)
        others = (np.delete(values, seat, axis=1).max(axis=1) * (stock - rest)).sum(axis=1)
        return (own + others > 0).astype(float)


@dataclass(frozen=True)
class Greedy:
    """Everything. It accepts whatever is worth something to it."""

    def claims(self, values: np.ndarray, stock: np.ndarray, seat: int) -> ClaimDistribution:
        """The stock."""
        return certain(stock)

    def accepts(
        self, values: np.ndarray, stock: np.ndarray, seat: int, rest: np.ndarray
    ) -> np.ndarray:
        """1 where it gains."""
        return ((values[:, seat] * rest).sum(axis=1) > 0).astype(float)


@dataclass(frozen=True)
class ConstantClaim:
    """The same number of units of every item, or all where there are fewer.

    It accepts what is worth as much to it as that.
    """

    units: int = 5
    """Of every item."""

    def __post_init__(self) -> None:
        if self.units < 0:
            raise ComityError(f"units must not be negative, not {self.units}")

    def claims(self, values: np.ndarray, stock: np.ndarray, seat: int) -> ClaimDistribution:
        """That many."""
        return certain(np.minimum(stock, self.units))

    def accepts(
        self, values: np.ndarray, stock: np.ndarray, seat: int, rest: np.ndarray
    ) -> np.ndarray:
        """1 where the rest is worth what it would claim."""
        return at_least_as_valuable(values[:, seat], rest, np.minimum(stock, self.units))


@dataclass(frozen=True)
class UniformRandom:
    """Any number of units of each item, equally likely. It accepts by a fair coin."""

    def claims(self, values: np.ndarray, stock: np.ndarray, seat: int) -> ClaimDistribution:
        """Nothing to everything, item by item."""
        most = int(stock.max())
        return [
            (np.where(units <= stock, 1 / (stock + 1), 0.0), np.full_like(stock, units))
            for units in range(most + 1)
        ]

    def accepts(
        self, values: np.ndarray, stock: np.ndarray, seat: int, rest: np.ndarray
    ) -> np.ndarray:
        """One half."""
        return np.full(len(rest), 0.5)


def certain(claims: np.ndarray) -> ClaimDistribution:
    """A claim with probability 1."""
    return [(np.ones(1), claims)]


def at_least_as_valuable(values: np.ndarray, rest: np.ndarray, claim: np.ndarray) -> np.ndarray:
    """1.0 `[K]` where the units `rest` are worth at least as much as the units `claim`."""
    return ((values * rest).sum(axis=1) >= (values * claim).sum(axis=1)).astype(float)
