"""One part of each kind, as a researcher would write them into a file of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from comity.evaluation.tournament.metrics import TournamentMetric
from comity.evaluation.tournament.pair_matches import PairMatches
from comity.games.base import Game, Move, Observation, PlayedMatches, Turn
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.stages import MatrixStage
from comity.games.matrix.tables import DEFAULT_LENGTH, LengthChoice, make_length
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.learner import Learner
from comity.players.scripted.strategies import MatrixStrategy
from comity.prompts.base import LabelPrompt, labels_for
from comity.rewards.base import BaseReward
from comity.rollout.records import Decision


@dataclass(frozen=True)
class Toll:
    """A bridge: one who pays lets everybody pass.

    Another stage than the project's; only what `comity.games.matrix.stages.Stage` says.
    """

    fee: float = 2.0
    seats: int = 2
    title: ClassVar[str] = "Toll"
    moves: ClassVar[tuple[str, ...]] = ("pay", "dodge")

    def payoff(self, moves: tuple[Move, ...]) -> tuple[float, ...]:
        paid = 0 in moves
        return tuple(5.0 * paid - self.fee * (move == 0) for move in moves)


@dataclass(frozen=True)
class Ranks:
    """Three seats of different rank and three moves: who does what matters."""

    title: ClassVar[str] = "Ranks"
    seats: ClassVar[int] = 3
    moves: ClassVar[tuple[str, ...]] = ("low", "middle", "high")

    def payoff(self, moves: tuple[Move, ...]) -> tuple[float, ...]:
        return tuple(float(move * (seat + 1) - moves[0]) for seat, move in enumerate(moves))


@dataclass(frozen=True, kw_only=True)
class WorstOff(BaseReward):
    """Every seat is rewarded with the payoff of the seat that got least.

    Its parameters are called like those of other rewards and are something else.
    """

    formula: ClassVar[str] = "r[i] = weight * min over seats j of payoff[j]"
    published: ClassVar[str] = "ours"

    weight: float = 1.0
    beta: float = 7.0
    own: str = "text"
    others: tuple[int, ...] = (1, 2)
    penalty: float = -1.0
    bonus: str | None = None
    cooperate: int = 3
    constant: str = "no number"

    def value(self, played: PlayedMatches, game: Game) -> np.ndarray:
        return self.weight * played.payoffs.min(axis=1, keepdims=True)


@dataclass(frozen=True)
class Gradual(MatrixStrategy):
    """Cooperates more and more."""

    patience: float = 0.5

    def cooperation(self, observation: Observation, game: Game) -> float:
        return 1 - self.patience ** len(observation.history)


@dataclass(frozen=True)
class Plain(LabelPrompt):
    """Says next to nothing."""

    single_turn: ClassVar[bool] = True
    random_parameters: ClassVar[tuple[str, ...]] = ()
    greeting: str = "Hello."

    def sample_variant(self, stream: tuple[int | str, ...]) -> "Plain":
        return self

    def labels(self, game: Game) -> tuple[str, ...]:
        return labels_for(game, None, False)

    def opening(self, game: Game, turn: Turn) -> str:
        return f"{self.greeting} A or B?"

    def following(self, game: Game, turn: Turn) -> str:
        return self.opening(game, turn)


def hunt(prize: float, length: LengthChoice = DEFAULT_LENGTH) -> Iterated:
    """A stag hunt for a prize."""
    cells: Any = (((prize, prize), (0, 3)), ((3, 0), (1, 1)))
    return Iterated(MatrixStage("Hunt", ("stag", "hare"), cells), make_length(length))


def forgiveness(decisions: Sequence[Decision]) -> tuple[float, float]:
    """Cooperation right after another seat was seen to defect."""
    shown = [d for d in decisions if d.kind == "choose" and 1 in list(d.state)[1:]]
    return float(sum(d.move == 0 for d in shown)), float(len(shown))


def _last_round(m: PairMatches) -> np.ndarray:
    move = m.intended[np.arange(len(m)), 0, m.alive.sum(axis=1) - 1]
    return np.stack([move == 1, move >= 0], axis=1)


END_EFFECT = TournamentMetric(
    title="Defection in the last round",
    text="Defections among the legal answers in the last round of a match.",
    formula="#(not c_T) / #(legal_T)",
    source="ours",
    unit="share",
    bounds="share",
    needs="two moves",
    count=_last_round,
    better="low",
)


class Marking(Learner):
    """An update that says itself what its advantages were."""

    def update(self, sequences: Any, recording: Any = None) -> dict[str, Any]:
        row = super().update(sequences, recording)
        decisions = [one for sequence in sequences for one in sequence.decisions]
        self.mean_advantages = {one.source: 7.0 for one in decisions}
        return {**row, "marked": len(decisions)}


@dataclass(frozen=True)
class Marked(Reinforce):
    """REINFORCE with an update of its own."""

    def new_learner(self, *args: Any, **kwargs: Any) -> Learner:
        return Marking(*args, **kwargs)


REWARDS = {"worst_off": WorstOff}
STAGES = {"toll": Toll, "ranks": Ranks}
GAMES = {"hunt": hunt}
PLAYERS = {"gradual": Gradual}
PROMPTS = {"plain": Plain}
METRICS = {"forgiveness": forgiveness}
TOURNAMENT_METRICS = {"end_effect": END_EFFECT}
ALGORITHMS = {"marked": Marked}
