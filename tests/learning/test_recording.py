"""Learning from the passes of playing: the same update, with nothing computed again."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from comity.engines.local import session
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.ppo.learner import PpoLearner
from comity.learning.ppo.objective import PpoSettings
from comity.players.base import Player
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.rollout.play import Rollout
from comity.train import training_sequences
from tests.worlds import dilemma, learner, play_matches, tiny_models

LIMIT = 5_000


@pytest.fixture(autouse=True)
def _small_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' games are so small that recording their passes would not be worth it."""
    monkeypatch.setattr(session, "MIN_TOKENS_PER_PASS", 0)


def recorded_play(
    architecture: str = "llama", answer: str = "constrained", record: int = LIMIT, **labels: Any
) -> tuple[LanguageModelBackend, Rollout]:
    prompt = {"name": "memory_one", **labels}
    models = tiny_models(architecture, prompt=prompt, answer={"name": answer})
    models = replace(models, record=record)
    policy = learner(models)
    rollout = play_matches(dilemma(3), (policy, policy), 3)
    for number, d in enumerate(rollout.decisions):
        d.reward = float(number % 3) - (2.0 if d.move == 1 else 0.0)
        d.advantage = d.reward
    return models, rollout


def gradient(one: Learner, rollout: Rollout, reuse: bool) -> tuple[torch.Tensor, int]:
    """Gradient of the first step, and how many tokens were computed for it."""
    one.optimizer_step = lambda loss: 0.0  # type: ignore[method-assign]
    computed = one._engine.tokens_computed
    one.update(training_sequences(rollout, "main", 1.0), rollout.recording if reuse else None)
    found = torch.cat([p.grad.flatten() for p in one._trainable_parameters() if p.grad is not None])
    for parameter in one._trainable_parameters():
        parameter.grad = None
    return found, one._engine.tokens_computed - computed


def make(kind: str, models: LanguageModelBackend, **settings: Any) -> Learner:
    optimizer = OptimizerSettings(learning_rate=1e-2, gradient_clip=None)
    if kind == "ppo":
        ppo = PpoSettings(**{"value_dropout": 0.0, "epochs": 1, "kl": 0.0, **settings})
        return PpoLearner(models.engine, "main", optimizer, LossSettings(), updates=9, ppo=ppo)
    return Learner(models.engine, "main", optimizer, LossSettings(), updates=9)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("answer", ["constrained", "free"])
@pytest.mark.parametrize("kind", ["reinforce", "ppo"])
def test_the_gradient_is_that_of_a_new_pass(kind: str, answer: str, architecture: str) -> None:
    models, rollout = recorded_play(architecture, answer, labels=["action1", "action22"])
    fresh, computed = gradient(make(kind, models), rollout, reuse=False)
    reused, nothing = gradient(make(kind, models), rollout, reuse=True)
    assert computed > 0
    assert nothing == 0
    torch.testing.assert_close(reused, fresh, atol=2e-5, rtol=1e-3)


def test_playing_is_the_same_while_it_is_recorded() -> None:
    _, plain = recorded_play(record=0)
    _, recorded = recorded_play()
    assert [d.move for d in recorded.decisions] == [d.move for d in plain.decisions]
    for one, other in zip(recorded.decisions, plain.decisions, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_later_epochs_read_anew() -> None:
    """Four full-batch epochs: the first reading and the first step cost nothing."""
    models, rollout = recorded_play()
    _, once = gradient(make("ppo", models), rollout, reuse=False)
    one = make("ppo", models, epochs=4)
    computed = models.engine.tokens_computed
    row = one.update(training_sequences(rollout, "main", 1.0), rollout.recording)
    assert row["steps"] == 4
    assert models.engine.tokens_computed - computed == 3 * once


def test_a_recording_is_used_once() -> None:
    models, rollout = recorded_play()
    recording = rollout.recording
    assert recording is not None
    assert recording.has_recorded("main")
    gradient(make("reinforce", models), rollout, reuse=True)
    assert not recording.has_recorded("main")


def test_too_many_tokens_end_the_recording() -> None:
    """The rollout goes on as ever, and the learner reads for itself."""
    models, rollout = recorded_play(record=60)
    assert rollout.recording is not None
    assert not rollout.recording.has_recorded("main")
    assert [d.move for d in rollout.decisions] == [d.move for d in recorded_play()[1].decisions]
    found, computed = gradient(make("reinforce", models), rollout, reuse=True)
    assert computed > 0
    assert float(found.norm()) > 0


def test_many_small_passes_end_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """One new pass over all is quicker than the way back through each of them."""
    monkeypatch.setattr(session, "MIN_TOKENS_PER_PASS", 100)
    models, rollout = recorded_play(answer="free")
    _, plain = recorded_play(answer="free", record=0)
    assert rollout.recording is not None
    assert not rollout.recording.has_recorded("main")
    assert [d.tokens for d in rollout.decisions] == [d.tokens for d in plain.decisions]
    _, computed = gradient(make("reinforce", models), rollout, reuse=True)
    assert computed > 0


@pytest.mark.parametrize("second", [None, "other"])
def test_a_second_adapter_ends_the_recording(second: str | None) -> None:
    models = tiny_models(prompt={"name": "memory_one"}, adapters=("main", "other"))
    models = replace(models, record=LIMIT)
    opponent: Player = Policy("opponent", models, second)
    rollout = play_matches(dilemma(3), (learner(models), opponent), 3)
    assert rollout.recording is not None
    assert not rollout.recording.has_recorded("main")
    assert not rollout.recording.has_recorded(second)


def test_learners_of_one_engine_remember_the_base_together() -> None:
    """The second computes nothing, and its metrics are the first one's."""
    models, rollout = recorded_play()
    rows = []
    for _ in range(2):
        one = make("ppo", models, kl=0.1)
        one.optimizer_step = lambda loss: 0.0  # type: ignore[method-assign]
        computed = models.engine.tokens_computed
        rows.append(one.update(training_sequences(rollout, "main", 1.0)))
        rows[-1]["computed"] = models.engine.tokens_computed - computed
        for parameter in one._trainable_parameters():
            parameter.grad = None
    assert rows[1].pop("computed") < rows[0].pop("computed")
    assert rows[0] == rows[1]
