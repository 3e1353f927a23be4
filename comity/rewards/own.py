"""The selfish reward, the payoff of the others (altruist), and its negative."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.games.base import Game, PlayedMatches
from comity.rewards.base import BaseReward


@dataclass(frozen=True, kw_only=True)
class Own(BaseReward):
    """A seat is rewarded with its own payoff."""

    formula: ClassVar[str] = "r[i] = payoff[i]"
    published: ClassVar[str] = "game"

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`."""
        return played.payoffs


@dataclass(frozen=True, kw_only=True)
class Altruist(BaseReward):
    """A seat is rewarded with what the other seats earn."""

    formula: ClassVar[str] = "r[i] = sum over other seats j of payoff[j]"
    published: ClassVar[str] = "altruist"

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`."""
        return np.asarray(played.payoffs.sum(axis=1, keepdims=True) - played.payoffs)


@dataclass(frozen=True, kw_only=True)
class AntiAltruist(Altruist):
    """A seat is rewarded with what the other seats lose."""

    formula: ClassVar[str] = "r[i] = - sum over other seats j of payoff[j]"
    published: ClassVar[str] = "anti_altruist"

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`."""
        return -super().value(played, game)
