"""The critic against plain PEFT and loops; whose values it predicts and is trained on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from comity.engines.local.scoring import LMHead
from comity.errors import ComityError, WorkError
from comity.experiments.rules import Rules
from comity.learning.advantages import StepRewards, estimate_advantages
from comity.learning.algorithms import Algorithm
from comity.learning.algorithms.advantage_alignment import AdvantageAlignment
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.critic import Critic, critic_losses, critic_optimizer, predict_values
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.rollout.play import Rollout
from tests.train.small import small
from tests.worlds import dilemma, learner, play_matches, tiny_folder, tiny_models

GAE = Reinforce(estimator="gae")
CRITIC = "main:critic"


def make(
    models: LanguageModelBackend, budget: int = 4096, loss: str = "huber", rate: float = 0.01
) -> tuple[Learner, Critic]:
    optimizer = OptimizerSettings(learning_rate=rate, gradient_clip=None)
    one = Learner(models.engine, "main", optimizer, LossSettings(), 10, budget)
    one.critic = Critic(models.engine, CRITIC, optimizer, 10, budget, loss=loss)
    return one, one.critic


def world(prompt: str = "conversation", architecture: str = "llama") -> LanguageModelBackend:
    return tiny_models(
        architecture,
        prompt={"name": prompt, "labels": ["apple", "zoo"]},
        answer={"name": "free", "max_tokens": 3},
        adapters=("main", CRITIC),
    )


def played(models: LanguageModelBackend, rounds: int = 3) -> tuple[Rollout, StepRewards]:
    """Two matches of a learner against the base model."""
    rollout = play_matches(dilemma(rounds), (learner(models), Policy("base", models, None, 1.0)), 2)
    rewards = rollout.played.payoffs
    return rollout, StepRewards.of(rollout.decisions, rewards, rollout.played.alive, "rounds")


@pytest.mark.parametrize("prompt", ["conversation", "memory_one"])
def test_values_are_those_of_plain_peft_at_the_first_decision(prompt: str, tmp_path: Path) -> None:
    models = world(prompt)
    rollout, step_rewards = played(models)
    one, critic = make(models)
    values = predict_values(rollout, step_rewards, {"main": one}, GAE).values
    assert values is not None and values.shape == (2, 2, 3)
    assert np.isnan(values[:, 1]).all(), "the base model gets no values where none are needed"

    models.engine.adapters.save(CRITIC, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder("llama"), dtype=torch.float32)
    twin = PeftModel.from_pretrained(plain, str(tmp_path))
    head = critic.value_head.linear
    for d in rollout.decisions:
        if d.seat == 0:
            ids = rollout.conversations[d.conversation].ids[: d.start]
            with torch.no_grad():
                hidden = twin.base_model.model.model(torch.tensor([ids])).last_hidden_state[0, -1]
            expected = float((hidden @ head.weight[0] + head.bias[0]).detach())
            assert values[d.match, 0, d.round] == pytest.approx(expected, abs=1e-4)


def test_alignment_judges_everybody_and_trains_on_its_own() -> None:
    models = world()
    rollout, step_rewards = played(models)
    one, critic = make(models)
    estimates = predict_values(
        rollout, step_rewards, {"main": one}, AdvantageAlignment(estimator="gae")
    )
    assert estimates.values is not None and np.isfinite(estimates.values).all()
    estimates.set_value_targets(np.arange(12.0).reshape(2, 2, 3))
    targeted = [d.advantage for sequence in critic._sequences for d in sequence.decisions]
    assert sorted(targeted) == [0, 1, 2, 6, 7, 8]  # seat 0 alone
    naive = predict_values(
        rollout, step_rewards, {"main": one}, AdvantageAlignment(estimator="gae", weight=0.0)
    )
    assert naive.values is not None and np.isnan(naive.values[:, 1]).all()


def targeted(models: LanguageModelBackend, budget: int, loss: str) -> tuple[Critic, np.ndarray]:
    rollout, step_rewards = played(models)
    one, critic = make(models, budget, loss)
    estimates = predict_values(rollout, step_rewards, {"main": one}, GAE)
    estimates.set_value_targets(
        np.random.default_rng(0).normal(scale=3, size=step_rewards.rewards.shape)
    )
    assert estimates.values is not None
    return critic, estimates.values[:, 0]


def grads(critic: Critic, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, float]:
    """The gradient that `learn` would descend, and its loss."""
    found: list[Any] = []

    def optimizer_step(total: float) -> float:
        whole = [p.grad.flatten() for p in critic._trainable_parameters() if p.grad is not None]
        found.extend([torch.cat(whole), total])
        critic.optimizer.zero_grad(set_to_none=True)
        return 0.0

    monkeypatch.setattr(critic, "optimizer_step", optimizer_step)
    critic.train_step()
    return found[0], found[1]


@pytest.mark.parametrize("loss", ["huber", "squared"])
def test_micro_batches_do_not_change_the_gradient(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = world()
    whole_critic, values = targeted(models, 10**6, loss)
    whole, total = grads(whole_critic, monkeypatch)
    cut, cut_total = grads(targeted(models, 20, loss)[0], monkeypatch)
    assert torch.allclose(whole, cut, atol=3e-5 * float(whole.abs().max()))
    targets = np.random.default_rng(0).normal(scale=3, size=(2, 2, 3))[:, 0]
    off = np.abs(values - targets)
    each = off**2 if loss == "squared" else np.where(off < 1, off**2 / 2, off - 0.5)
    assert total == pytest.approx(each.mean(), rel=1e-4) == pytest.approx(cut_total, rel=1e-4)


def test_a_critic_learns_its_targets_and_leaves_the_policy_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = world()
    rollout, step_rewards = played(models)
    one, critic = make(models)

    def refused(*_: object) -> None:
        raise AssertionError("the language-model head was run")

    monkeypatch.setattr(LMHead, "logits", refused)
    before = {name: p.detach().clone() for name, p in one.parameters.items()}
    own = {name: p.detach().clone() for name, p in critic.parameters.items()}
    targets = np.full(step_rewards.rewards.shape, 4.0)
    losses = []
    for _ in range(12):
        estimates = predict_values(rollout, step_rewards, {"main": one}, GAE)
        estimates.set_value_targets(targets)
        row = critic.train_step()
        losses.append(row["critic_loss"])
        assert row["critic_gradient_norm"] > 0
    assert losses[-1] < losses[0] / 3
    assert critic.version == 12
    assert all(torch.equal(before[name], p) for name, p in one.parameters.items())
    assert not all(torch.equal(own[name], p) for name, p in critic.parameters.items())
    critic.train_step()  # no targets were set since
    assert critic.version == 13


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    """NaN would be taken for a state that nobody was asked about."""
    models = world()
    rollout, step_rewards = played(models)
    one, critic = make(models)
    critic.value_head.linear.weight.data[0, 3] = value
    with pytest.raises(WorkError, match="critic 'main:critic' gives values that are not finite"):
        predict_values(rollout, step_rewards, {"main": one}, GAE)


def test_a_state_comes_back_bit_for_bit() -> None:
    models = world()
    rollout, step_rewards = played(models)
    one, critic = make(models)

    def step() -> float:
        predict_values(rollout, step_rewards, {"main": one}, GAE).set_value_targets(
            np.ones(step_rewards.rewards.shape)
        )
        return float(critic.train_step()["critic_loss"])

    step()
    kept = {k: _copied(v) for k, v in one.state().items()}
    expected = [step() for _ in range(3)]
    one.restore_state(kept)
    assert critic.version == 1
    assert [step() for _ in range(3)] == expected


def _copied(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_copied(value) for value in tree]
    return tree.clone() if isinstance(tree, torch.Tensor) else tree


def test_a_phase_can_start_the_head_and_the_moments_anew() -> None:
    models = world()
    rollout, step_rewards = played(models)
    one, critic = make(models)
    first = critic.value_head.linear.weight.detach().clone()
    predict_values(rollout, step_rewards, {"main": one}, GAE).set_value_targets(
        np.ones(step_rewards.rewards.shape)
    )
    critic.train_step()
    assert critic.optimizer.state
    one.reset(["value_head"])
    assert torch.equal(critic.value_head.linear.weight, first) and critic.optimizer.state
    one.reset(["optimizer"])
    assert not critic.optimizer.state


def test_credit_by_gae_is_the_return_less_the_value_at_lambda_one() -> None:
    random = np.random.default_rng(0)
    rewards, values = random.normal(size=(2, 4, 2, 3))
    alive = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=bool)
    settings = Reinforce(0.8, whiten=False, estimator="gae", lambda_max=1.0, reward_scale=2.0)
    found = estimate_advantages(rewards, alive, settings, values=values)
    expected = np.where(alive[:, None, :], found.returns - values, 0.0)
    np.testing.assert_allclose(found.advantages, expected, atol=1e-12)
    np.testing.assert_allclose(found.value_targets, found.returns, atol=1e-12)
    # Annealed, lambda is 0 at first: one step ahead and no further.
    rising = replace(settings, lambda_anneal=10.0)
    ahead = np.concatenate([values[:, :, 1:] * alive[:, None, 1:], np.zeros((4, 2, 1))], axis=2)
    one_step = np.where(alive[:, None, :], rewards / 2 + 0.8 * ahead - values, 0.0)
    np.testing.assert_allclose(
        estimate_advantages(rewards, alive, rising, values=values).advantages, one_step, atol=1e-12
    )
    later = estimate_advantages(rewards, alive, rising, iteration=10**5, values=values).advantages
    np.testing.assert_allclose(later, expected, atol=1e-12)
    with pytest.raises(ValueError, match="values"):
        estimate_advantages(rewards, alive, settings)


def test_losses_by_hand() -> None:
    off = torch.tensor([0.5, -3.0])
    assert critic_losses(off, torch.zeros(2), "huber").tolist() == [0.125, 2.5]
    assert critic_losses(off, torch.zeros(2), "squared").tolist() == [0.25, 9.0]


def test_the_optimizer_is_the_policys_but_for_what_is_said() -> None:
    policy = OptimizerSettings(learning_rate=1e-3, warmup=3)
    assert critic_optimizer(None, policy) == policy
    changed = critic_optimizer({"learning_rate": 1, "gradient_clip": None}, policy)
    assert changed == replace(policy, learning_rate=1.0, gradient_clip=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": "gea"}, "did you mean gae"),
        ({"lambda_max": 1.5}, "lambda_max"),
        ({"lambda_anneal": 0.0}, "lambda_anneal"),
        ({"critic_loss": "hubber"}, "huber"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    kinds: tuple[type[Algorithm], ...] = (Reinforce, AdvantageAlignment)
    for kind in kinds:
        with pytest.raises(ComityError, match=message):
            kind(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("algorithm.critic_optimizer={learning_rat: 1}",), "did you mean learning_rate"),
        (("algorithm.critic_optimizer={learning_rate: -1}",), "must not be negative"),
        (("algorithm=advantage_alignment", "seats=[learner,tit_for_tat]"), "scripted players"),
    ],
)
def test_configs_are_refused_before_a_model_is_loaded(
    changes: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    config = small(tmp_path, *changes, "algorithm.estimator=gae")
    with pytest.raises(ComityError, match=message):
        Rules.of(config)
