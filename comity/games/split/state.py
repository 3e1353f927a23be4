"""What there is to split, and what seats know and did: the values that `Split` works on."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from comity.games.base import Action, Claim, Illegal, Observation, Round


@dataclass(frozen=True)
class Instance:
    """What a round is about."""

    stock: tuple[int, ...]
    """Units of each item, `[item]`."""
    values: tuple[tuple[float, ...], ...]
    """Points per unit, `[seat][item]`."""
    hands: tuple[str, ...] = ()
    """A card per seat that decides the values ("rock"); () where there are none."""

    def max_welfare(self) -> float:
        """Points of the split that is best for all together: each item to whom it is worth most."""
        return float(sum(q * max(v) for q, *v in zip(self.stock, *self.values, strict=True)))


Outcomes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Values `[K, seats, items]`, stock int `[K, items]` and probability `[K]` of K deals."""


class InstanceDistribution(Protocol):
    """The law of deals; implementations are frozen dataclasses (`comity.games.split.instances`)."""

    @property
    def seats(self) -> int: ...

    @property
    def items(self) -> tuple[str, ...]:
        """Names of the items, in the plural ("coins")."""
        ...

    @property
    def most(self) -> tuple[int, ...]:
        """The most units that there can be of each item, `[item]`."""
        ...

    @property
    def kind(self) -> str:
        """How values arise: a name in `comity.games.split.valuations.KINDS`."""
        ...

    @property
    def value_range(self) -> tuple[float, float]:
        """The least and the most that a unit can be worth."""
        ...

    def draw(self, seed: int, number: int) -> Instance:
        """The deal of round `number` in the match of this environment seed."""
        ...

    def outcomes(self) -> Outcomes:
        """All deals that a round can have; `ComityError` where they are too many to list."""
        ...


@dataclass(frozen=True, kw_only=True)
class SplitRound(Round):
    """One finished round; `intended` and `moves` are 0 for a claim and ILLEGAL for none."""

    instance: Instance
    starter: int
    messages: tuple[tuple[int, str], ...]
    """(seat, text as it was read) in order."""
    claims: tuple[Claim | None, ...]
    """What counted as claimed, `[seat]`; None: nothing was claimed."""
    allocation: tuple[tuple[float, ...], ...]
    """Units, `[seat][item]`."""
    accepted: bool | None = None
    """The response to a proposal; None where none is asked for."""
    exceeded: tuple[int, ...] = ()
    """Seats that wrote a message more than the most, which ended the round."""


@dataclass(frozen=True, kw_only=True)
class SplitObservation(Observation):
    """What a seat is asked with. Prompts tell `seen_values`; only oracles use the deal itself."""

    history: tuple[SplitRound, ...] = ()
    instance: Instance
    starter: int
    messages: tuple[tuple[int, str], ...] = ()
    """Of this round so far."""
    claimed: tuple[bool, ...] = ()
    """Who has claimed in this round, `[seat]`."""
    claims: tuple[Claim | Illegal | None, ...] = ()
    """What was claimed in this round, `[seat]`; None: nothing yet, or this seat does not see it."""
    open_values: bool = False

    @property
    def last(self) -> tuple[Action, ...] | None:
        """None: there is no joint move that would be a state."""
        return None

    @property
    def rest(self) -> Claim | None:
        """What the claims of all others leave to this seat, below 0 where they claim more than
        there is; None unless it has seen them all. An illegal one claims nothing.
        """
        others = [claim for seat, claim in enumerate(self.claims) if seat != self.seat]
        if not others or any(claim is None for claim in others):
            return None
        legal = [claim for claim in others if isinstance(claim, tuple)]
        return tuple(q - sum(units) for q, *units in zip(self.instance.stock, *legal, strict=True))

    @property
    def values(self) -> tuple[float, ...]:
        """What a unit is worth to this seat, `[item]`."""
        return self.instance.values[self.seat]

    @property
    def seen_values(self) -> tuple[tuple[float, ...] | None, ...]:
        """What a unit is worth to each seat, `[seat][item]`; None where this seat cannot know."""
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
    """(seat, answer) of those who have claimed in this round, in order."""
    over: bool = False
