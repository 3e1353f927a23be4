"""Sampled play of the evaluation: the published protocol, and the same against other scripts.

The starts are those of `comity.evaluation.moral.published_protocol`, and so are the moves of the
opponent Random. Any other opponent answers to what is on display, with a stream of its own per
decision. All episodes of a subject are played side by side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from comity.evaluation.generalization.policies import Respondent
from comity.evaluation.generalization.questions import Cell, ask
from comity.evaluation.moral.metrics import Answered
from comity.evaluation.moral.published_protocol import Course, course, follow
from comity.games.base import Game, Observation, Round, Turn
from comity.games.randomness import generator
from comity.players.scripted.catalog import Strategy
from comity.prompts.answers import parse, parse_lenient

if TYPE_CHECKING:
    from comity.evaluation.generalization.grid import Plan, Subject


@dataclass(frozen=True)
class Stage:
    """What is played, and how it is told."""

    game: str
    framing: str
    opponent: str


@dataclass(frozen=True)
class Played:
    """One subject's sampled answers, and the base model's to the very same prompts."""

    subject: "Subject"
    stage: Stage
    seed: int
    """Evaluation seed."""
    strict: Answered
    lenient: np.ndarray
    """int `[N]`: the moves under the lenient reading."""
    base: Answered | None
    base_lenient: np.ndarray | None


def play(
    plan: "Plan", subject: "Subject", shadow: Respondent | None, advance: Callable[[int], None]
) -> list[Played]:
    """All of the plan's stages under all evaluation seeds.

    `shadow` answers the same prompts, and nothing is done with its answers but keeping them.
    """
    keys = list(product(plan.stages, plan.play_seeds))
    drawn = [course(seed, plan.episodes, plan.rounds) for _, seed in keys]
    together = Course(
        np.concatenate([one.starts for one in drawn]),
        np.concatenate([one.opponent for one in drawn]),
    )
    owners = [(stage, seed, e) for stage, seed in keys for e in range(plan.episodes)]
    told: list[list[str]] = []
    shadowed: list[list[str]] = []
    labels: list[tuple[str, str]] = []

    def respond(own: np.ndarray, other: np.ndarray, number: int) -> np.ndarray:
        cells: list[Cell] = []
        streams: list[list[int | str]] = []
        for (stage, seed, episode), a, b in zip(owners, own, other, strict=True):
            place: list[int | str] = [*_named(stage), episode, number]
            orders = generator(seed, "generalization", "orders", *place)
            mention, answer = (plan.orders[int(orders.integers(len(plan.orders)))] for _ in "12")
            cells.append(
                Cell(stage.game, "CD"[a] + "CD"[b], stage.framing, plan.play_labels, "original",
                     mention, answer, subject.asked.goal, subject.asked.persona, subject.seat)
            )  # fmt: skip
            streams.append([seed, "generalization", "answer", *place])
        questions = ask(cells, plan.games, plan.prompt)
        labels[:] = [question.labels for question in questions]

        def replies(who: Respondent) -> list[str]:
            return who.replies(questions, [generator(*stream) for stream in streams])

        told.append(replies(subject.respondent))
        if shadow is not None:
            shadowed.append(replies(shadow))
        advance(len(questions))
        return _read(told[-1], labels, parse)

    def react(displayed: list[tuple[np.ndarray, np.ndarray]], number: int) -> np.ndarray:
        moves = together.opponent[:, number].copy()
        for e, (stage, seed, episode) in enumerate(owners):
            if stage.opponent in plan.opponents:
                shown = [(int(own[e]), int(other[e])) for own, other in displayed]
                rng = generator(seed, "generalization", "opponent", *_named(stage), episode, number)
                moves[e] = _reply(
                    plan.opponents[stage.opponent], plan.games[stage.game], 1 - subject.seat,
                    shown, rng,
                )  # fmt: skip
        return moves

    strict = follow(together, respond, react)
    answers = {
        (name, how.__name__): np.stack(
            [_read(texts, labels, how) for texts in rounds], axis=1
        ).reshape(-1)
        for name, rounds in (("own", told), ("base", shadowed))
        if rounds
        for how in (parse, parse_lenient)
    }
    played, size = [], plan.episodes * plan.rounds
    for number, (stage, seed) in enumerate(keys):
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
                stage=stage,
                seed=seed,
                strict=here,
                lenient=answers["own", "parse_lenient"][part],
                base=base,
                base_lenient=answers["base", "parse_lenient"][part] if shadowed else None,
            )
        )
    return played


def _named(stage: Stage) -> tuple[str, ...]:
    """What tells the stage's random streams from those of others."""
    extra = [one for one in (stage.framing, stage.opponent) if one not in ("structured", "random")]
    return (stage.game, *extra)


def _reply(
    script: Strategy,
    game: Game,
    seat: int,
    shown: Sequence[tuple[int, int]],
    rng: np.random.Generator,
) -> int:
    """The script's move, who sees the fictitious moves and then those on display.

    `shown`: the subject's move first.
    """
    joints = [(own, other) if seat == 1 else (other, own) for own, other in shown]
    stage: Any = getattr(game, "stage")  # noqa: B009 (games of moves have one)
    rounds = tuple(Round(joint, joint, stage.payoff(joint)) for joint in joints[1:])
    known = Observation(seat, 2, len(rounds), rounds, joints[0])
    move = script.reply(Turn(seat, len(rounds), 0, "choose", (0, 1), known), game, rng)
    assert isinstance(move, int)
    return move


def _read(
    texts: Sequence[str], labels: Sequence[tuple[str, str]], how: Callable[..., Any]
) -> np.ndarray:
    """int `[E]`: the moves that the texts are, -1 where illegal."""
    found = [how(text, pair) for text, pair in zip(texts, labels, strict=True)]
    return np.array([move if isinstance(move, int) else -1 for move in found])
