"""The learner against naive twins: same probabilities as played, same gradient however cut."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from comity.errors import ComityError, WorkError
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings, LossSums, Terms, policy_loss
from comity.learning.optimizer import OptimizerSettings
from comity.learning.training_batch import (
    TrainingSequence,
    common_prefix,
    compute_terms,
    micro_batches,
)
from comity.players.language_model.player import LanguageModelBackend
from comity.rollout.play import Rollout
from comity.train import training_sequences
from tests.tiny import assert_agree
from tests.worlds import dilemma, learner, play_matches, tiny_folder, tiny_models

LABELS = (["A", "B"], ["action1", "action2"], ["apple", "zoo"])
"""One token each; a common beginning; several tokens with nothing in common."""


def played(
    models: LanguageModelBackend, matches: int = 4, temperature: float = 1.0
) -> tuple[Rollout, list[TrainingSequence]]:
    """Some matches with advantages that differ from decision to decision."""
    policy = learner(models, temperature=temperature)
    rollout = play_matches(dilemma(3), (policy, policy), matches)
    rng = np.random.default_rng(3)
    for decision in rollout.decisions:
        decision.advantage = float(rng.normal())
    return rollout, training_sequences(rollout, "main", temperature)


def make_learner(
    models: LanguageModelBackend, loss: LossSettings, budget: int = 4096, rate: float = 0.01
) -> Learner:
    return Learner(models.engine, "main", OptimizerSettings(learning_rate=rate), loss, 10, budget)


def gradient(one: Learner) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in one.parameters.items() if p.grad is not None}
    one.optimizer.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("prompt", ["conversation", "memory_one"])
@pytest.mark.parametrize("answer", ["constrained", "free"])
@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_the_learner_reads_what_the_engine_played(
    dtype: str, prompt: str, answer: str, labels: list[str]
) -> None:
    models = tiny_models(
        prompt={"name": prompt, "labels": labels}, answer={"name": answer}, dtype=dtype
    )
    rollout, found = played(models, 3, temperature=0.8)
    outputs = compute_terms(models.engine, found, "main", gradients=False)
    behavior = [b for one in found for d in one.decisions for b in d.behavior]
    assert_agree(outputs.logprobs, behavior, models.engine.dtype)
    assert (outputs.entropy >= -1e-6).all()
    if answer == "constrained":
        assert len(behavior) == len(rollout.decisions)
        assert float(outputs.entropy.max()) <= math.log(2) + 1e-5


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("answer", ["constrained", "free"])
@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_micro_batches_do_not_change_the_gradient(
    architecture: str, answer: str, labels: list[str]
) -> None:
    models = tiny_models(
        architecture, prompt={"name": "conversation", "labels": labels}, answer={"name": answer}
    )
    _, found = played(models)
    loss = LossSettings(kl=0.1, entropy=0.05, normalization="tokens")
    whole = make_learner(models, loss)
    whole_sums = whole.accumulate_gradients(found)
    expected = gradient(whole)
    cut = make_learner(models, loss, budget=12)
    assert len(micro_batches(found, len(common_prefix(found)), 12)) > 2
    cut_sums = cut.accumulate_gradients(found)
    largest = max(float(g.abs().max()) for g in expected.values())
    for name, got in gradient(cut).items():
        assert torch.allclose(got, expected[name], atol=3e-5 * largest), name
    assert cut_sums.loss == pytest.approx(whole_sums.loss, abs=1e-5)
    assert cut_sums.kl == pytest.approx(whole_sums.kl, rel=1e-4)


def test_the_gradient_is_that_of_a_naive_loop_over_plain_peft(tmp_path: object) -> None:
    """Padding-free, sharing-free twin: every decision is scored by its own plain forward."""
    models = tiny_models("qwen3")
    rollout, found = played(models)
    one = make_learner(models, LossSettings(importance_cap=None))
    one.accumulate_gradients(found)
    got = gradient(one)

    models.engine.adapters.save("main", tmp_path)  # type: ignore[arg-type]
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder("qwen3"), dtype=torch.float32)
    twin = PeftModel.from_pretrained(plain, str(tmp_path), is_trainable=True)
    pair = torch.tensor([models.chat.encode_labels(["A", "B"])[i][-1] for i in (0, 1)])
    for d in rollout.decisions:
        ids = rollout.conversations[d.conversation].ids[: d.start]
        logits = twin(input_ids=torch.tensor([ids])).logits[0, -1, pair]
        loss = -d.advantage * torch.log_softmax(logits, -1)[d.move] / len(rollout.decisions)
        loss.backward()
    largest = max(float(g.abs().max()) for g in got.values())
    for name, parameter in twin.named_parameters():
        if parameter.grad is not None:
            short = name.replace("base_model.model.", "").replace(".default.weight", "")
            assert torch.allclose(got[short], parameter.grad, atol=3e-5 * largest), short


def terms(logprobs: torch.Tensor, behavior: list[float], advantages: list[float]) -> Terms:
    return Terms(
        logprobs, torch.tensor(behavior), torch.tensor(advantages), torch.zeros(len(behavior))
    )


def test_the_loss_by_hand() -> None:
    logprobs = torch.tensor([-1.0, -0.5], requires_grad=True)
    batch = Terms(
        logprobs,
        behavior=torch.tensor([-1.0, -2.0]),
        advantages=torch.tensor([2.0, -1.0]),
        entropy=torch.tensor([0.3, 0.4]),
        reference=torch.tensor([-1.2, -0.5]),
    )
    sums = LossSums()
    loss = policy_loss(batch, LossSettings(kl=0.5, entropy=0.1, importance_cap=2.0), 2.0, sums)
    k3 = math.exp(-0.2) + 0.2 - 1
    # Weights: 1, and exp(1.5) cut to 2.
    expected = ((2.0 * 1.0 + 0.5 * k3 - 0.03) + (2 * -1.0 * 0.5 + 0.0 - 0.04)) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    # d(k3)/dl = 1 - exp(d); the weight is no part of the gradient.
    assert logprobs.grad is not None
    assert float(logprobs.grad[0]) == pytest.approx(
        (-2.0 + 0.5 * (1 - math.exp(-0.2))) / 2, rel=1e-4
    )
    assert float(logprobs.grad[1]) == pytest.approx((2 * 1.0) / 2)
    assert sums.importance == pytest.approx(1 + math.exp(1.5))
    assert sums.importance_max == pytest.approx(math.exp(1.5))


def test_updates_make_good_decisions_likelier() -> None:
    models = tiny_models()
    rollout, _ = played(models)
    for d in rollout.decisions:
        d.advantage = 1.0 if d.move == 0 else -1.0
    found = training_sequences(rollout, "main", 1.0)
    one = make_learner(models, LossSettings())

    def cooperation() -> float:
        policy = learner(models)
        again = play_matches(dilemma(3), (policy, policy), 8, seed=5)
        return float(np.mean([d.probabilities[0] for d in again.decisions]))

    before = cooperation()
    for _ in range(5):
        row = one.update(found)
    assert cooperation() > before + 0.05
    assert one.version == 5
    assert row["gradient_norm"] > 0 and row["decisions"] == len(rollout.decisions)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_entropy_bonus_raises_entropy_and_kl_pulls_to_the_base(sign: int) -> None:
    models = tiny_models(noise=0.6)
    rollout, found = played(models)
    for d in rollout.decisions:
        d.advantage = 0.0
    found = training_sequences(rollout, "main", 1.0)

    def state() -> tuple[float, float]:
        outputs = compute_terms(models.engine, found, "main", gradients=False)
        reference = compute_terms(models.engine, found, None, gradients=False).logprobs
        distance = (outputs.logprobs - reference).abs().mean()
        return float(outputs.entropy.mean()), float(distance)

    before = state()
    # Small steps: Adam's first ones have full length, and the entropy begins near its maximum.
    loss = LossSettings(entropy=1.0) if sign > 0 else LossSettings(kl=1.0)
    one = make_learner(models, loss, rate=1e-4)
    for _ in range(6):
        one.update(found)
    after = state()
    if sign > 0:
        assert after[0] > before[0]
    else:
        assert after[1] < before[1]


def test_a_loss_that_is_not_a_number_stops_before_the_step() -> None:
    models = tiny_models()
    _, found = played(models)
    one = make_learner(models, LossSettings())
    before = {name: p.detach().clone() for name, p in one.parameters.items()}
    broken = [
        TrainingSequence(
            sequence.ids,
            tuple(
                type(d)(d.start, d.tokens, d.answers, d.behavior, float("nan"), d.temperature)
                for d in sequence.decisions
            ),
        )
        for sequence in found
    ]
    with pytest.raises(WorkError, match="nan"):
        one.update(broken)
    assert all(torch.equal(before[name], p) for name, p in one.parameters.items())


def test_learning_rate_schedules() -> None:
    linear = OptimizerSettings(learning_rate=1.0, schedule="linear", warmup=2)
    assert [linear.rate(i, 6) for i in range(6)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    cosine = OptimizerSettings(learning_rate=1.0, schedule="cosine")
    assert cosine.rate(5, 10) == pytest.approx(0.5)
    assert OptimizerSettings(learning_rate=2.0).rate(7, 8) == 2.0


def test_micro_batches_respect_the_budget() -> None:
    _, found = played(tiny_models(), 6)
    shared = len(common_prefix(found))
    runs = micro_batches(found, shared, 40)
    assert sorted(one.ids for run in runs for one in run) == sorted(one.ids for one in found)
    for run in runs:
        distinct = {one.ids[: i + 1] for one in run for i in range(shared, len(one.ids))}
        assert len(distinct) <= 40 or len(run) == 1


def test_weights_of_other_modules_are_not_taken_over(tmp_path: Path) -> None:
    models = tiny_models()
    one = make_learner(models, LossSettings())
    models.engine.adapters.save("main", tmp_path)
    one.load(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    weights, lost = load_file(file), f"base_model.model.{next(iter(one.parameters))}.weight"
    beyond = lost.replace("layers.0", "layers.9")
    save_file({**weights, beyond: weights[lost].clone()}, file)
    with pytest.raises(ComityError, match=r"does not fit: it also has .*layers\.9"):
        one.load(tmp_path)
    save_file({name: one for name, one in weights.items() if name != lost}, file)
    with pytest.raises(ComityError, match="does not fit: it lacks"):
        one.load(tmp_path)
