"""A reward made of others."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.errors import ComityError
from comity.games.base import Game, Played
from comity.registry import build
from comity.rewards.base import Reward


@dataclass(frozen=True)
class Weighted:
    """A weighted sum of other rewards."""

    formula: ClassVar[str] = "r[i] = sum over terms of weight * reward[i]"

    terms: Mapping[str, float]
    """Weight of every reward, by its name."""

    def __post_init__(self) -> None:
        if not self.terms:
            raise ComityError("terms must name at least one reward")
        for name, weight in self.terms.items():
            if not math.isfinite(weight):
                raise ComityError(f"the weight of {name!r} must be a finite number, not {weight}")
            _term(name)

    def __call__(self, played: Played, game: Game) -> np.ndarray:
        """float64 `[match, seat, round]`; 0 where the match is over."""
        total = np.zeros(played.payoffs.shape)
        for name, weight in self.terms.items():
            total += weight * _term(name)(played, game)
        return total


def _term(name: str) -> Reward:
    """The reward of this name, which must need no parameters of its own."""
    from comity.rewards import REWARDS  # here, since that dictionary lists this class

    return build("reward", name, REWARDS)
