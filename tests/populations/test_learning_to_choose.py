"""The default model can learn from the selection prompt whom to choose."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from comity.engines.chat import ChatFormat
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model, load_tokenizer
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.training_batch import TrainedDecision, TrainingSequence
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.populations.agents.language_model_answers import Answer, AnswerSampler, Question
from comity.populations.base import COOPERATE
from comity.prompts import ANSWERS, PROMPTS
from comity.prompts.matrix.partner_choice import PartnerChoice
from comity.registry import build
from tests.worlds import DEVICE, dilemma

DISPLAYS = [latest for latest in product((0, 1), repeat=3) if 0 < sum(latest) < 3]
"""Latest moves of three candidates, cooperators and defectors among them."""
STEPS = 6


def exact_sequences(answers: list[Answer], rewards: np.ndarray) -> list[TrainingSequence]:
    """Every answer to every question, weighted so that their gradient is that of E[reward]."""
    found = []
    for answer, reward in zip(answers, rewards, strict=True):
        p = answer.probabilities
        for k, tokens in enumerate(answer.answers):
            decision = TrainedDecision(
                start=answer.start,
                tokens=tokens,
                answers=answer.answers,
                behavior=(float(np.log(p[k])),),
                advantage=float(p[k] * (reward[k] - p @ reward)),
                kind="select",
            )
            found.append(TrainingSequence((*answer.ids[: answer.start], *tokens), (decision,)))
    return found


@pytest.mark.slow
def test_the_default_model_learns_to_choose_cooperators(smollm2: Path) -> None:
    """In a few exact policy-gradient steps.

    With the moves behind the labels, it does not.
    """
    engine = Engine(load_model(str(smollm2), "auto", DEVICE))
    engine.adapters.add("main", rank=16, alpha=32, seed=1)
    chat = ChatFormat.from_tokenizer(load_tokenizer(str(smollm2)))
    answer = build("answer", {"name": "constrained"}, ANSWERS)
    prompt = build("prompt", {"name": "structured"}, PROMPTS)
    policy = Policy("main", LanguageModelBackend(engine, chat, prompt, answer), "main", 1.0)
    names = ("action1", "action2")

    def questions(number: int) -> tuple[list[Question], np.ndarray]:
        """12 questions with new labels and orders, and whether each label is a cooperator's."""
        found, rewards = [], []
        for n, latest in enumerate(DISPLAYS * 2):
            one = PartnerChoice().question(dilemma(1), names, latest, (1, number, n))
            found.append(Question(policy, one.text, one.labels, (1, number, n)))
            rewards.append([float(latest[i] == COOPERATE) for i in one.candidates])
        return found, np.array(rewards)

    learner = Learner(
        engine, "main", OptimizerSettings(learning_rate=1e-3), LossSettings(), STEPS, 4096
    )

    def chosen() -> float:
        """P(a cooperator is chosen); half of all candidates are."""
        asked, rewards = questions(STEPS)
        probabilities = np.array(AnswerSampler().probabilities(asked))
        return float((probabilities * rewards).sum(axis=1).mean())

    assert chosen() < 0.6
    for step in range(STEPS):
        asked, rewards = questions(step)
        learner.update(exact_sequences(AnswerSampler().ask(asked), rewards))
    assert chosen() > 0.9
