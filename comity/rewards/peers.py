"""Weighted sums of own and others' payoffs, such as margins and opposition."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.errors import ComityError
from comity.games.base import Game, PlayedMatches
from comity.rewards.base import BaseReward


@dataclass(frozen=True, kw_only=True)
class Peers(BaseReward):
    """A seat is rewarded with weighted payoffs of itself and of the others.

    (1, -1) is the margin over them, (0, -1) pure opposition, (1, 1) the sum of all payoffs.
    """

    formula: ClassVar[str] = "r[i] = own * payoff[i] + others * sum over other seats j of payoff[j]"
    published: ClassVar[str] = "margin (1, -1) and adversarial (0, -1) players, arXiv 2511.19405"

    own: float = 1.0
    """Weight of the own payoff."""
    others: float = -1.0
    """Weight of each other seat's payoff."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (np.isfinite(self.own) and np.isfinite(self.others)):
            raise ComityError("own and others must be finite numbers")

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`."""
        others = played.payoffs.sum(axis=1, keepdims=True) - played.payoffs
        return np.asarray(self.own * played.payoffs + self.others * others)
