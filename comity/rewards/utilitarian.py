"""The reward that everybody shares."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.games.base import Game, Played


@dataclass(frozen=True)
class Utilitarian:
    """Every seat is rewarded with the sum of all seats' payoffs (sum of rewards)."""

    formula: ClassVar[str] = "r[i] = sum over seats j of payoff[j]"

    def __call__(self, played: Played, game: Game) -> np.ndarray:
        """float64 `[match, seat, round]`; 0 where the match is over."""
        total = played.payoffs.sum(axis=1, keepdims=True)
        return np.where(played.alive[:, None, :], np.broadcast_to(total, played.payoffs.shape), 0.0)
