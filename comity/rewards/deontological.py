"""The duty not to defect on those who just cooperated, and its opposite."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.games.base import Game, PlayedMatches
from comity.rewards.base import ActionReward, check_not_negative


@dataclass(frozen=True, kw_only=True)
class Deontological(ActionReward):
    """A seat is penalized for defecting on others whose last displayed move was cooperation."""

    formula: ClassVar[str] = (
        "r[i] = - penalty * (share of the others who cooperated last) if i defects, else other"
    )
    published: ClassVar[str] = "de"

    penalty: float = 3.0
    """Size of the penalty (xi); 3 in arXiv 2410.01639, 5 in its forerunners."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("penalty", self.penalty)

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`; `other` if the seat wrongs no one."""
        shown = played.shown == self.move(game)
        wronged = (shown.sum(axis=1, keepdims=True) - shown) * ~self.cooperated(played, game)
        return np.where(wronged > 0, -self.penalty * wronged / (shown.shape[1] - 1), self.other)


@dataclass(frozen=True, kw_only=True)
class AntiDeontological(Deontological):
    """A seat is rewarded for defecting on others whose last displayed move was cooperation."""

    formula: ClassVar[str] = (
        "r[i] = + penalty * (share of the others who cooperated last) if i defects, else other"
    )
    published: ClassVar[str] = "mal_de"

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`."""
        shown = played.shown == self.move(game)
        wronged = (shown.sum(axis=1, keepdims=True) - shown) * ~self.cooperated(played, game)
        return np.where(wronged > 0, self.penalty * wronged / (shown.shape[1] - 1), self.other)
