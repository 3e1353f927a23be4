"""The sum of all payoffs, and its negative."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.games.base import Game, PlayedMatches
from comity.rewards.base import BaseReward


@dataclass(frozen=True, kw_only=True)
class Utilitarian(BaseReward):
    """Every seat is rewarded with the sum of all seats' payoffs (sum of rewards)."""

    formula: ClassVar[str] = "r[i] = sum over seats j of payoff[j]"
    published: ClassVar[str] = "ut"
    published_rule: ClassVar[str] = "zero"

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, 1, round]`: the same for all seats."""
        return np.asarray(played.payoffs.sum(axis=1, keepdims=True))


@dataclass(frozen=True, kw_only=True)
class AntiUtilitarian(Utilitarian):
    """Every seat is rewarded with minus the sum of all seats' payoffs."""

    formula: ClassVar[str] = "r[i] = - sum over seats j of payoff[j]"
    published: ClassVar[str] = "anti_ut"

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, 1, round]`."""
        return -super().value(played, game)
