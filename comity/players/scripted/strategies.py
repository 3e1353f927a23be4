"""The classic strategies of the iterated prisoner's dilemma.

A strategy is a frozen value that defines its probability of cooperation given an observation;
`choose` samples from it, and exact enumeration reads it directly.

Conventions of all strategies:

- Move 0 is cooperation and move 1 defection; games with more moves are rejected.
- Strategies see the played moves, after trembles, not the intended ones.
- With more than two seats, "the others cooperated" means that all of them did.
- A seat that made no move (an illegal answer under some rules) did not cooperate.
- A fictitious joint move before round 0 (`Observation.prior`) counts as the last round.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from comity.errors import ComityError
from comity.games.base import Action, Game, Move, Observation, Turn
from comity.games.matrix.iterated import Iterated

COOPERATE: Move = 0
DEFECT: Move = 1


@dataclass(frozen=True)
class MatrixStrategy:
    """Base class; subclasses define the probability of cooperation."""

    kinds: ClassVar[tuple[str, ...]] = ("choose",)
    """Kinds of turns that it supports (`comity.games.base.KINDS`)."""

    def cooperation(self, observation: Observation, game: Game) -> float:
        """Probability of cooperating now."""
        raise NotImplementedError

    def probabilities(self, observation: Observation, game: Game) -> tuple[float, float]:
        """Probabilities of cooperation and defection; `ComityError` if the game has more moves."""
        if len(game.moves) != 2:
            raise ComityError(
                f"scripted players need a game with 2 moves, not {len(game.moves)}: "
                f"{', '.join(game.moves)}; choose other players (learner, base, run:FOLDER), or "
                "write one for this game (docs/how-to/add-a-part.md#a-player)"
            )
        cooperation = self.cooperation(observation, game)
        return cooperation, 1 - cooperation

    def choose(self, observation: Observation, game: Game, rng: np.random.Generator) -> Move:
        """A move; `rng` is used only if the strategy is stochastic."""
        cooperation, _ = self.probabilities(observation, game)
        if cooperation in (0, 1):
            return COOPERATE if cooperation else DEFECT
        return COOPERATE if rng.random() < cooperation else DEFECT

    def reply(self, turn: Turn, game: Game, rng: np.random.Generator) -> Move:
        """Its move."""
        return self.choose(turn.observation, game, rng)


def joint_moves(observation: Observation) -> list[tuple[Action, ...]]:
    """Joint moves seen so far, oldest first, the fictitious one included; `[round][seat]`."""
    prior = [] if observation.prior is None else [cast(tuple[Action, ...], observation.prior)]
    return prior + [played.moves for played in observation.history]


def others_cooperated(observation: Observation) -> list[bool]:
    """Whether all the others cooperated, per joint move seen so far, oldest first."""
    return [
        all(action == COOPERATE for action in observation.own_first(moves)[1:])
        for moves in joint_moves(observation)
    ]


class AlwaysCooperate(MatrixStrategy):
    """Cooperates always (Axelrod 1984)."""

    def cooperation(self, observation: Observation, game: Game) -> float:
        """1."""
        return 1.0


class AlwaysDefect(MatrixStrategy):
    """Defects always (Axelrod 1984)."""

    def cooperation(self, observation: Observation, game: Game) -> float:
        """0."""
        return 0.0


class TitForTat(MatrixStrategy):
    """Cooperates first, then does what the others did last (Rapoport; Axelrod 1980)."""

    def cooperation(self, observation: Observation, game: Game) -> float:
        """1 where nothing was played or the others cooperated last."""
        return float(all(others_cooperated(observation)[-1:]))


@dataclass(frozen=True)
class NoisyTitForTat(TitForTat):
    """Tit-for-tat that plays the other move with a small probability (Molander 1985)."""

    noise: float = 0.05
    """Probability of the other move."""

    def __post_init__(self) -> None:
        _check_probability("noise", self.noise)

    def cooperation(self, observation: Observation, game: Game) -> float:
        """Tit-for-tat's move with probability 1 - noise."""
        meant = super().cooperation(observation, game)
        return meant * (1 - self.noise) + (1 - meant) * self.noise


class SuspiciousTitForTat(MatrixStrategy):
    """Defects first, then does what the others did last (Boyd and Lorberbaum 1987)."""

    def cooperation(self, observation: Observation, game: Game) -> float:
        """1 where the others cooperated last."""
        return float(any(others_cooperated(observation)[-1:]))


@dataclass(frozen=True)
class GenerousTitForTat(MatrixStrategy):
    """Tit-for-tat that forgives a defection with some probability (Nowak and Sigmund 1992)."""

    generosity: float | None = None
    """Probability of cooperating after a defection; null: the largest that still deters
    always-defect, min(1 - (T-R)/(R-S), (R-P)/(T-P)), 1/3 for T/R/P/S = 5/3/1/0."""

    def __post_init__(self) -> None:
        if self.generosity is not None:
            _check_probability("generosity", self.generosity)

    def cooperation(self, observation: Observation, game: Game) -> float:
        """1 where nothing was played or the others cooperated last, else the generosity."""
        if all(others_cooperated(observation)[-1:]):
            return 1.0
        return deterring_generosity(game) if self.generosity is None else self.generosity


class TitForTwoTats(MatrixStrategy):
    """Defects only after two defections in a row (Axelrod 1980)."""

    def cooperation(self, observation: Observation, game: Game) -> float:
        """0 where the others failed to cooperate in both of the last two rounds."""
        last_two = others_cooperated(observation)[-2:]
        return float(len(last_two) < 2 or any(last_two))


class GrimTrigger(MatrixStrategy):
    """Cooperates until the others defect once, then defects for good (Friedman 1971)."""

    def cooperation(self, observation: Observation, game: Game) -> float:
        """1 as long as the others always cooperated."""
        return float(all(others_cooperated(observation)))


class WinStayLoseShift(MatrixStrategy):
    """Cooperates first and after equal moves (Pavlov; Nowak and Sigmund 1993)."""

    def cooperation(self, observation: Observation, game: Game) -> float:
        """1 where nothing was played or own and others' last moves agree."""
        if observation.last is None:
            return 1.0
        own = observation.last[observation.seat] == COOPERATE
        return float(own == others_cooperated(observation)[-1])


@dataclass(frozen=True)
class Random(MatrixStrategy):
    """Cooperates with a constant probability (Axelrod 1980)."""

    p: float = 0.5
    """Probability of cooperating."""

    def __post_init__(self) -> None:
        _check_probability("p", self.p)

    def cooperation(self, observation: Observation, game: Game) -> float:
        """`p`."""
        return self.p


class Alternator(MatrixStrategy):
    """Alternates between cooperation and defection, cooperation first (Axelrod 1984)."""

    def cooperation(self, observation: Observation, game: Game) -> float:
        """1 in even rounds."""
        return float(observation.round % 2 == 0)


def deterring_generosity(game: Game) -> float:
    """min(1 - (T-R)/(R-S), (R-P)/(T-P)) of a two-seat prisoner's dilemma (Nowak, Sigmund 1992)."""
    if isinstance(game, Iterated) and game.seats == 2:
        payoff = game.stage.payoff
        rows = {(payoff((a, b))[0], payoff((b, a))[1]) for a in (0, 1) for b in (0, 1)}
        r, s, t, p = (payoff(joint)[0] for joint in ((0, 0), (0, 1), (1, 0), (1, 1)))
        if all(own == mirrored for own, mirrored in rows) and t > r > p > s:
            return max(0.0, min(1 - (t - r) / (r - s), (r - p) / (t - p)))
    raise ComityError(
        "generous_tit_for_tat knows its generosity only in a two-seat prisoner's dilemma; "
        "give generosity a number between 0 and 1"
    )


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ComityError(f"{name} must lie between 0 and 1, not {value}")
