"""The grid of questions that a policy is asked: every way of telling every state of a game.

A `Cell` names one question; `Question` adds its text. The same questions, word for word, go
to the base model and to every policy that was trained from it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from comity.errors import ComityError
from comity.evaluation.metrics import OUTCOMES
from comity.games.base import Game, Observation, Turn
from comity.prompts import PROMPTS
from comity.prompts.base import Prompt
from comity.prompts.framings import DILEMMAS, is_prisoners_dilemma
from comity.prompts.structured import told_stage
from comity.registry import build

LAYOUTS = ("original", "columns", "rows", "reversed")
LABEL_SETS = ("action34", "action12", "action21", "random")
FRAMINGS = ("structured", "prose", "story", "explicit")
"""Four ways to tell the prisoner's dilemma."""
OFF_TASK = ("action_only", "action_game", "action_game_state")
"""Prompts with the labels but without the dilemma."""
PERSONAS = ("utilitarian", "deontological")
GOALS = ("selfish", "neutral")
ORDERS = ("given", "reversed")
LABEL_LENGTH = 3
"""Characters of the random labels."""


@dataclass(frozen=True)
class Cell:
    """One question, by what it varies."""

    game: str
    state: str
    """Displayed moves, own first: one of CC, CD, DC, DD."""
    framing: str = "structured"
    labels: str = "action34"
    layout: str = "original"
    mention: str = "given"
    """Order in which the labels are first mentioned."""
    answer: str = "given"
    """Order in which the labels stand in the instruction how to answer."""
    goal: str = "selfish"
    persona: str | None = None
    seat: int = 0

    @property
    def telling(self) -> tuple[str, ...]:
        """What is the same in the four states of one policy table."""
        return (self.game, self.framing, self.labels, self.layout, self.mention, self.answer,
                self.goal, str(self.persona))  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Question:
    """A cell in words."""

    cell: Cell
    text: str
    labels: tuple[str, str]
    """What the moves are called, cooperation first."""


MakePrompt = Callable[[Cell], Prompt]
"""The prompt that tells a cell."""


def structured_prompt(cell: Cell, stream: tuple[int | str, ...] = (0, "generalization")) -> Prompt:
    """The prompt `structured` with everything that it can vary fixed as the cell says.

    `stream` identifies what is random in it: the letters of the label set `random`.
    """
    parameters: dict[str, Any] = {
        "name": "structured",
        "framing": cell.framing,
        "labels": cell.labels,
        "layout": cell.layout,
        "mention_order": cell.mention,
        "answer_order": cell.answer,
        "goal": cell.goal,
        "persona": cell.persona,
    }
    if cell.labels == "random":
        parameters["label_length"] = LABEL_LENGTH
    prompt: Prompt = build("prompt", parameters, PROMPTS)
    return prompt.varied(stream)


@dataclass(frozen=True)
class Grid:
    """All cells of an evaluation; the dilemma is `games[0]`'s or the given one."""

    games: tuple[str, ...]
    dilemma: str
    """The game of the framings, the off-task prompts and the personas."""
    label_sets: tuple[str, ...] = LABEL_SETS
    layouts: tuple[str, ...] = LAYOUTS
    orders: tuple[str, ...] = ORDERS
    seat: int = 0
    fitting: tuple[str, ...] = FRAMINGS[1:]
    """The framings whose words do not contradict the dilemma."""

    def table(self) -> list[Cell]:
        """Games x label sets x layouts x orders x states, under the prompt of the training.

        In the order that lets questions with a common beginning stand together.
        """
        return [
            Cell(game, state, labels=labels, layout=layout, mention=m, answer=a, seat=self.seat)
            for game, labels, layout, m, state, a in product(
                self.games, self.label_sets, self.layouts, self.orders, OUTCOMES, self.orders
            )
        ]

    def framings(self) -> list[Cell]:
        """The dilemma, told in every framing that fits it but the one that the table has."""
        return self._told(self.fitting)

    def off_task(self) -> list[Cell]:
        """The labels without the dilemma."""
        return self._told(OFF_TASK)

    def personas(self) -> list[Cell]:
        """The table's first telling with a persona before it; for the base model."""
        return [
            replace(cell, persona=persona, goal=goal)
            for persona, goal in product(PERSONAS, GOALS)
            for cell in self.table()
            if cell.layout == self.layouts[0] and cell.labels == self.label_sets[0]
        ]

    def _told(self, framings: Sequence[str]) -> list[Cell]:
        return [
            Cell(self.dilemma, state, framing, labels, "original", m, a, seat=self.seat)
            for framing, labels, m, state, a in product(
                framings, self.label_sets, self.orders, OUTCOMES, self.orders
            )
        ]


def fitting(game: Game) -> tuple[str, ...]:
    """The framings but `structured` whose words do not contradict the game's payoffs."""
    dilemma = is_prisoners_dilemma(told_stage(game))
    return tuple(one for one in FRAMINGS[1:] if dilemma or one not in DILEMMAS)


def ask(
    cells: Sequence[Cell],
    games: Mapping[str, Game],
    prompt: MakePrompt = structured_prompt,
) -> list[Question]:
    """The cells in words. `ComityError` where a game cannot be told."""
    questions = []
    made: dict[tuple[str, ...], Prompt] = {}
    for cell in cells:
        if cell.telling not in made:
            made[cell.telling] = prompt(cell)
        told, game = made[cell.telling], games[cell.game]
        labels = told.labels(game)
        if len(labels) != 2:
            raise ComityError(f"{cell.game}: the evaluation needs two moves, not {len(labels)}")
        questions.append(
            Question(cell, told.opening(game, turn(cell.state, cell.seat)), (labels[0], labels[1]))
        )
    return questions


def turn(state: str, seat: int) -> Turn:
    """A seat's first turn with this joint move on display (own move first in `state`)."""
    own, other = ("CD".index(letter) for letter in state)
    prior = (own, other) if seat == 0 else (other, own)
    return Turn(seat, 0, 0, "choose", (0, 1), Observation(seat, 2, 0, (), prior))


def batches(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """Neighbors that share a game, a framing, labels and layout: one pass of an engine each."""
    batch: list[Question] = []
    for question in questions:
        if batch and _kind(batch[-1].cell) != _kind(question.cell):
            yield batch
            batch = []
        batch.append(question)
    if batch:
        yield batch


def _kind(cell: Cell) -> tuple[str, ...]:
    return (cell.game, cell.framing, cell.labels, cell.goal, str(cell.persona))
