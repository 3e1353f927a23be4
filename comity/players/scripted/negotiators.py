"""Negotiators: strategies for split games with a claim rule.

Each sends one true sentence when a message is due: its hand, or its values. When it may claim
instead of writing, it claims. It ignores the messages of others. Rules know the values of all
seats, even if the game hides them; they are defined in `comity.games.split.claim_rules`, their
expected payoffs in `comity.games.split.expected_payoffs`.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.games.base import Claim, Game, Reply, Turn
from comity.games.split.claim_rules import (
    ClaimDistribution,
    ClaimRule,
    ConstantClaim,
    Greedy,
    UniformRandom,
    WelfareMaximizing,
    at_least_as_valuable,
)
from comity.games.split.game import Split
from comity.games.split.payment import ACCEPT, REJECT
from comity.games.split.state import SplitObservation


@dataclass(frozen=True)
class Negotiator:
    """A strategy for split games; subclasses define its claim rule."""

    kinds: ClassVar[tuple[str, ...]] = ("message", "talk", "claim", "respond")
    """Kinds of turns that it supports (`comity.games.base.KINDS`)."""

    def rule(self, known: SplitObservation) -> ClaimRule:
        """The rule for its claim now and for responses."""
        raise NotImplementedError

    def reply(self, turn: Turn, game: Game, rng: np.random.Generator) -> Reply:
        """A message, a claim or a response; `rng` is used only if the rule is stochastic.

        If it sees the claims of all others and claims must add up exactly, it claims the rest
        where its rule accepts the rest, and else follows its rule.
        """
        known = turn.observation
        if not isinstance(known, SplitObservation) or not isinstance(game, Split):
            raise ValueError(f"{type(self).__name__} plays split games only")
        if turn.kind == "message":
            return self.message(known, game)
        values, stock = np.array([known.instance.values]), np.array([known.instance.stock])
        rule, rest = self.rule(known), known.rest
        accepts = False
        if rest is not None and min(rest) >= 0 and (turn.legal or game.payment == "exact"):
            chance = float(rule.accepts(values, stock, known.seat, np.array([rest]))[0])
            accepts = bool(chance if chance in (0, 1) else rng.random() < chance)
        if turn.legal:
            return ACCEPT if accepts else REJECT
        if accepts and rest is not None:
            return rest
        return _drawn(rule.claims(values, stock, known.seat), rng)

    def message(self, known: SplitObservation, game: Split) -> str:
        """A sentence about its hand or values, truncated at the game's limit."""
        if known.instance.hands:
            text = f"My hand is {known.instance.hands[known.seat]}."
        else:
            worth = [f"{item} {v:g}" for item, v in zip(game.items, known.values, strict=True)]
            text = f"This is what one of each is worth to me: {', '.join(worth)}."
        return text[: game.message_limit]


class WelfareMaximizer(Negotiator):
    """Claims the items that it values most, none that another seat values more, and halves ties.

    Odd units of a tie go to lower seats. It accepts any split with a positive joint payoff.
    """

    def rule(self, known: SplitObservation) -> ClaimRule:
        """Accepts any split with positive welfare."""
        return WelfareMaximizing()


class GreedyClaimer(Negotiator):
    """Claims everything; accepts any positive own payoff."""

    def rule(self, known: SplitObservation) -> ClaimRule:
        """Without regard to values."""
        return Greedy()


@dataclass(frozen=True)
class ConstantClaimer(Negotiator):
    """Claims the same number of units of every item; accepts if the rest is worth as much."""

    units: int = 5
    """Units of every item, at most the stock."""

    def __post_init__(self) -> None:
        ConstantClaim(self.units)  # raises for negative units

    def rule(self, known: SplitObservation) -> ClaimRule:
        """Without regard to values."""
        return ConstantClaim(self.units)


class TitForTatClaimer(Negotiator):
    """Claims the share of each item that the other claimed last; first maximizes welfare.

    If the other claimed p of q units in the last round in which claims counted, it claims p q' / q
    of q' units now, rounded to the nearest whole number, halves upwards; with several others, the
    largest of these. For an item that had no units then, it maximizes welfare. It accepts a payoff
    at least as high as that of its own claim.
    """

    def rule(self, known: SplitObservation) -> ClaimRule:
        """From the last round in which claims counted."""
        for played in reversed(known.history):
            others = [c for s, c in enumerate(played.claims) if s != known.seat and c is not None]
            if others:
                return Reciprocal(
                    tuple(max(claims) for claims in zip(*others, strict=True)),
                    played.instance.stock,
                )
        return WelfareMaximizingOnItsWorth()


class RandomClaimer(Negotiator):
    """Claims a uniformly random number of units of each item; accepts with probability 1/2."""

    def rule(self, known: SplitObservation) -> ClaimRule:
        """Without regard to values."""
        return UniformRandom()


@dataclass(frozen=True)
class WelfareMaximizingOnItsWorth(WelfareMaximizing):
    """Claims as `WelfareMaximizing`; accepts at least the value of that claim."""

    def accepts(
        self, values: np.ndarray, stock: np.ndarray, seat: int, rest: np.ndarray
    ) -> np.ndarray:
        """1 where the rest is worth at least its own claim."""
        ((_, claim),) = self.claims(values, stock, seat)
        return at_least_as_valuable(values[:, seat], rest, claim)


@dataclass(frozen=True)
class Reciprocal(WelfareMaximizingOnItsWorth):
    """Claims the share of each item that was claimed before; see `TitForTatClaimer`."""

    claimed: Claim = ()
    of: Claim = ()
    """The stock at the time of that claim."""

    def claims(self, values: np.ndarray, stock: np.ndarray, seat: int) -> ClaimDistribution:
        """A deterministic claim."""
        before, claimed = np.array(self.of), np.array(self.claimed)
        scaled = (2 * claimed * stock + before) // np.maximum(2 * before, 1)
        ((chance, fresh),) = super().claims(values, stock, seat)
        return [(chance, np.where(before > 0, scaled, fresh))]


def _drawn(mixture: ClaimDistribution, rng: np.random.Generator) -> Claim:
    """A claim sampled from a distribution for one instance, item by item."""
    if len(mixture) == 1:
        return tuple(int(p) for p in mixture[0][1][0])
    chances = np.array([chance[0] for chance, _ in mixture])  # [C, I]
    claims = np.array([claim[0] for _, claim in mixture])
    return tuple(
        int(rng.choice(claims[:, item], p=chances[:, item])) for item in range(claims.shape[1])
    )
