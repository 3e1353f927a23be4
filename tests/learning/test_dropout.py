"""Dropout is in what is differentiated: all that is compared, paid for or reported is without.

And forward passes without gradients are bounded by the engine's `max_tokens`, and cut batches have
ratios of exactly 1 before the first step.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from comity.engines.local.engine import Engine
from comity.errors import ComityError
from comity.experiments.build import Experiment
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.ppo.learner import PpoLearner
from comity.learning.ppo.objective import PpoSettings
from comity.learning.reference_policy import ReferencePolicy
from comity.learning.training_batch import (
    TermOutputs,
    TrainingSequence,
    evaluate_terms,
    training_sequences,
)
from comity.players.language_model.player import LanguageModelBackend
from tests.train.small import small
from tests.worlds import dilemma, learner, play_matches, tiny_models

DROPOUT = 0.3
ANSWERS = {"scored": {"name": "constrained"}, "sampled": {"name": "free", "max_tokens": 3}}


def world(
    answer: str = "scored", prompt: str = "memory_one"
) -> tuple[LanguageModelBackend, list[TrainingSequence]]:
    block = {"name": prompt, "labels": ["action1", "action22"]}
    models = tiny_models(prompt=block, answer=ANSWERS[answer], adapters=())
    models.engine.adapters.add("main", rank=4, alpha=8, dropout=DROPOUT, seed=0)
    generator = torch.Generator().manual_seed(50)
    for parameter in models.engine.adapters.parameters("main").values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    policy = learner(models)
    rollout = play_matches(dilemma(3), (policy, policy), 4)
    for number, d in enumerate(rollout.decisions):
        d.advantage = d.reward = float(number % 3) - 1.0
    return models, training_sequences(rollout, "main", 1.0)


def true_divergence(models: LanguageModelBackend, found: list[TrainingSequence]) -> float:
    now = evaluate_terms(models.engine, found, "main").logprobs
    gap = now - ReferencePolicy(models.engine).logprobs(found)
    return float(gap.sum()) / sum(len(one.decisions) for one in found)


def proximal(
    models: LanguageModelBackend, dropout: bool = True, budget: int | None = None, **more: Any
):  # type: ignore[no-untyped-def]
    ppo = PpoSettings(**{"kl": 0.2, "epochs": 1, "value_dropout": 0.0, **more})
    optimizer = OptimizerSettings(learning_rate=0.01)
    return PpoLearner(models.engine, "main", optimizer, LossSettings(), 9, budget, dropout, ppo=ppo)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("budget", [None, 60])
@pytest.mark.parametrize("shape", [{}, {"epochs": 2}, {"epochs": 2, "minibatches": 2}])
def test_ppo_sees_the_true_divergence(
    shape: dict[str, int], budget: int | None, answer: str
) -> None:
    """Reported, paid for and followed by the controller; so are ratios, entropies and values."""
    models, found = world(answer)
    expected = true_divergence(models, found)
    entropy = float(evaluate_terms(models.engine, found, "main").entropy.mean())
    rows, learners = [], []
    for dropout in (True, False):
        made = proximal(models, dropout, budget, **shape)
        made.optimizer_step = lambda loss: 0.0  # type: ignore[method-assign]
        rows.append(made.update(found))
        learners.append(made)
        made.optimizer.zero_grad(set_to_none=True)
    dropped, plain = rows
    assert dropped["kl"] == pytest.approx(expected, abs=1e-5) == plain["kl"]
    assert learners[0].kl.coefficient == pytest.approx(learners[1].kl.coefficient, rel=1e-9)
    assert learners[0].mean_advantages == pytest.approx(learners[1].mean_advantages, abs=1e-4)
    assert dropped["value_mean"] == pytest.approx(plain["value_mean"], abs=1e-5)
    for key in ("ratio_mean", "ratio_min", "ratio_max"):
        assert dropped[key] == pytest.approx(1.0, abs=1e-5)
    assert dropped["entropy"] == pytest.approx(entropy, rel=1e-4)


def test_the_gradient_is_of_the_reading_with_dropout() -> None:
    models, found = world()
    found_by = []
    for dropout, seed in ((False, 0), (True, 0), (True, 1), (True, 0)):
        torch.manual_seed(seed)
        made = proximal(models, dropout)
        made.optimizer_step = lambda loss: 0.0  # type: ignore[method-assign]
        made.update(found)
        grads = [p.grad.flatten() for p in made.parameters.values() if p.grad is not None]
        found_by.append(torch.cat(grads))
        made.optimizer.zero_grad(set_to_none=True)
    plain, one, other, again = found_by
    assert torch.equal(one, again)
    assert not torch.allclose(one, other) and not torch.allclose(one, plain)


def test_later_ratios_are_those_of_the_policy_as_it_is() -> None:
    """Of the second epoch's ratio, against terms computed with the weights after the first step."""
    models, found = world()
    before = evaluate_terms(models.engine, found, "main").logprobs
    made = proximal(models, epochs=2, kl=0.0, ratio_limit=None)
    steps = []
    optimizer_step = made.optimizer_step

    def noted(loss: float) -> float:
        steps.append(evaluate_terms(models.engine, found, "main").logprobs)
        return optimizer_step(loss)

    made.optimizer_step = noted  # type: ignore[method-assign]
    row = made.update(found)
    second = torch.exp(steps[1] - before)
    both = torch.cat([torch.ones_like(second), second])
    assert row["ratio_max"] == pytest.approx(float(both.max()), abs=1e-4)
    assert row["ratio_min"] == pytest.approx(float(both.min()), abs=1e-4)
    assert row["ratio_mean"] == pytest.approx(float(both.mean()), abs=1e-4)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("clip", [None, 0.2])
def test_importance_weights_divergence_and_entropy_of_reinforce_are_without_dropout(
    clip: float | None, answer: str
) -> None:
    models, found = world(answer)
    settings = LossSettings(kl=0.1, entropy=0.1, ratio_clip=clip)
    rows = []
    for dropout in (True, False):
        made = Learner(models.engine, "main", OptimizerSettings(), settings, 9, None, dropout)
        made.optimizer_step = lambda loss: 0.0  # type: ignore[method-assign]
        rows.append(made.update(found))
        made.optimizer.zero_grad(set_to_none=True)
    dropped, plain = rows
    for key in ("kl", "entropy", "importance_mean", "importance_max"):
        assert dropped[key] == pytest.approx(plain[key], rel=1e-4), key
    assert dropped["importance_max"] == pytest.approx(1.0, abs=1e-4)
    assert dropped["loss"] != pytest.approx(plain["loss"], rel=1e-4)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(
    ("shape", "prompt"), [({}, "memory_one"), ({"epochs": 2, "minibatches": 2}, "conversation")]
)
def test_no_reading_without_gradients_exceeds_the_engines_tokens(
    shape: dict[str, int], prompt: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, found = world(answer, prompt)
    whole = evaluate_terms(models.engine, found, "main")
    base = ReferencePolicy(models.engine).logprobs(found)
    sizes: list[int] = []
    forward = Engine.forward

    def counted(self: Engine, batch: Any, *more: Any, **keywords: Any) -> torch.Tensor:
        if not torch.is_grad_enabled():
            sizes.append(len(batch))
        return forward(self, batch, *more, **keywords)

    monkeypatch.setattr(Engine, "forward", counted)
    monkeypatch.setattr(Engine, "max_tokens", 64)
    other = tiny_models(adapters=()).engine  # Nothing is remembered of another engine.
    cut = evaluate_terms(models.engine, found, "main")
    torch.testing.assert_close(cut.logprobs, whole.logprobs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(cut.entropy, whole.entropy, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(cut.hidden, whole.hidden, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ReferencePolicy(other).logprobs(found), base, atol=1e-4, rtol=1e-4)
    for dropout in (True, False):
        proximal(models, dropout, 40, **shape).update(found)
    assert len(sizes) > 10 and max(sizes) <= 64


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("budget", [None, 40, 17])
def test_ratios_are_exactly_one_however_the_batch_is_cut(budget: int | None, answer: str) -> None:
    models, found = world(answer)
    row = proximal(models, dropout=False, budget=budget).update(found)
    assert row["ratio_min"] == row["ratio_max"] == row["ratio_mean"] == 1.0
    assert row["clipped"] == 0.0


def test_the_first_outputs_cover_all_terms_in_the_order_of_the_sequences() -> None:
    """Two equal sequences among others keep their places."""
    models, found = world()
    shuffled = [found[2], found[0], found[2], *found[3:]]
    together = evaluate_terms(models.engine, shuffled, "main").logprobs
    alone = [evaluate_terms(models.engine, [one], "main") for one in shuffled]
    assert all(isinstance(one, TermOutputs) for one in alone)
    torch.testing.assert_close(
        together, torch.cat([one.logprobs for one in alone]), atol=1e-5, rtol=1e-5
    )
    assert replace(found[0]) == found[0]


def test_dropout_while_playing_is_in_what_answers_are_drawn_from_and_in_nothing_else() -> None:
    """The recorded probabilities are those that were drawn from; learning reads the policy."""
    models, found = world()
    plain = [b for one in found for d in one.decisions for b in d.behavior]
    dropout_adapters = replace(models, dropout_adapters=frozenset({"main"}))
    seen = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        policy = learner(dropout_adapters)
        rollout = play_matches(dilemma(3), (policy, policy), 4)
        for d in rollout.decisions:
            d.advantage = d.reward = 1.0
        some = training_sequences(rollout, "main", 1.0)
        seen.append([b for one in some for d in one.decisions for b in d.behavior])
        first = evaluate_terms(models.engine, some, "main").logprobs
        assert not torch.allclose(first, torch.tensor(seen[-1]), atol=1e-3)
        # Nobody else's is dropped, and the base has nothing to drop.
        torch.testing.assert_close(first, evaluate_terms(models.engine, some, "main").logprobs)
    assert seen[0] == seen[1] != seen[2]
    assert plain != seen[0]
    other = replace(models, dropout_adapters=frozenset({"another"}))
    policy = learner(other)
    again = training_sequences(play_matches(dilemma(3), (policy, policy), 4), "main", 1.0)
    assert [b for one in again for d in one.decisions for b in d.behavior] == plain


@pytest.mark.parametrize("dropout_in", ["learning", "playing", "both"])
def test_a_run_drops_where_it_says(dropout_in: str, tmp_path: Path) -> None:
    changes = (
        *("algorithm=ppo", "prompt=memory_one", "algorithm.epochs=1", "iterations=1"),
        *("adapter.dropout=0.5", f"adapter.dropout_in={dropout_in}"),
    )
    with Experiment(small(tmp_path, *changes)) as experiment:
        assert experiment.models.dropout_adapters == (
            {"main"} if dropout_in != "learning" else set()
        )
        assert experiment.learners["main"]._dropout == (dropout_in != "playing")
    with pytest.raises(ComityError, match="did you mean playing"):
        small(tmp_path, "adapter.dropout_in=plaing")


@pytest.mark.parametrize("dropout", [True, False])
def test_accumulated_passes_are_one_step_on_the_mean_of_their_gradients(dropout: bool) -> None:
    models, found = world()

    def gradient(**shape: int) -> tuple[torch.Tensor, dict[str, Any]]:
        made = proximal(models, dropout, **shape)
        taken = []

        def optimizer_step(loss: float) -> float:
            grads = [p.grad.flatten() for p in made.parameters.values() if p.grad is not None]
            taken.append(torch.cat(grads))
            made.optimizer.zero_grad(set_to_none=True)
            return 0.0

        made.optimizer_step = optimizer_step  # type: ignore[method-assign]
        torch.manual_seed(5)
        row = made.update(found)
        return torch.stack(taken).mean(dim=0), row | {"taken": len(taken)}

    together, row = gradient(epochs=4, accumulation=4)
    assert row["taken"] == row["steps"] == 1
    assert row["ratio_min"] == row["ratio_max"] == 1.0
    apart, four = gradient(epochs=4)
    assert four["taken"] == 4
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=1e-4)
    single, _ = gradient()
    assert torch.allclose(together, single, atol=1e-6, rtol=1e-4) != dropout


def test_accumulation_divides_the_passes() -> None:
    with pytest.raises(ComityError, match="accumulation = 3 does not divide"):
        PpoSettings(epochs=4, accumulation=3)
