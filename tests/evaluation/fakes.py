"""A prompt and policies without a model, for the whole evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from comity.evaluation.generalization.plan import Plan, Subject
from comity.evaluation.generalization.questions import Cell, Question
from comity.games.base import Game, Turn
from tests.evaluation.dilemmas import GAMES


@dataclass(frozen=True)
class PlainPrompt:
    """Tells a cell by its own names."""

    single_turn: ClassVar[bool] = True
    random_parameters: ClassVar[tuple[str, ...]] = ()
    cell: Cell

    def sample_variant(self, stream: tuple[int | str, ...]) -> "PlainPrompt":
        return self

    def labels(self, game: Game) -> tuple[str, ...]:
        return ("action2", "action1") if self.cell.labels == "action21" else ("action1", "action2")

    def opening(self, game: Game, turn: Turn) -> str:
        return f"{self.cell.prompt_variant} {turn.observation.last} seat {turn.seat}"

    def following(self, game: Game, turn: Turn) -> str:
        return self.opening(game, turn)


@dataclass(frozen=True)
class Fake:
    """Cooperates with a probability that is a function of the cell; legal with `p_legal`."""

    cooperation: Callable[[Cell], float]
    p_legal: float = 1.0
    ended: float = 0.5
    asked: list[str] | None = None

    def answer_probabilities(self, questions: Sequence[Question]) -> np.ndarray:
        found = np.zeros((len(questions), 2, 2))
        for q, question in enumerate(questions):
            c = self.cooperation(question.cell)
            found[q, :, 0] = self.p_legal * np.array([c, 1 - c])
        found[:, :, 1] = found[:, :, 0] * self.ended
        return found

    def sample_answers(
        self, questions: Sequence[Question], streams: Sequence[np.random.Generator]
    ) -> list[str]:
        replies = []
        for question, stream in zip(questions, streams, strict=True):
            if self.asked is not None:
                self.asked.append(question.text)
            legal, side = stream.random(2)
            label = question.labels[0 if side < self.cooperation(question.cell) else 1]
            replies.append(f" {label}\n" if legal < self.p_legal else f"I pick {label}.")
        return replies


def base(cell: Cell) -> float:
    """Nearly indifferent."""
    return 0.6 if cell.mention == "given" else 0.5


def tit_for_tat(cell: Cell) -> float:
    return float(cell.state[1] == "C")


def wise(cell: Cell) -> float:
    """Cooperates unless agreeing on defection pays most."""
    return float(cell.game != "ICD")


def plan(**changes: Any) -> Plan:
    settings: dict[str, Any] = {
        "games": {name: GAMES[name] for name in ("IPD", "ISH", "ICD")},
        "dilemma": "IPD",
        "label_sets": ("action12", "action21"),
        "layouts": ("original", "rows"),
        "orders": ("given", "reversed"),
        "play_seeds": (100, 101),
        "episodes": 10,
        "rounds": 5,
        "prompt": PlainPrompt,
        "play_labels": "action12",
    }
    return Plan(**{**settings, **changes})


def subjects() -> list[Subject]:
    return [
        Subject("base", Fake(base, p_legal=0.25)),
        Subject("tft", Fake(tit_for_tat), 1),
        Subject("tft", Fake(tit_for_tat), 2),
        Subject("wise", Fake(wise), 1, seat=1),
    ]
