"""The grid of questions: every state of a game in every prompt variant.

A `Cell` names one question; `Question` adds its text. The same questions, word for word, go
to the base model and to every policy that was trained from it: those of the published study, in
the prompt `structured`, and those in the prompt that the policy was trained in.

Two cells may come to the same question (a story that mentions its labels in a fixed order, an
off-task prompt that shows no state): `Question.key` says which are.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from comity.errors import ComityError
from comity.evaluation.metrics import OUTCOMES
from comity.games.base import Game, Observation, Round, Turn
from comity.games.matrix.iterated import Iterated
from comity.prompts import PROMPTS
from comity.prompts.base import Prompt
from comity.prompts.matrix.framings import DILEMMAS, is_prisoners_dilemma
from comity.prompts.matrix.structured import two_by_two_stage
from comity.registry import build

LAYOUTS = ("original", "columns", "rows", "reversed")
LABEL_SETS = ("action34", "action12", "action21", "random")
FRAMINGS = ("structured", "prose", "story", "explicit")
"""Four framings of the prisoner's dilemma."""
OFF_TASK = ("action_only", "action_game", "action_game_state")
"""Prompts with the labels but without the dilemma."""
PERSONAS = ("utilitarian", "deontological")
GOALS = ("selfish", "neutral")
ORDERS = ("given", "reversed")
RANDOM_LABELS = {"random": 3, "random2": 2, "random7": 7}
"""Names of label sets that are drawn, and how many characters their labels have."""
AS_TRAINED = "as trained"
"""In place of a framing: the prompt that a policy was trained in."""
START = "start"
"""The state in which nothing is on display."""
DRAWS = 8
"""How often a trained prompt that draws its labels, layout or orders is drawn."""


@dataclass(frozen=True)
class Cell:
    """One question, by what it varies."""

    game: str
    state: str
    """Displayed moves, own first: one of CC, CD, DC, DD; with the trained prompt also start."""
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
    prompt: str = ""
    """Of `AS_TRAINED`: what the trained prompt is called."""
    draw: int = 0
    """Of `AS_TRAINED`: which draw of what the prompt leaves to chance."""

    @property
    def prompt_variant(self) -> tuple[Any, ...]:
        """What is the same in the four states of one policy table; the game comes first."""
        return (self.game, self.framing, self.labels, self.layout, self.mention, self.answer,
                self.goal, self.persona, self.seat, self.prompt, self.draw)  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Question:
    """A cell in words."""

    cell: Cell
    text: str
    labels: tuple[str, str]
    """What the moves are called, cooperation first."""
    before: tuple[tuple[str, str], ...] = ()
    """Earlier turns of the conversation: what was asked, and the label that was answered."""

    @property
    def key(self) -> str:
        """The same for questions that are the same: texts, labels and what these mean."""
        parts = [text for turn in self.before for text in turn]
        return hashlib.sha256("\0".join([*parts, self.text, *self.labels]).encode()).hexdigest()[
            :16
        ]


MakePrompt = Callable[[Cell], Prompt]
"""The prompt that renders a cell."""


def structured_prompt(cell: Cell, stream: tuple[int | str, ...] = (0, "generalization")) -> Prompt:
    """The prompt `structured` with everything that it can vary fixed as the cell says.

    `stream` identifies what is random in it: the letters of the label set `random`.
    """
    parameters: dict[str, Any] = {
        "name": "structured",
        "framing": cell.framing,
        "labels": "random" if cell.labels in RANDOM_LABELS else cell.labels,
        "layout": cell.layout,
        "mention_order": cell.mention,
        "answer_order": cell.answer,
        "goal": cell.goal,
        "persona": cell.persona,
    }
    if cell.labels in RANDOM_LABELS:
        parameters["label_length"] = RANDOM_LABELS[cell.labels]
    prompt: Prompt = build("prompt", parameters, PROMPTS)
    return prompt.sample_variant(stream)


def cell_prompts(trained: Mapping[str, Prompt]) -> MakePrompt:
    """`structured_prompt`, and for cells `AS_TRAINED` the prompt of that name, drawn anew."""

    def make(cell: Cell) -> Prompt:
        if cell.framing == AS_TRAINED:
            return trained[cell.prompt].sample_variant((0, "generalization", AS_TRAINED, cell.draw))
        return structured_prompt(cell)

    return make


@dataclass(frozen=True)
class Grid:
    """All cells of an evaluation; the dilemma is `games[0]`'s or the given one."""

    games: tuple[str, ...]
    dilemma: str
    """The game of the framings, the off-task prompts and the personas."""
    label_sets: tuple[str, ...] = LABEL_SETS
    layouts: tuple[str, ...] = LAYOUTS
    orders: tuple[str, ...] = ORDERS
    goal: str = "selfish"
    persona: str | None = None
    seat: int = 0
    fitting: tuple[str, ...] = FRAMINGS[1:]
    """The framings whose words do not contradict the dilemma."""
    trained: str = ""
    """Name of the prompt of the training; empty: it is not asked in."""
    draws: int = 1
    """How often that is drawn."""
    trained_games: tuple[str, ...] = ()
    """The games that it can render."""

    def table(self) -> list[Cell]:
        """Games x label sets x layouts x orders x states, under the prompt of the training.

        In the order that lets questions with a common beginning stand together.
        """
        return [
            Cell(
                game, state, "structured", labels, layout, m, a, self.goal, self.persona, self.seat
            )
            for game, labels, layout, m, state, a in product(
                self.games, self.label_sets, self.layouts, self.orders, OUTCOMES, self.orders
            )
        ]

    def framings(self) -> list[Cell]:
        """The dilemma in every fitting framing except that of the table."""
        return self._dilemma_cells(self.fitting)

    def off_task(self) -> list[Cell]:
        """The labels without the dilemma."""
        return self._dilemma_cells(OFF_TASK)

    def personas(self) -> list[Cell]:
        """The table under its first labels, in all layouts, with a persona; for the base model."""
        return [
            replace(cell, persona=persona, goal=goal)
            for persona, goal in product(PERSONAS, GOALS)
            for cell in self.table()
            if cell.labels == self.label_sets[0]
        ]

    def as_trained(self) -> list[Cell]:
        """The games in the prompt of the training, from nothing and in every state."""
        if not self.trained:
            return []
        return [
            Cell(game, state, AS_TRAINED, AS_TRAINED, AS_TRAINED, AS_TRAINED, AS_TRAINED,
                 AS_TRAINED, None, self.seat, self.trained, draw)
            for game, draw, state in product(
                self.trained_games or self.games, range(self.draws), (START, *OUTCOMES)
            )
        ]  # fmt: skip

    def _dilemma_cells(self, framings: Sequence[str]) -> list[Cell]:
        return [
            Cell(self.dilemma, state, framing, labels, "original", m, a, self.goal, self.persona,
                 self.seat)
            for framing, labels, m, state, a in product(
                framings, self.label_sets, self.orders, OUTCOMES, self.orders
            )
        ]  # fmt: skip


def fitting(game: Game) -> tuple[str, ...]:
    """The framings but `structured` whose words do not contradict the game's payoffs."""
    dilemma = is_prisoners_dilemma(two_by_two_stage(game))
    return tuple(one for one in FRAMINGS[1:] if dilemma or one not in DILEMMAS)


def ask(
    cells: Sequence[Cell],
    games: Mapping[str, Game],
    prompt: MakePrompt = structured_prompt,
) -> list[Question]:
    """The cells as prompts. `ComityError` if a game cannot be rendered."""
    questions = []
    made: dict[tuple[Any, ...], Prompt] = {}
    for cell in cells:
        if cell.prompt_variant not in made:
            made[cell.prompt_variant] = prompt(cell)
        rendered, game = made[cell.prompt_variant], games[cell.game]
        labels = rendered.labels(game)
        if len(labels) != 2:
            raise ComityError(f"{cell.game}: the evaluation needs two moves, not {len(labels)}")
        named, now = (labels[0], labels[1]), turn(cell.state, cell.seat)
        before: tuple[tuple[str, str], ...] = ()
        text = rendered.opening(game, now)
        if not rendered.single_turn and cell.state != START:
            # A conversation comes to a state by the round before it.
            own = named["CD".index(cell.state[0])]
            before = ((rendered.opening(game, turn(START, cell.seat)), own),)
            text = rendered.following(game, after(game, now))
        questions.append(Question(cell, text, named, before))
    return questions


def turn(state: str, seat: int) -> Turn:
    """A seat's first turn with this joint move on display (own move first in `state`)."""
    prior = None
    if state != START:
        own, other = ("CD".index(letter) for letter in state)
        prior = (own, other) if seat == 0 else (other, own)
    return Turn(seat, 0, 0, "choose", (0, 1), Observation(seat, 2, 0, (), prior))


def after(game: Game, shown: Turn) -> Turn:
    """The second turn, with what a first one has on display as the round in between."""
    moves = shown.observation.prior
    assert moves is not None and isinstance(game, Iterated)
    played = Round(moves, moves, game.stage.payoff(moves))
    known = replace(shown.observation, round=1, history=(played,), prior=None)
    return replace(shown, round=1, observation=known)


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


def _kind(cell: Cell) -> tuple[Any, ...]:
    return (cell.game, cell.framing, cell.labels, cell.goal, cell.persona, cell.prompt)
