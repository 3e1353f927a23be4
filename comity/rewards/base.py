"""What a reward is: a pure function from what happened to a number per seat and round.

A reward says what a legal own answer is worth (`value`). What illegal answers are worth is
the same for all of them and stands here once, so that composing rewards or turning their
sign never touches it:

1. own answer illegal: exactly `illegal`, whatever the others did;
2. else another seat's answer illegal: by `opponent_illegal`;
3. rewards made of payoffs, in a round in which some seat made no move at all (nothing was
   there to play again): `other`.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from comity.errors import ComityError, lookup
from comity.games.base import Game, PlayedMatches
from comity.games.split.game import Split

OPPONENT_ILLEGAL = {
    "carry": "the reward of what was played; under the game's rule carry the last legal move",
    "zero": "the reward's `other`",
    "penalize": "the same as for an own illegal answer",
    "as_executed": "whichever of these the published code had for the reward, for replication",
}
"""What a legal answer is worth beside an illegal one of another seat."""


class Reward(Protocol):
    """Implementations are frozen dataclasses; their fields are the YAML parameters."""

    formula: ClassVar[str]
    """The definition in one line, for `comity list rewards`."""

    def __call__(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """float64 `[match, seat, round]`; 0 where the match is over."""
        ...

    def check(self, game: Game) -> None:
        """Raises `ComityError` where the reward has no meaning in the game."""
        ...


@dataclass(frozen=True, kw_only=True)
class BaseReward:
    """The base of the rewards here; a subclass defines `value`."""

    formula: ClassVar[str]
    published: ClassVar[str]
    """Its key in the moral-alignment studies (arXiv 2410.01639, 2301.08491)."""
    payoff_based: ClassVar[bool] = True
    """Computed from payoffs: where no move was made there are none."""
    published_rule: ClassVar[str] = "carry"
    """What `as_executed` stands for (arXiv 2410.01639's code)."""

    illegal: float | None = -6.0
    """Reward of an own illegal answer; null: of whatever the game's rule made of it."""
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
        """The rule that `opponent_illegal` comes to: carry, zero or penalize."""
        rule = self.opponent_illegal
        return self.published_rule if rule == "as_executed" else rule

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """What legal answers are worth, float64 `[match, seat, round]`; anything elsewhere."""
        raise NotImplementedError

    def check(self, game: Game) -> None:
        """Raises `ComityError` where the reward has no meaning in the game."""

    def with_opponent_rules(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """`value` with the rules for the others' illegal answers, not yet for the own."""
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
        """float64 `[match, seat, round]`; 0 where the match is over."""
        values = self.with_opponent_rules(played, game)
        if self.illegal is not None:
            values = np.where(played.intended < 0, self.illegal, values)
        return np.where(played.alive[:, None, :], values, 0.0)


@dataclass(frozen=True, kw_only=True)
class ActionReward(BaseReward):
    """The base of rewards that know a cooperative move."""

    payoff_based: ClassVar[bool] = False

    cooperate: str | None = None
    """Name of the cooperative move; null: the game's first. All others count as defection."""

    def check(self, game: Game) -> None:
        """Raises `ComityError` where the game has no such move, or none to choose at all."""
        if isinstance(game, Split):
            raise ComityError("this reward judges moves, and split games have claims instead")
        self.move(game)

    def move(self, game: Game) -> int:
        """Index of the cooperative move."""
        if self.cooperate is None:
            return 0
        return game.moves.index(lookup("move", self.cooperate, {name: name for name in game.moves}))

    def cooperated(self, played: PlayedMatches, game: Game) -> np.ndarray:
        """The seat played the cooperative move, bool `[match, seat, round]`.

        What was played counts, trembles and the rule for illegal answers included: it is what
        the others saw, and what payoffs are made of.
        """
        return np.asarray(played.moves == self.move(game))


def any_other_illegal(played: PlayedMatches) -> np.ndarray:
    """Some other seat's answer was illegal, bool `[match, seat, round]`."""
    illegal = (played.intended < 0) & played.alive[:, None, :]
    return np.asarray(illegal.sum(axis=1, keepdims=True) - illegal > 0)


def check_not_negative(name: str, value: float) -> None:
    """Raises `ComityError` for a size that must not be negative (0 may be)."""
    if not (value >= 0 and np.isfinite(value)):
        raise ComityError(f"{name} is a size and must not be negative, not {value}")
