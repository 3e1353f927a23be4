"""A constant reward for legal answers."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.games.base import Game, PlayedMatches
from comity.rewards.base import BaseReward


@dataclass(frozen=True, kw_only=True)
class Legal(BaseReward):
    """A seat is rewarded with a constant for answering legally."""

    formula: ClassVar[str] = "r[i] = constant"
    published: ClassVar[str] = "legal"
    payoff_based: ClassVar[bool] = False

    constant: float = 91.5
    """The published code's number; no run with it was published."""

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`."""
        return np.full(played.payoffs.shape, self.constant)
