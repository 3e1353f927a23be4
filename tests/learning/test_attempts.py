"""Answers that were accepted after others were rejected: what their gradient is of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from comity.errors import ComityError
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.training_batch import training_sequences
from comity.players.language_model.player import LanguageModelBackend
from comity.prompts.answers import Attempts
from comity.rollout.play import Rollout
from comity.train import uncorrected_fraction
from tests.players.answer_models import check_conversations, check_learning
from tests.worlds import dilemma, learner, play_matches, tiny_models

LABELS = ["t", "!"]
LIKELY = 7.0
"""Raises the labels' logits, so that half of the attempts can be read."""


def played(matches: int, rounds: int = 1, **answer: object) -> tuple[LanguageModelBackend, Rollout]:
    models = tiny_models(
        prompt={"name": "conversation", "labels": LABELS},
        answer={"name": "attempts", "free_attempts": 3, "claim_tokens": 1, **answer},
        noise=0.1,
    )
    head = models.engine.head
    head.bias = torch.zeros(head.vocabulary)
    head.bias[[models.chat.encode_answer(label)[0] for label in LABELS]] = LIKELY
    policy = learner(models)
    return models, play_matches(dilemma(rounds), (policy, policy), matches)


def score(models: LanguageModelBackend, rollout: Rollout) -> float:
    """Norm of the summed gradient of all log-probabilities that are learned from, per match."""
    for d in rollout.decisions:
        d.advantage = 1.0
    settings = LossSettings(normalization="sum", importance_cap=None)
    one = Learner(models.engine, "main", OptimizerSettings(), settings, 9)
    one.accumulate_gradients(training_sequences(rollout, "main", 1.0))
    found = torch.cat([p.grad.flatten() for p in one.parameters.values() if p.grad is not None])
    one.optimizer.zero_grad(set_to_none=True)
    return float(found.norm()) / len(rollout.played.alive)


@pytest.mark.parametrize("fallback", ["constrained", "illegal"])
@pytest.mark.parametrize("feedback", ["none", "append"])
def test_the_score_of_the_whole_act_is_nought_on_average(feedback: str, fallback: str) -> None:
    """The mean of a distribution's score is 0; what is learned from must be all that was drawn.

    With equal advantages nothing is to be learned. Without the failed attempts something is:
    to write what can be read, which nobody paid for.
    """
    how = {"retry_feedback": feedback, "fallback": fallback}
    whole = score(*played(400, train_attempts=True, **how))
    accepted = score(*played(400, train_attempts=False, **how))
    assert whole < accepted / 3


@pytest.mark.parametrize("feedback", ["none", "append"])
def test_failed_attempts_that_are_learned_from_stand_in_conversations(feedback: str) -> None:
    models, rollout = played(6, rounds=3, train_attempts=True, retry_feedback=feedback)
    check_conversations(rollout, models)
    failed = [d for d in rollout.decisions if d.kind == "attempt"]
    assert len(failed) > 5 and all(d.trained and d.conversation >= 0 for d in failed)
    assert check_learning(rollout, models) == sum(
        1 if answers else len(d.tokens)
        for d, answers in zip(rollout.decisions, rollout.answers, strict=True)
    )
    # What is played and recorded otherwise is the same.
    _, plain = played(6, rounds=3, retry_feedback=feedback)
    assert [d.text for d in plain.decisions] == [d.text for d in rollout.decisions]
    assert np.array_equal(plain.played.payoffs, rollout.played.payoffs)


def test_the_record_says_what_is_not_corrected() -> None:
    _, rollout = played(40)
    learned = [d for d in rollout.decisions if d.trained]
    assert all(d.kind != "attempt" for d in learned)
    share = float(np.mean([d.attempts > 1 for d in learned]))
    assert uncorrected_fraction(rollout.decisions) == {"uncorrected": share}
    assert share > 0.2
    assert uncorrected_fraction(played(40, train_attempts=True)[1].decisions) == {
        "uncorrected": 0.0
    }
    assert uncorrected_fraction(played(40, free_attempts=-1)[1].decisions) == {}
    assert uncorrected_fraction([replace(d, trained=False) for d in rollout.decisions]) == {}


def test_half_an_act_is_refused() -> None:
    with pytest.raises(ComityError, match="choose one of them"):
        Attempts(train_attempts=True, train_illegal=False)
