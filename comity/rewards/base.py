"""The interface and the base classes of rewards.

A reward defines the value of a legal own answer (`value`). The rules for illegal answers are the
same for all rewards and are implemented here, so that combining or negating rewards never affects
them:

1. own answer illegal: exactly `illegal`, whatever the others did;
2. else another seat's answer illegal: by `opponent_illegal`;
3. rewards of payoffs, in a round in which some seat made no move (the rule for illegal answers
   substituted none): `other`.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from comity.errors import ComityError, lookup
from comity.games.base import Game, PlayedMatches
from comity.games.split.game import Split

OPPONENT_ILLEGAL = {
    "carry": "the reward of the played moves; under the game's rule carry the last legal move",
    "zero": "the reward's `other`",
    "penalize": "the same as for an own illegal answer",
    "as_executed": "the rule of the published code for this reward, for replication",
}
"""The value of a legal answer when another seat answers illegally."""


class Reward(Protocol):
    """Implementations are frozen dataclasses; their fields are the YAML parameters."""

    formula: ClassVar[str]
    """The definition in one line, for `comity list rewards`."""

    def __call__(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """float64 `[match, seat, round]`; 0 after the end of the match."""
        ...

    def check(self, game: Game) -> None:
        """Raises `ComityError` if the reward is not defined for the game."""
        ...


@dataclass(frozen=True, kw_only=True)
class BaseReward:
    """Base class with the rules for illegal answers; a subclass defines `value`."""

    formula: ClassVar[str]
    published: ClassVar[str]
    """Its key in the moral-alignment studies (arXiv 2410.01639, 2301.08491)."""
    payoff_based: ClassVar[bool] = True
    """Computed from payoffs, which need a move of every seat."""
    published_rule: ClassVar[str] = "carry"
    """What `as_executed` stands for (arXiv 2410.01639's code)."""

    illegal: float | None = -6.0
    """Reward of an own illegal answer; null: that of the move which the game substitutes."""
    opponent_illegal: str = "carry"
    """One of `OPPONENT_ILLEGAL`."""
    other: float = 0.0
    """Reward where the definition gives none."""

    def __post_init__(self) -> None:
        lookup("rule for opponents' illegal answers", self.opponent_illegal, OPPONENT_ILLEGAL)
        if self.resolved_opponent_illegal == "penalize" and self.illegal is None:
            raise ComityError("opponent_illegal=penalize needs a number for illegal")

    @property
    def resolved_opponent_illegal(self) -> str:
        """The rule that `opponent_illegal` stands for: carry, zero or penalize."""
        rule = self.opponent_illegal
        return self.published_rule if rule == "as_executed" else rule

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """Values of legal answers, float64 `[match, seat, round]`; arbitrary elsewhere."""
        raise NotImplementedError

    def check(self, game: Game) -> None:
        """Raises `ComityError` if the reward is not defined for the game."""

    def with_opponent_rules(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`value` with rules 2 and 3, for illegal answers of other seats."""
        values = np.array(np.broadcast_to(self.value(played, game), played.payoffs.shape), float)
        if self.payoff_based:
            void = (played.moves < 0).any(axis=1, keepdims=True)
            values = np.where(void, self.other, values)
        if self.resolved_opponent_illegal != "carry":
            penalized = self.resolved_opponent_illegal == "penalize" and self.illegal is not None
            instead = self.illegal if penalized else self.other
            values = np.where(any_other_illegal(played), np.float64(instead or 0.0), values)
        return values

    def __call__(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """float64 `[match, seat, round]`; 0 after the end of the match."""
        values = self.with_opponent_rules(played, game)
        if self.illegal is not None:
            values = np.where(played.intended < 0, self.illegal, values)
        return np.where(played.alive[:, None, :], values, 0.0)


@dataclass(frozen=True, kw_only=True)
class ActionReward(BaseReward):
    """Base class of rewards that depend on a cooperative move."""

    payoff_based: ClassVar[bool] = False

    cooperate: str | None = None
    """Name of the cooperative move; null: the game's first. All others count as defection."""

    def check(self, game: Game) -> None:
        """Raises `ComityError` if the game has no such move, or claims instead of moves."""
        if isinstance(game, Split):
            raise ComityError("this reward scores moves, and split games have claims instead")
        self.move(game)

    def move(self, game: Game) -> int:
        """Index of the cooperative move."""
        if self.cooperate is None:
            return 0
        return game.moves.index(lookup("move", self.cooperate, {name: name for name in game.moves}))

    def cooperated(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """The seat played the cooperative move, bool `[match, seat, round]`.

        The played move counts, after the rule for illegal answers and trembles: it is what the
        others see and what payoffs depend on.
        """
        return np.asarray(played.moves == self.move(game))


def any_other_illegal(played: PlayedMatches) -> np.ndarray:
    """Another seat answered illegally, bool `[match, seat, round]`."""
    illegal = (played.intended < 0) & played.alive[:, None, :]
    return np.asarray(illegal.sum(axis=1, keepdims=True) - illegal > 0)


def check_not_negative(name: str, value: float) -> None:
    """Raises `ComityError` unless a value is finite and at least 0."""
    if not (value >= 0 and np.isfinite(value)):
        raise ComityError(f"{name} is a size and must not be negative, not {value}")
