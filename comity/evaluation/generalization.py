"""What training has taught beyond the prompt that it was done on: from questions to numbers.

`measure` asks every subject the same grid of questions and plays the published protocol;
`comity.evaluation.generalization_summary` turns the answers into one JSON-ready mapping, every
number with its interval and its n. Neither knows where a policy comes from, so a fake one is
as good as a model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from comity.evaluation.executed import Course, course, follow
from comity.evaluation.moral import (
    Answered,
)
from comity.evaluation.questions import (
    Cell,
    Grid,
    MakePrompt,
    Question,
    ask,
    batches,
    fitting,
    structured_prompt,
)
from comity.evaluation.respondents import Respondent
from comity.games.base import Game
from comity.games.randomness import generator
from comity.prompts.answers import parse, parse_lenient

BASE = "base"
"""Name of the untrained model."""
RESAMPLES = 1000

Json = dict[str, Any]


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

    def grid(self, seat: int = 0) -> Grid:
        return Grid(
            tuple(self.games), self.dilemma, self.label_sets, self.layouts, self.orders, seat,
            fitting(self.games[self.dilemma]),
        )  # fmt: skip

    def cells(self, subject: Subject) -> list[Cell]:
        """Everything that a subject is asked for exact probabilities."""
        grid = self.grid(subject.seat)
        extra = grid.personas() if subject.name == BASE else []
        return [*grid.table(), *grid.framings(), *grid.off_task(), *extra]


@dataclass(frozen=True)
class Played:
    """One subject's sampled answers, and the base model's to the very same prompts."""

    subject: Subject
    game: str
    seed: int
    """Evaluation seed."""
    strict: Answered
    lenient: np.ndarray
    """int `[N]`: the moves under the lenient reading."""
    base: Answered | None
    base_lenient: np.ndarray | None


@dataclass
class Measured:
    """Everything that was asked and played."""

    rows: list[Json] = field(default_factory=list)
    """The exact table: a cell, a policy and its probabilities each."""
    played: list[Played] = field(default_factory=list)


def measure(
    plan: Plan,
    subjects: Sequence[Subject],
    advance: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Ask and play everything; `subjects[0]` is the base model.

    `advance` is told of answered questions; `work` says how many there will be.
    """
    measured = Measured()
    base = subjects[0]
    for subject in subjects:
        questions = ask(plan.cells(subject), plan.games, plan.prompt)
        for batch in batches(questions):
            chances = subject.respondent.chances(batch)
            measured.rows += [
                _row(subject, question, chance)
                for question, chance in zip(batch, chances, strict=True)
            ]
            advance(len(batch))
        shadow = None if subject is base else base.respondent
        measured.played += _play(plan, subject, shadow, advance)
    return measured


def work(plan: Plan, subjects: Sequence[Subject]) -> int:
    """Questions that `measure` will have answered."""
    played = len(plan.games) * len(plan.play_seeds) * plan.episodes * plan.rounds
    return sum(len(plan.cells(s)) + played for s in subjects)


def _row(subject: Subject, question: Question, chance: np.ndarray) -> Json:
    """A line of the exact table."""
    mass, ended = chance.sum(axis=0)
    return {
        "policy": subject.name,
        "training_seed": subject.seed,
        **question.cell.as_dict(),
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


def _play(
    plan: Plan, subject: Subject, shadow: Respondent | None, advance: Callable[[int], None]
) -> list[Played]:
    """The published protocol in all games and seeds, all episodes side by side."""
    keys = list(product(plan.games, plan.play_seeds))
    drawn = [course(seed, plan.episodes, plan.rounds) for _, seed in keys]
    together = Course(
        np.concatenate([one.starts for one in drawn]),
        np.concatenate([one.opponent for one in drawn]),
    )
    owners = [(game, seed, e) for game, seed in keys for e in range(plan.episodes)]
    told: list[list[str]] = []
    shadowed: list[list[str]] = []
    labels: list[tuple[str, str]] = []

    def respond(own: np.ndarray, other: np.ndarray, number: int) -> np.ndarray:
        cells, streams = [], []
        for (game, seed, episode), a, b in zip(owners, own, other, strict=True):
            orders = generator(seed, "generalization", "orders", game, episode, number)
            mention, answer = (plan.orders[int(orders.integers(len(plan.orders)))] for _ in "12")
            state = "CD"[a] + "CD"[b]
            cells.append(
                Cell(game, state, labels=plan.play_labels, mention=mention, answer=answer,
                     seat=subject.seat)
            )  # fmt: skip
            streams.append(("generalization", "answer", game, episode, number))
        questions = ask(cells, plan.games, plan.prompt)
        labels[:] = [question.labels for question in questions]

        def replies(who: Respondent) -> list[str]:
            rngs = [generator(o[1], *s) for o, s in zip(owners, streams, strict=True)]
            return who.replies(questions, rngs)

        told.append(replies(subject.respondent))
        if shadow is not None:
            shadowed.append(replies(shadow))
        advance(len(questions))
        return _read(told[-1], labels, parse)

    strict = follow(together, respond)
    answers = {
        (name, how.__name__): np.stack(
            [_read(texts, labels, how) for texts in rounds], axis=1
        ).reshape(-1)
        for name, rounds in (("own", told), ("base", shadowed))
        if rounds
        for how in (parse, parse_lenient)
    }
    played, size = [], plan.episodes * plan.rounds
    for number, (game, seed) in enumerate(keys):
        part = np.arange(number * size, (number + 1) * size)
        here = strict.part(part)
        base = None
        if shadowed:
            base = Answered(
                answers["base", "parse"][part], here.other, here.shown_own, here.shown_other
            )
        played.append(
            Played(
                subject=subject,
                game=game,
                seed=seed,
                strict=here,
                lenient=answers["own", "parse_lenient"][part],
                base=base,
                base_lenient=answers["base", "parse_lenient"][part] if shadowed else None,
            )
        )
    return played


def _read(
    texts: Sequence[str], labels: Sequence[tuple[str, str]], how: Callable[..., Any]
) -> np.ndarray:
    """int `[E]`: the moves that the texts are, -1 where illegal."""
    found = [how(text, pair) for text, pair in zip(texts, labels, strict=True)]
    return np.array([move if isinstance(move, int) else -1 for move in found])


# From answers to numbers
