"""Asks every policy the same grid of questions and plays the published protocol.

`measure` collects the answers; `comity.evaluation.generalization.summary` turns them into one
JSON-ready mapping, every number with its n and, over training seeds, its interval. Neither knows
where a policy comes from: tests use policies without a model.

The base model is asked once under each of the policies' conditions (`QuestionConditions`) and on
each seat that a policy was trained on, so that every policy is compared with the base model's
answers to the same questions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from comity.evaluation.generalization.plan import Json, Plan, Subject, with_base_seats
from comity.evaluation.generalization.questions import Question, ask, batches
from comity.evaluation.generalization.sampled_play import SampledPlay, play


@dataclass
class Measurement:
    """Everything that was asked and played."""

    rows: list[Json] = field(default_factory=list)
    """The exact table: a cell, a policy and its probabilities each."""
    played: list[SampledPlay] = field(default_factory=list)


def measure(
    plan: Plan,
    subjects: Sequence[Subject],
    advance: Callable[[int], None] = lambda done: None,
) -> Measurement:
    """Ask and play everything.

    Base models are also asked on the seats of those who are compared with them (`with_base_seats`).
    `advance` is called with answered questions; `question_count` is their total. Questions that
    are the same are computed once.
    """
    measured, subjects = Measurement(), with_base_seats(subjects)
    bases = {(one.name, one.seat): one for one in subjects if one.untrained}
    known: dict[tuple[int, str], np.ndarray] = {}
    for subject in subjects:
        who = subject.policy
        for batch in batches(ask(plan.cells(subject), plan.every_game, plan.prompt)):
            new = {q.key: q for q in batch if (id(who), q.key) not in known}
            if new:
                for key, chance in zip(
                    new, who.answer_probabilities(list(new.values())), strict=True
                ):
                    known[id(who), key] = chance
            measured.rows += [_row(subject, q, known[id(who), q.key]) for q in batch]
            advance(len(batch))
        base_policy = None if subject.untrained else bases[subject.base, subject.seat].policy
        measured.played += play(plan, subject, base_policy, advance)
    return measured


def question_count(plan: Plan, subjects: Sequence[Subject]) -> int:
    """Questions that `measure` will have answered."""
    played = len(plan.settings) * len(plan.play_seeds) * plan.episodes * plan.rounds
    return sum(len(plan.cells(s)) + played for s in with_base_seats(subjects))


def _row(subject: Subject, question: Question, chance: np.ndarray) -> Json:
    """A line of the exact table."""
    mass, ended = chance.sum(axis=0)
    return {
        "policy": subject.name,
        "training_seed": subject.seed,
        **question.cell.as_dict(),
        "temperature": subject.conditions.temperature,
        "question": question.key,
        "label_cooperate": question.labels[0],
        "label_defect": question.labels[1],
        "p_cooperate": float(chance[0, 0]),
        "p_defect": float(chance[1, 0]),
        "p_cooperate_then_end": float(chance[0, 1]),
        "p_defect_then_end": float(chance[1, 1]),
        # A model that never says either is on no side.
        "p_cooperate_given_legal": float(chance[0, 0] / mass) if mass > 0 else 0.5,
        "p_legal": float(mass),
        "p_legal_then_end": float(ended),
    }
