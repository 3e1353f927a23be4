"""Weighted sums of rewards."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from comity.errors import ComityError
from comity.games.base import Game, PlayedMatches
from comity.registry import build
from comity.rewards.base import BaseReward
from comity.rewards.catalog import SIMPLE_REWARDS


@dataclass(frozen=True, kw_only=True)
class Weighted(BaseReward):
    """A weighted sum of other rewards.

    The rule for own illegal answers applies once, to the sum: its value is `illegal`.
    """

    formula: ClassVar[str] = "r[i] = sum over terms of weight * reward[i]"
    published: ClassVar[str] = "game_de with the terms own and deontological"
    payoff_based: ClassVar[bool] = False
    published_rule: ClassVar[str] = "penalize"

    terms: Mapping[str, Any]
    """Weight of every reward by its name, or a mapping with `weight` and its parameters."""
    _parts: tuple[tuple[float, BaseReward], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.terms:
            raise ComityError("terms must name at least one reward")
        parts = tuple(_part(name, term) for name, term in self.terms.items())
        object.__setattr__(self, "_parts", parts)

    @property
    def parts(self) -> tuple[tuple[float, BaseReward], ...]:
        """Weight and reward of every term."""
        return self._parts

    def check(self, game: Game) -> None:
        """Raises `ComityError` if a term is not defined for the game."""
        for _, reward in self._parts:
            reward.check(game)

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`; each term with its own `opponent_illegal`."""
        total = np.zeros(played.payoffs.shape)
        for weight, reward in self._parts:
            total += weight * reward.with_opponent_rules(played, game)
        return total


def _part(name: str, term: object) -> tuple[float, BaseReward]:
    """Weight and reward of one term; `ComityError` if it is invalid."""
    parameters = dict(term) if isinstance(term, Mapping) else {"weight": term}
    weight = parameters.pop("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise ComityError(f"the weight of {name!r} must be a number, not {weight!r}")
    if not math.isfinite(weight):
        raise ComityError(f"the weight of {name!r} must be a finite number, not {weight}")
    known: dict[str, type[BaseReward]] = {**SIMPLE_REWARDS, "weighted": Weighted}
    return float(weight), build("reward", {**parameters, "name": name}, known)
