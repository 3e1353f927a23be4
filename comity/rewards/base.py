"""What a reward is: a pure function from what happened to a number per seat and round."""

from typing import ClassVar, Protocol

import numpy as np

from comity.games.base import Game, Played


class Reward(Protocol):
    """Implementations are frozen dataclasses; their fields are the YAML parameters."""

    formula: ClassVar[str]
    """The definition in one line, for `comity list rewards`."""

    def __call__(self, played: Played, game: Game) -> np.ndarray:
        """float64 `[match, seat, round]`; 0 where the match is over."""
        ...
