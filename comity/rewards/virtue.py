"""Virtue rewards (arXiv 2301.08491): equality, kindness, both, and their opposites."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.errors import ComityError
from comity.games.base import Game, PlayedMatches
from comity.rewards.base import ActionReward, BaseReward, check_not_negative


def equality(payoffs: np.ndarray) -> np.ndarray:
    """1 - |own - other| / (|own| + |other|), mean over the others: `[match, seat, round]`.

    In [0, 1], also for negative payoffs; 1 if both are 0, because they are equal.
    """
    own, other = payoffs[:, :, None, :], payoffs[:, None, :, :]
    size = np.abs(own) + np.abs(other)
    gap = np.divide(np.abs(own - other), size, out=np.zeros(size.shape), where=size > 0)
    # Every seat is equal to itself: its own gap is 0.
    return np.asarray(1.0 - gap.sum(axis=2) / (payoffs.shape[1] - 1))


@dataclass(frozen=True, kw_only=True)
class Equality(BaseReward):
    """A seat is rewarded for equal payoffs.

    1 if all payoffs are 0, because they are equal.
    """

    formula: ClassVar[str] = (
        "r[i] = mean over others j of 1 - |payoff[i] - payoff[j]| / (|payoff[i]| + |payoff[j]|)"
    )
    published: ClassVar[str] = "v_eq"

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`."""
        return equality(played.payoffs)


@dataclass(frozen=True, kw_only=True)
class Inequality(BaseReward):
    """A seat is rewarded for unequal payoffs."""

    formula: ClassVar[str] = "r[i] = 1 - equality[i]"
    published: ClassVar[str] = "v_ineq"

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`."""
        return 1.0 - equality(played.payoffs)


@dataclass(frozen=True, kw_only=True)
class Kindness(ActionReward):
    """A seat is rewarded for cooperating, whatever the outcome."""

    formula: ClassVar[str] = "r[i] = bonus if i cooperates, else other"
    published: ClassVar[str] = "v_kind"

    bonus: float = 3.0
    """Size of the reward (xi); 5 in arXiv 2301.08491."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("bonus", self.bonus)

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`."""
        return np.where(self.cooperated(played, game), self.bonus, self.other)


@dataclass(frozen=True, kw_only=True)
class Aggression(Kindness):
    """A seat is rewarded for defecting, whatever the outcome."""

    formula: ClassVar[str] = "r[i] = bonus if i defects, else other"
    published: ClassVar[str] = "v_agg"

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`."""
        return np.where(self.cooperated(played, game), self.other, self.bonus)


@dataclass(frozen=True, kw_only=True)
class MixedVirtue(ActionReward):
    """A seat is rewarded for equal payoffs and for cooperating, in parts."""

    formula: ClassVar[str] = "r[i] = beta * equality[i] + (1 - beta) * [i cooperates]"
    published: ClassVar[str] = "v_mixed"
    payoff_based: ClassVar[bool] = True

    beta: float = 0.5
    """Weight of equality, in [0, 1]; any real number in between."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.beta <= 1.0:
            raise ComityError(f"beta must lie between 0 and 1, not {self.beta}")

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`[match, seat, round]`."""
        kind = self.cooperated(played, game)
        return self.beta * equality(played.payoffs) + (1.0 - self.beta) * kind
