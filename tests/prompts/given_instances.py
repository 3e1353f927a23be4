"""A small law of deals for tests of prompts: given deals in turn, whatever the seed says."""

from dataclasses import dataclass
from typing import Any

from comity.games.randomness import DEAL, generator
from comity.games.split.state import Instance

PAIRS = (("rock", "paper"), ("paper", "rock"), ("scissors", "paper"), ("rock", "scissors"))
WINS = {("rock", "scissors"), ("scissors", "paper"), ("paper", "rock")}


@dataclass(frozen=True)
class GivenInstances:
    """Values drawn from a range, or those of hands; the stock is that of the round."""

    items: tuple[str, ...] = ("coins",)
    stocks: tuple[tuple[int, ...], ...] = ((10,),)
    """Of round 0, 1, ..., then from the beginning."""
    kind: str = "uniform"
    value_range: tuple[float, float] = (1, 20)
    seats: int = 2
    redraw_values: bool = True
    equal_sums: bool = False
    alternating_hands: bool = False
    valuations: Any = None

    @property
    def most(self) -> tuple[int, ...]:
        return tuple(map(max, zip(*self.stocks, strict=True)))

    def draw(self, seed: int, number: int) -> Instance:
        rng = generator(seed, DEAL, number if self.redraw_values else 0)
        stock = self.stocks[number % len(self.stocks)]
        low, high = self.value_range
        if self.kind == "hands":
            hands = PAIRS[int(rng.integers(len(PAIRS)))]
            won = hands in WINS
            values = ((high,) * len(stock), (low,) * len(stock))
            return Instance(stock, values if won else values[::-1], hands)
        drawn = rng.integers(low, high, size=(self.seats, len(stock)), endpoint=True)
        return Instance(stock, tuple(tuple(float(v) for v in row) for row in drawn))
