"""What training has taught beyond the prompt that it was done on: from questions to numbers.

`measure` asks every subject the same grid of questions and plays the published protocol
(`comity.evaluation.generalization.sampled_play`); `comity.evaluation.generalization.summary` turns
the answers into one JSON-ready mapping, every number with its n and, over training seeds, its
interval. None of them knows where a policy comes from, so a fake one is as good as a model.

A policy is asked as it was trained (`Asked`: goal, persona, temperature, system prompt), and the
base model once in each of these ways and from each seat that a policy was trained on: what a
policy is compared with is the base's answer to its very questions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.evaluation.generalization.policies import Respondent
from comity.evaluation.generalization.questions import (
    DRAWS,
    START,
    Cell,
    Grid,
    MakePrompt,
    Question,
    ask,
    batches,
    fitting,
    structured_prompt,
    turn,
)
from comity.evaluation.generalization.sampled_play import Played, Stage, play
from comity.games.base import Game
from comity.players.scripted.catalog import Strategy
from comity.prompts.base import Prompt

BASE = "base"
"""Name of the untrained model."""
RANDOM = "random"
"""The opponent of the published protocol."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
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
    respondent: Respondent
    seed: int | None = None
    """Training seed; None: untrained."""
    seat: int = 0
    """The seat that it was trained on."""
    asked: Asked = Asked()
    base: str = BASE
    """Name of the untrained model that is asked in the same way; its own name if it is that."""

    @property
    def untrained(self) -> bool:
        """It is a base model itself."""
        return self.name == self.base


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
    """The prompts of the trainings, by name; `prompt` tells cells in them."""
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
        asked, prompt = subject.asked, self.prompts.get(subject.asked.prompt)
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
            trained_games=() if prompt is None else self._told_in(prompt, subject.seat),
        )

    def _told_in(self, prompt: Prompt, seat: int) -> tuple[str, ...]:
        """The games that a trained prompt can tell."""
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
        extra = grid.personas() if subject.untrained and subject.asked.persona is None else []
        return [
            *grid.table(), *grid.framings(), *grid.off_task(), *extra, *grid.as_trained(),
        ]  # fmt: skip

    @property
    def stages(self) -> list[Stage]:
        """Everything that is played, by game, opponent and framing."""
        own = [Stage(game, "structured", RANDOM) for game in self.games]
        others = [Stage(g, "structured", other) for other in self.opponents for g in self.games]
        told = [Stage(self.dilemma, framing, RANDOM) for framing in self.play_framings]
        return [*own, *others, *told]


@dataclass
class Measured:
    """Everything that was asked and played."""

    rows: list[Json] = field(default_factory=list)
    """The exact table: a cell, a policy and its probabilities each."""
    played: list[Played] = field(default_factory=list)


def everyone(subjects: Sequence[Subject]) -> list[Subject]:
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


def measure(
    plan: Plan,
    subjects: Sequence[Subject],
    advance: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Ask and play everything.

    Base models are also asked on the seats of those who are compared with them (`everyone`).
    `advance` is told of answered questions; `work` says how many there will be. Questions that
    are the same are computed once.
    """
    measured, subjects = Measured(), everyone(subjects)
    bases = {(one.name, one.seat): one for one in subjects if one.untrained}
    known: dict[tuple[int, str], np.ndarray] = {}
    for subject in subjects:
        who = subject.respondent
        for batch in batches(ask(plan.cells(subject), plan.every_game, plan.prompt)):
            new = {q.key: q for q in batch if (id(who), q.key) not in known}
            if new:
                for key, chance in zip(new, who.chances(list(new.values())), strict=True):
                    known[id(who), key] = chance
            measured.rows += [_row(subject, q, known[id(who), q.key]) for q in batch]
            advance(len(batch))
        shadow = None if subject.untrained else bases[subject.base, subject.seat].respondent
        measured.played += play(plan, subject, shadow, advance)
    return measured


def work(plan: Plan, subjects: Sequence[Subject]) -> int:
    """Questions that `measure` will have answered."""
    played = len(plan.stages) * len(plan.play_seeds) * plan.episodes * plan.rounds
    return sum(len(plan.cells(s)) + played for s in everyone(subjects))


def _row(subject: Subject, question: Question, chance: np.ndarray) -> Json:
    """A line of the exact table."""
    mass, ended = chance.sum(axis=0)
    return {
        "policy": subject.name,
        "training_seed": subject.seed,
        **question.cell.as_dict(),
        "temperature": subject.asked.temperature,
        "question": question.key,
        "label_cooperate": question.labels[0],
        "label_defect": question.labels[1],
        "cooperate": float(chance[0, 0]),
        "defect": float(chance[1, 0]),
        "cooperate_ended": float(chance[0, 1]),
        "defect_ended": float(chance[1, 1]),
        # A model that never says either is on no side.
        "cooperation": float(chance[0, 0] / mass) if mass > 0 else 0.5,
        "legality": float(mass),
        "legality_ended": float(ended),
    }
