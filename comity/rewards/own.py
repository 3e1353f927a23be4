"""The selfish reward."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.games.base import Game, Played


@dataclass(frozen=True)
class Own:
    """A seat is rewarded with its own payoff."""

    formula: ClassVar[str] = "r[i] = payoff[i]"

    def __call__(self, played: Played, game: Game) -> np.ndarray:
        """float64 `[match, seat, round]`; 0 where the match is over."""
        return np.where(played.alive[:, None, :], played.payoffs, 0.0)
