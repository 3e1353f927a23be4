"""The reward that everybody shares, and its opposite."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.games.base import Game, Played
from comity.rewards.base import Ruled


@dataclass(frozen=True, kw_only=True)
class Utilitarian(Ruled):
    """Every seat is rewarded with the sum of all seats' payoffs (sum of rewards)."""

    formula: ClassVar[str] = "r[i] = sum over seats j of payoff[j]"
    published: ClassVar[str] = "ut"
    executed: ClassVar[str] = "zero"

    def value(self, played: Played, game: Game) -> np.ndarray:
        """`[match, 1, round]`: the same for all seats."""
        return np.asarray(played.payoffs.sum(axis=1, keepdims=True))


@dataclass(frozen=True, kw_only=True)
class AntiUtilitarian(Utilitarian):
    """Every seat is rewarded with minus the sum of all seats' payoffs."""

    formula: ClassVar[str] = "r[i] = - sum over seats j of payoff[j]"
    published: ClassVar[str] = "anti_ut"

    def value(self, played: Played, game: Game) -> np.ndarray:
        """`[match, 1, round]`."""
        return -super().value(played, game)
