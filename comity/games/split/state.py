"""Instances, observations and states of `Split`."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from comity.games.base import Action, Claim, Illegal, Observation, Round


@dataclass(frozen=True)
class Instance:
    """The stock and the values of a round."""

    stock: tuple[int, ...]
    """Units of each item, `[item]`."""
    values: tuple[tuple[float, ...], ...]
    """Points per unit, `[seat][item]`."""
    hands: tuple[str, ...] = ()
    """A hand per seat that decides the values ("rock"); () in games without hands."""

    def max_welfare(self) -> float:
        """Maximal welfare (sum of points): each item goes to the seat that values it most."""
        return float(sum(q * max(v) for q, *v in zip(self.stock, *self.values, strict=True)))


Outcomes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Values `[K, seats, items]`, stock int `[K, items]` and probability `[K]` of K instances."""


class InstanceDistribution(Protocol):
    """A distribution of instances; implementations are in `comity.games.split.instances`."""

    @property
    def seats(self) -> int: ...

    @property
    def items(self) -> tuple[str, ...]:
        """Names of the items, in the plural ("coins")."""
        ...

    @property
    def most(self) -> tuple[int, ...]:
        """Maximal units of each item, `[item]`."""
        ...

    @property
    def kind(self) -> str:
        """The kind of values: a name in `comity.games.split.valuations.KINDS`."""
        ...

    @property
    def value_range(self) -> tuple[float, float]:
        """Minimal and maximal value per unit."""
        ...

    def draw(self, seed: int, number: int) -> Instance:
        """The instance of round `number` in the match with this environment seed."""
        ...

    def outcomes(self) -> Outcomes:
        """All instances of a round; `ComityError` if there are too many to list."""
        ...


@dataclass(frozen=True, kw_only=True)
class SplitRound(Round):
    """One finished round; `intended` and `moves` are 0 for a claim and ILLEGAL for none."""

    instance: Instance
    starter: int
    messages: tuple[tuple[int, str], ...]
    """(seat, text as the others read it), in order."""
    claims: tuple[Claim | None, ...]
    """The claim that counted, `[seat]`; None: no claim."""
    allocation: tuple[tuple[float, ...], ...]
    """Units, `[seat][item]`."""
    accepted: bool | None = None
    """The response to a proposal; None in games without proposals."""
    exceeded: tuple[int, ...] = ()
    """Seats that sent a message too many, which ended the round."""


@dataclass(frozen=True, kw_only=True)
class SplitObservation(Observation):
    """The information of a seat. Prompts show `seen_values`; only oracles read `instance`."""

    history: tuple[SplitRound, ...] = ()
    instance: Instance
    starter: int
    messages: tuple[tuple[int, str], ...] = ()
    """The messages of this round so far."""
    claimed: tuple[bool, ...] = ()
    """Whether each seat has claimed in this round, `[seat]`."""
    claims: tuple[Claim | Illegal | None, ...] = ()
    """Claims of this round, `[seat]`; None: not yet, or hidden from this seat."""
    open_values: bool = False

    @property
    def last(self) -> tuple[Action, ...] | None:
        """None: split games have no joint move as a state."""
        return None

    @property
    def rest(self) -> Claim | None:
        """Units that the claims of all others leave, negative if they exceed the stock.

        None unless this seat has seen all of them. An illegal claim claims nothing.
        """
        others = [claim for seat, claim in enumerate(self.claims) if seat != self.seat]
        if not others or any(claim is None for claim in others):
            return None
        legal = [claim for claim in others if isinstance(claim, tuple)]
        return tuple(q - sum(units) for q, *units in zip(self.instance.stock, *legal, strict=True))

    @property
    def values(self) -> tuple[float, ...]:
        """Value per unit for this seat, `[item]`."""
        return self.instance.values[self.seat]

    @property
    def seen_values(self) -> tuple[tuple[float, ...] | None, ...]:
        """Values per unit, `[seat][item]`; None for seats whose values are hidden."""
        return tuple(
            v if self.open_values or seat == self.seat else None
            for seat, v in enumerate(self.instance.values)
        )


@dataclass(frozen=True)
class SplitState:
    """A match between two steps."""

    seed: int
    history: tuple[SplitRound, ...] = ()
    messages: tuple[tuple[int, str], ...] = ()
    intended: tuple[tuple[int, Claim | Illegal], ...] = ()
    """(seat, claim) of this round, in order."""
    over: bool = False
