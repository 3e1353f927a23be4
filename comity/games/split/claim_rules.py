"""Rules for claims, vectorized over many instances.

A rule gives a seat's claim when all values are known, and whether it accepts what another claim
leaves. Strategies and exact expectations share them. Shapes: K instances, S seats, I items; values
are points per unit.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from comity.errors import ComityError

ClaimDistribution = list[tuple[np.ndarray, np.ndarray]]
"""Pairs of probabilities `[K, I]` and claims int `[K, I]`; items are independent."""


class ClaimRule(Protocol):
    """A rule for claims; implementations are frozen dataclasses.

    The claim of an item depends on the values and the stock of this item only.
    """

    def claims(self, values: np.ndarray, stock: np.ndarray, seat: int) -> ClaimDistribution:
        """Distribution of the seat's claims, given values `[K, S, I]` and stock `[K, I]`."""
        ...

    def accepts(
        self, values: np.ndarray, stock: np.ndarray, seat: int, rest: np.ndarray
    ) -> np.ndarray:
        """Probability `[K]` that the seat accepts the units `rest` `[K, I]`; the other seats get
        the remainder of the stock."""
        ...


@dataclass(frozen=True)
class WelfareMaximizing:
    """Claims an item if no other seat values it more.

    Seats with equal values divide the item evenly; odd units go to lower seats. Accepts any split
    with positive welfare, because a rejection gives 0.
    """

    def claims(self, values: np.ndarray, stock: np.ndarray, seat: int) -> ClaimDistribution:
        """A deterministic claim."""
        holds = values == values.max(axis=1, keepdims=True)
        holders = holds.sum(axis=1)
        before = holds[:, :seat].sum(axis=1)
        return certain(holds[:, seat] * (stock // holders + (before < stock % holders)))

    def accepts(
        self, values: np.ndarray, stock: np.ndarray, seat: int, rest: np.ndarray
    ) -> np.ndarray:
        """1 where the split has positive welfare."""
        own = (values[:, seat] * rest).sum(axis=1)
        others = (np.delete(values, seat, axis=1).max(axis=1) * (stock - rest)).sum(axis=1)
        return (own + others > 0).astype(float)


@dataclass(frozen=True)
class Greedy:
    """Claims the whole stock. Accepts any positive own payoff."""

    def claims(self, values: np.ndarray, stock: np.ndarray, seat: int) -> ClaimDistribution:
        """The stock."""
        return certain(stock)

    def accepts(
        self, values: np.ndarray, stock: np.ndarray, seat: int, rest: np.ndarray
    ) -> np.ndarray:
        """1 where its payoff is positive."""
        return ((values[:, seat] * rest).sum(axis=1) > 0).astype(float)


@dataclass(frozen=True)
class ConstantClaim:
    """Claims the same number of units of every item, or the stock if it is smaller.

    Accepts what is worth at least as much to it as this claim.
    """

    units: int = 5
    """Units of every item."""

    def __post_init__(self) -> None:
        if self.units < 0:
            raise ComityError(f"units must not be negative, not {self.units}")

    def claims(self, values: np.ndarray, stock: np.ndarray, seat: int) -> ClaimDistribution:
        """`units`, at most the stock."""
        return certain(np.minimum(stock, self.units))

    def accepts(
        self, values: np.ndarray, stock: np.ndarray, seat: int, rest: np.ndarray
    ) -> np.ndarray:
        """1 where the rest is worth at least its own claim."""
        return at_least_as_valuable(values[:, seat], rest, np.minimum(stock, self.units))


@dataclass(frozen=True)
class UniformRandom:
    """Claims a uniformly random number of units of each item. Accepts with probability 1/2."""

    def claims(self, values: np.ndarray, stock: np.ndarray, seat: int) -> ClaimDistribution:
        """Uniform on 0 to the stock, independently by item."""
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
