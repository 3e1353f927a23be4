"""Distributions of instances: units of each item, and values per unit for each seat.

- `HandInstances`: hands of rock-paper-scissors decide the values.
- `SampledInstances`: a distribution of quantities (`comity.games.split.quantities`) and one of
  values (`valuations`, `divided_values`, `game_types`), sampled per round or per match.

Instances are derived from the environment seed and the round. Every distribution can list all its
outcomes.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from math import isfinite
from typing import ClassVar, Final

import numpy as np

from comity.errors import ComityError
from comity.games.randomness import DEAL, generator
from comity.games.split.quantities import Quantities, Stock, listable, per_item, positive
from comity.games.split.state import Instance, Outcomes
from comity.games.split.valuations import Valuations

HANDS: Final = ("rock", "paper", "scissors")
BEATS: Final = {"rock": "scissors", "paper": "rock", "scissors": "paper"}
"""What each hand beats."""

DISTINCT_HANDS: Final = tuple(permutations(HANDS, 2))
"""The six pairs of different hands, `[seat]`."""

MAX_STOCKS: Final = 1000
"""Most stocks for which values that depend on the stock are computed."""


@dataclass(frozen=True)
class HandInstances:
    """Two different hands; all items have a higher value per unit for the winning seat."""

    items: tuple[str, ...] = ("coins",)
    stock: Stock = (10,)
    win: float = 10.0
    lose: float = 1.0
    """Points per unit to the winning and to the losing hand."""
    alternating_hands: bool = False
    """The winner of the first round is random; then the seats alternate."""

    seats: ClassVar[int] = 2
    kind: ClassVar[str] = "hands"
    equal_sums: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_items(self.items)
        object.__setattr__(self, "stock", per_item("stock", self.stock, len(self.items)))
        positive("stock", self.stock)
        if not (isfinite(self.win) and 0 <= self.lose <= self.win):
            raise ComityError(
                f"win must be at least lose, and lose at least 0, not {self.win} and {self.lose}"
            )

    @property
    def most(self) -> Stock:
        """The stock."""
        return self.stock

    @property
    def value_range(self) -> tuple[float, float]:
        """Values for the losing and the winning seat."""
        return self.lose, self.win

    def draw(self, seed: int, number: int) -> Instance:
        """The instance of round `number` in the match with this environment seed."""
        rng = generator(seed, DEAL, number)
        if not self.alternating_hands:
            return self._deal(DISTINCT_HANDS[int(rng.integers(len(DISTINCT_HANDS)))])
        winner = (int(generator(seed, DEAL).integers(2)) + number) % 2
        hand = HANDS[int(rng.integers(len(HANDS)))]
        return self._deal((hand, BEATS[hand]) if winner == 0 else (BEATS[hand], hand))

    def outcomes(self) -> Outcomes:
        """The six pairs of hands, equally likely in every round."""
        instances = [self._deal(hands) for hands in DISTINCT_HANDS]
        values = np.array([instance.values for instance in instances], dtype=float)
        return (
            values,
            np.array([instance.stock for instance in instances]),
            np.full(len(instances), 1 / len(instances)),
        )

    def _deal(self, hands: tuple[str, ...]) -> Instance:
        first = BEATS[hands[0]] == hands[1]
        worth = (self.win, self.lose) if first else (self.lose, self.win)
        return Instance(self.stock, tuple((float(v),) * len(self.items) for v in worth), hands)


@dataclass(frozen=True)
class SampledInstances:
    """Quantities from one distribution, values from another.

    Each is sampled in every round, or once for the match.
    """

    items: tuple[str, ...]
    quantities: Quantities
    valuations: Valuations
    redraw_stock: bool = True
    redraw_values: bool = True

    def __post_init__(self) -> None:
        check_items(self.items)
        for distribution in (self.quantities, self.valuations):
            if distribution.kinds != len(self.items):
                raise ValueError(
                    f"{distribution} is for {distribution.kinds} items, not {len(self.items)}"
                )
        if not self.valuations.needs_stock:
            return
        stocks = self.quantities.outcomes()[0].tolist()
        if len(stocks) > MAX_STOCKS:
            raise ComityError(f"{self.valuations.kind} values fit at most {MAX_STOCKS} stocks")
        if len(stocks) > 1 and self.redraw_stock and not self.redraw_values:
            raise ComityError(
                f"{self.valuations.kind} values fit one stock only: set redraw_values=true or "
                "redraw_stock=false"
            )
        for stock in stocks:
            self.valuations.outcomes(tuple(stock))  # raises if no values fit the stock

    @property
    def seats(self) -> int:
        """The seats of the values."""
        return self.valuations.seats

    @property
    def most(self) -> Stock:
        """Maximal units of each item, `[item]`."""
        return self.quantities.most

    @property
    def kind(self) -> str:
        """The kind of values: a name in `comity.games.split.valuations.KINDS`."""
        return self.valuations.kind

    @property
    def value_range(self) -> tuple[float, float]:
        """Minimal and maximal value per unit."""
        return self.valuations.value_range

    @property
    def equal_sums(self) -> bool:
        """Every seat has the same sum of values over items."""
        return bool(getattr(self.valuations, "equal_sums", self.kind == "cut"))

    def draw(self, seed: int, number: int) -> Instance:
        """The instance of round `number` in the match with this environment seed."""
        return _drawn(self, seed, number)

    def outcomes(self) -> Outcomes:
        """All stocks with all their possible values."""
        stocks, chances = self.quantities.outcomes()
        found = [self.valuations.outcomes(tuple(stock)) for stock in stocks.tolist()]
        count = listable(sum(len(values) for values, _ in found))
        if len(found) == 1:  # large ones are not copied
            (values, weights), stock = found[0], stocks[0]
            return values, np.broadcast_to(stock, (count, len(stock))), weights
        return (
            np.concatenate([values for values, _ in found]),
            np.repeat(stocks, [len(values) for values, _ in found], axis=0),
            np.concatenate(
                [chance * weights for chance, (_, weights) in zip(chances, found, strict=True)]
            ),
        )


@lru_cache(maxsize=4096)
def _drawn(instances: SampledInstances, seed: int, number: int) -> Instance:
    """The instance of a round; cached, since every step and every match of a group reads it."""
    stock = instances.quantities.draw(_stream(seed, number, instances.redraw_stock, "stock"))
    rng = _stream(seed, number, instances.redraw_values, "values")
    return Instance(stock, instances.valuations.draw(rng, stock))


def _stream(seed: int, number: int, redrawn: bool, what: str) -> np.random.Generator:
    return generator(seed, DEAL, number, what) if redrawn else generator(seed, DEAL, what)


FORBIDDEN: Final = '<>{}":,'
"""Characters that answer formats use."""


def check_items(items: tuple[str, ...]) -> None:
    """`ComityError` unless item names are valid and cannot be confused in answers."""
    if not items:
        raise ComityError("items needs at least one name")
    seen: dict[str, str] = {}
    for name in items:
        if not isinstance(name, str) or not name.strip():
            raise ComityError(f"an item's name must be text, not {name!r}")
        if name != name.strip() or not name.isprintable():
            raise ComityError(f"the item name {name!r} must be on one line, without blanks around")
        for letter in name:
            if letter in FORBIDDEN or letter.isnumeric():
                raise ComityError(
                    f"the item name {name!r} must not hold digits or any of {' '.join(FORBIDDEN)}"
                )
        for form in sorted(_forms(name) & set(seen)):
            raise ComityError(f"the item names {seen[form]!r} and {name!r} collide")
        seen |= dict.fromkeys(_forms(name), name)


def _forms(name: str) -> set[str]:
    """A name in lower case and its possible singulars."""
    word = name.casefold()
    forms = {word}
    for ending, instead in (("s", ""), ("es", ""), ("ies", "y")):
        if word.endswith(ending) and len(word) > len(ending):
            forms.add(word.removesuffix(ending) + instead)
    return forms
