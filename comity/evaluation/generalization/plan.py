"""What an evaluation of generalization asks and plays.

- `QuestionConditions`: goal, persona, temperature and system prompt, as in a policy's training.
- `Subject`: one policy under one training seed.
- `PlaySetting`: a game, a framing and an opponent of sampled play.
- `Plan`: all games, label sets, layouts, prompts and opponents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from comity.errors import ComityError
from comity.evaluation.generalization.policies import EvaluatedPolicy
from comity.evaluation.generalization.questions import (
    DRAWS,
    START,
    Cell,
    Grid,
    MakePrompt,
    fitting,
    structured_prompt,
    turn,
)
from comity.games.base import Game
from comity.players.scripted.catalog import Strategy
from comity.prompts.base import Prompt

BASE = "base"
"""Name of the untrained model."""
RANDOM = "random"
"""The opponent of the published protocol."""

Json = dict[str, Any]


@dataclass(frozen=True)
class QuestionConditions:
    """How a policy is asked: as it was trained."""

    goal: str = "selfish"
    """Of the prompt `structured`: one of its goals, or a sentence."""
    persona: str | None = None
    temperature: float = 1.0
    system: str | None = None
    """System prompt; None: the chat template's own."""
    prompt: str = ""
    """Name of the trained prompt among the plan's `prompts`; empty: it is not asked in."""


@dataclass(frozen=True)
class Subject:
    """One policy under one training seed."""

    name: str
    """Shared by the seeds of an arm."""
    policy: EvaluatedPolicy
    seed: int | None = None
    """Training seed; None: untrained."""
    seat: int = 0
    """The seat that it was trained on."""
    conditions: QuestionConditions = QuestionConditions()
    base: str = BASE
    """Name of the untrained model that is asked in the same way; its own name if it is that."""

    @property
    def untrained(self) -> bool:
        """It is a base model itself."""
        return self.name == self.base


@dataclass(frozen=True)
class PlaySetting:
    """Game, framing and opponent of sampled play."""

    game: str
    framing: str
    opponent: str


@dataclass(frozen=True)
class Plan:
    """How much is asked and played."""

    games: Mapping[str, Game]
    dilemma: str
    """The game of framings, off-task prompts and personas; one of `games`."""
    label_sets: tuple[str, ...]
    layouts: tuple[str, ...]
    orders: tuple[str, ...]
    play_seeds: tuple[int, ...]
    episodes: int
    rounds: int
    prompt: MakePrompt = structured_prompt
    play_labels: str = "action34"
    prompts: Mapping[str, Prompt] = field(default_factory=dict)
    """The prompts of the trainings, by name; `prompt` renders cells in them."""
    trained_on: Mapping[str, Game] = field(default_factory=dict)
    """Games of the trainings beyond `games`; asked about in the trained prompts alone."""
    opponents: Mapping[str, Strategy] = field(default_factory=dict)
    """Scripts that are played against as well as Random, by name."""
    play_framings: tuple[str, ...] = ()
    """Further framings and off-task prompts in which the dilemma is played."""

    @property
    def every_game(self) -> dict[str, Game]:
        """The games of the grid and of the trainings."""
        return {**self.games, **self.trained_on}

    def grid(self, subject: Subject) -> Grid:
        asked, prompt = subject.conditions, self.prompts.get(subject.conditions.prompt)
        return Grid(
            tuple(self.games),
            self.dilemma,
            self.label_sets,
            self.layouts,
            self.orders,
            goal=asked.goal,
            persona=asked.persona,
            seat=subject.seat,
            fitting=fitting(self.games[self.dilemma]),
            trained=asked.prompt,
            draws=DRAWS if prompt is not None and prompt.random_parameters else 1,
            trained_games=() if prompt is None else self._games_of(prompt, subject.seat),
        )

    def _games_of(self, prompt: Prompt, seat: int) -> tuple[str, ...]:
        """The games that a trained prompt can render."""
        found = []
        for name, game in self.every_game.items():
            try:
                if len(prompt.labels(game)) == 2:
                    prompt.opening(game, turn(START, seat))
                    found.append(name)
            except ComityError:
                continue
        return tuple(found)

    def cells(self, subject: Subject) -> list[Cell]:
        """Everything that a subject is asked for exact probabilities."""
        grid = self.grid(subject)
        extra = grid.personas() if subject.untrained and subject.conditions.persona is None else []
        return [
            *grid.table(), *grid.framings(), *grid.off_task(), *extra, *grid.as_trained(),
        ]  # fmt: skip

    @property
    def settings(self) -> list[PlaySetting]:
        """Everything that is played, by game, opponent and framing."""
        own = [PlaySetting(game, "structured", RANDOM) for game in self.games]
        others = [
            PlaySetting(g, "structured", other) for other in self.opponents for g in self.games
        ]
        framed = [PlaySetting(self.dilemma, framing, RANDOM) for framing in self.play_framings]
        return [*own, *others, *framed]


def with_base_seats(subjects: Sequence[Subject]) -> list[Subject]:
    """The subjects, with the base models also on every seat that a policy is measured on."""
    found = list(subjects)
    bases = {subject.name: subject for subject in subjects if subject.untrained}
    there = {(subject.name, subject.seat) for subject in subjects if subject.untrained}
    for subject in subjects:
        if (subject.base, subject.seat) not in there:
            there.add((subject.base, subject.seat))
            # Behind its other seats, so that all untrained ones come first.
            place = max(i for i, one in enumerate(found) if one.name == subject.base)
            found.insert(place + 1, replace(bases[subject.base], seat=subject.seat))
    return found
