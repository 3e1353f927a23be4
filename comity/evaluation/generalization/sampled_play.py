"""Sampled play of the evaluation: the published protocol, and the same against other scripts.

The starts are those of `comity.evaluation.moral.published_protocol`, and so are the moves of the
opponent Random. Any other opponent answers to what is on display, with a stream of its own per
decision. All episodes of a subject are played side by side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from comity.evaluation.generalization.plan import Plan, PlaySetting, Subject
from comity.evaluation.generalization.policies import EvaluatedPolicy
from comity.evaluation.generalization.questions import Cell, ask
from comity.evaluation.moral.metrics import DecisionArrays
from comity.evaluation.moral.published_protocol import (
    ChanceOutcomes,
    chance_outcomes,
    play_episodes,
)
from comity.games.base import Game, Observation, Round, Turn
from comity.games.randomness import generator
from comity.players.scripted.catalog import Strategy
from comity.prompts.answers import parse, parse_lenient


@dataclass(frozen=True)
class SampledPlay:
    """One subject's sampled answers, and the base model's to the very same prompts."""

    subject: Subject
    setting: PlaySetting
    seed: int
    """Evaluation seed."""
    strict: DecisionArrays
    lenient: np.ndarray
    """int `[N]`: the moves under the lenient reading."""
    base: DecisionArrays | None
    base_lenient: np.ndarray | None


def play(
    plan: Plan,
    subject: Subject,
    base_policy: EvaluatedPolicy | None,
    advance: Callable[[int], None],
) -> list[SampledPlay]:
    """All of the plan's stages under all evaluation seeds.

    `base_policy` answers the same prompts, and nothing is done with its answers but keeping them.
    """
    conditions = subject.conditions
    keys = list(product(plan.settings, plan.play_seeds))
    drawn = [chance_outcomes(seed, plan.episodes, plan.rounds) for _, seed in keys]
    together = ChanceOutcomes(
        np.concatenate([one.starts for one in drawn]),
        np.concatenate([one.opponent for one in drawn]),
    )
    owners = [(setting, seed, e) for setting, seed in keys for e in range(plan.episodes)]
    answer_texts: list[list[str]] = []
    base_answers: list[list[str]] = []
    labels: list[tuple[str, str]] = []

    def respond(own: np.ndarray, other: np.ndarray, number: int) -> np.ndarray:
        cells: list[Cell] = []
        streams: list[list[int | str]] = []
        for (setting, seed, episode), a, b in zip(owners, own, other, strict=True):
            place: list[int | str] = [*_named(setting), episode, number]
            orders = generator(seed, "generalization", "orders", *place)
            mention, answer = (plan.orders[int(orders.integers(len(plan.orders)))] for _ in "12")
            cells.append(
                Cell(setting.game, "CD"[a] + "CD"[b], setting.framing, plan.play_labels, "original",
                     mention, answer, conditions.goal, conditions.persona, subject.seat)
            )  # fmt: skip
            streams.append([seed, "generalization", "answer", *place])
        questions = ask(cells, plan.games, plan.prompt)
        labels[:] = [question.labels for question in questions]

        def sampled(who: EvaluatedPolicy) -> list[str]:
            return who.sample_answers(questions, [generator(*stream) for stream in streams])

        answer_texts.append(sampled(subject.policy))
        if base_policy is not None:
            base_answers.append(sampled(base_policy))
        advance(len(questions))
        return _read(answer_texts[-1], labels, parse)

    def react(displayed: list[tuple[np.ndarray, np.ndarray]], number: int) -> np.ndarray:
        moves = together.opponent[:, number].copy()
        for e, (setting, seed, episode) in enumerate(owners):
            if setting.opponent in plan.opponents:
                shown = [(int(own[e]), int(other[e])) for own, other in displayed]
                rng = generator(
                    seed, "generalization", "opponent", *_named(setting), episode, number
                )
                moves[e] = _reply(
                    plan.opponents[setting.opponent], plan.games[setting.game], 1 - subject.seat,
                    shown, rng,
                )  # fmt: skip
        return moves

    strict = play_episodes(together, respond, react)
    answers = {
        (name, how.__name__): np.stack(
            [_read(texts, labels, how) for texts in rounds], axis=1
        ).reshape(-1)
        for name, rounds in (("own", answer_texts), ("base", base_answers))
        if rounds
        for how in (parse, parse_lenient)
    }
    played, size = [], plan.episodes * plan.rounds
    for number, (setting, seed) in enumerate(keys):
        part = np.arange(number * size, (number + 1) * size)
        here = strict.part(part)
        base = None
        if base_answers:
            base = DecisionArrays(
                answers["base", "parse"][part], here.other, here.shown_own, here.shown_other
            )
        played.append(
            SampledPlay(
                subject=subject,
                setting=setting,
                seed=seed,
                strict=here,
                lenient=answers["own", "parse_lenient"][part],
                base=base,
                base_lenient=answers["base", "parse_lenient"][part] if base_answers else None,
            )
        )
    return played


def _named(setting: PlaySetting) -> tuple[str, ...]:
    """Distinguishes the setting's random streams from those of others."""
    extra = [
        one for one in (setting.framing, setting.opponent) if one not in ("structured", "random")
    ]
    return (setting.game, *extra)


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
