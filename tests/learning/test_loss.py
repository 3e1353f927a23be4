"""The loss: every normalization and level of importance weights against loops over terms."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from comity.errors import ComityError
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings, LossSums, Terms, policy_loss
from comity.learning.normalization import NORMALIZATIONS, Denominators
from comity.learning.optimizer import OptimizerSettings
from comity.learning.training_batch import (
    TrainedDecision,
    TrainingSequence,
    common_prefix,
    micro_batches,
)
from comity.players.language_model.player import LanguageModelBackend
from comity.train import training_sequences
from tests.worlds import dilemma, learner, play_matches, tiny_models


def decision(trajectory: tuple[int, int], tokens: int, advantage: float) -> TrainedDecision:
    return TrainedDecision(1, (7,) * tokens, (), (-1.0,) * tokens, advantage, trajectory=trajectory)


UNEQUAL = [
    TrainingSequence((0,), (decision((0, 0), 3, 1.0), decision((0, 0), 1, 2.0))),
    TrainingSequence((0,), (decision((0, 1), 2, 3.0),)),
    TrainingSequence((0,), (decision((1, 0), 5, 4.0),)),
    # The same trajectory in another conversation, as one-shot prompts have it.
    TrainingSequence((0,), (decision((1, 0), 1, 5.0),)),
]


def test_denominators_by_hand() -> None:
    found = [d for one in UNEQUAL for d in one.decisions]
    expected = {
        "decisions": [5] * 5,
        "tokens": [12] * 5,
        # Three trajectories, of 4, 2 and 6 tokens.
        "trajectory": [12, 12, 6, 18, 18],
        "minibatch": [12] * 5,
        "sum": [1] * 5,
    }
    assert set(expected) == set(NORMALIZATIONS)
    for name, z in expected.items():
        assert Denominators(UNEQUAL, name).of(found) == z
    assert Denominators(UNEQUAL, "minibatch").of(found[:2]) == [4, 4]
    assert Denominators(UNEQUAL, "trajectory").of(found[3:]) == [18, 18]
    with pytest.raises(ComityError, match="tokens"):
        Denominators(UNEQUAL, "token")


def loop_loss(logprobs: list[float], normalization: str) -> float:
    """The definition over the terms of `UNEQUAL`, in order, at advantages alone."""
    found = [d for one in UNEQUAL for d in one.decisions for _ in d.tokens]
    values = [-d.advantage * each for d, each in zip(found, logprobs, strict=True)]
    if normalization == "trajectory":
        means = []
        for trajectory in {d.trajectory for d in found}:
            own = [v for d, v in zip(found, values, strict=True) if d.trajectory == trajectory]
            means.append(sum(own) / len(own))
        return sum(means) / len(means)
    return sum(values) / {"decisions": 5, "tokens": 12, "minibatch": 12, "sum": 1}[normalization]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_losses_equal_the_loop(normalization: str) -> None:
    random = np.random.default_rng(0)
    logprobs = random.normal(size=12)
    found = [d for one in UNEQUAL for d in one.decisions]
    owner = torch.tensor([n for n, d in enumerate(found) for _ in d.tokens])
    z = torch.tensor(Denominators(UNEQUAL, normalization).of(found))[owner]
    batch = Terms(
        torch.tensor(logprobs),
        torch.zeros(12),
        torch.tensor([d.advantage for d in found])[owner],
        torch.zeros(12),
    )
    ours = policy_loss(batch, LossSettings(importance_cap=None), z, LossSums())
    assert float(ours) == pytest.approx(loop_loss(list(logprobs), normalization))


def terms(**changes: Any) -> Terms:
    """Two decisions, of two tokens and of one."""
    return replace(
        Terms(
            logprobs=torch.tensor([-1.0, -0.5, -2.0]),
            behavior=torch.tensor([-1.2, -0.9, -1.0]),
            advantages=torch.tensor([1.0, 1.0, 3.0]),
            entropy=torch.zeros(3),
            decisions=torch.tensor([0, 0, 1]),
        ),
        **changes,
    )


@pytest.mark.parametrize(
    ("level", "cap", "rho"),
    [
        ("per_token", None, [1, 1, 1]),
        ("per_step", None, [1, 1, 1]),
        ("per_token", 9.0, [math.exp(0.2), math.exp(0.4), math.exp(-1)]),
        ("per_step", 9.0, [math.exp(0.6), math.exp(0.6), math.exp(-1)]),
        ("per_token", 1.3, [math.exp(0.2), 1.3, math.exp(-1)]),
        ("per_step", 1.3, [1.3, 1.3, math.exp(-1)]),
    ],
)
def test_importance_weights_by_hand(level: str, cap: float | None, rho: list[float]) -> None:
    logprobs = torch.tensor([-1.0, -0.5, -2.0], requires_grad=True)
    settings = LossSettings(importance_cap=cap, importance_level=level)
    loss = policy_loss(terms(logprobs=logprobs), settings, 2.0, LossSums())
    loss.backward()
    assert logprobs.grad is not None
    np.testing.assert_allclose(
        logprobs.grad, [-r * a / 2 for r, a in zip(rho, (1, 1, 3), strict=True)], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("level", "ratio"),
    [
        ("per_token", [math.exp(0.2), math.exp(0.4), math.exp(-1)]),
        ("per_step", [math.exp(0.6), math.exp(0.6), math.exp(-1)]),
    ],
)
@pytest.mark.parametrize("advantages", [[1.0, 1.0, 3.0], [-1.0, 2.0, -3.0]])
@pytest.mark.parametrize("clip", [0.1, 0.3, 0.6])
def test_the_clipped_surrogate_by_hand(
    level: str, ratio: list[float], advantages: list[float], clip: float
) -> None:
    logprobs = torch.tensor([-1.0, -0.5, -2.0], requires_grad=True)
    settings = LossSettings(importance_level=level, ratio_clip=clip)
    batch, sums = terms(logprobs=logprobs, advantages=torch.tensor(advantages)), LossSums()
    loss = policy_loss(batch, settings, 2.0, sums)
    loss.backward()
    expected, gradient, clipped = 0.0, [], 0
    for r, a in zip(ratio, advantages, strict=True):
        # What is good may become likelier up to 1 + clip, what is bad less likely to 1 - clip.
        beyond = r > 1 + clip if a > 0 else r < 1 - clip
        bound = 1 + clip if a > 0 else 1 - clip
        expected -= (bound if beyond else r) * a / 2
        gradient.append(0.0 if beyond else -r * a / 2)
        clipped += beyond
    assert float(loss) == pytest.approx(expected)
    assert sums.clipped == clipped
    assert logprobs.grad is not None
    np.testing.assert_allclose(logprobs.grad, gradient, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ratio_clip": 0.0}, "ratio_clip must be positive"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"epochs": 2, "importance_cap": None}, "several epochs .* set ratio_clip"),
    ],
)
def test_surrogates_that_make_no_sense_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ComityError, match=says):
        LossSettings(**settings)


def stepped(**settings: Any) -> tuple[list[float], list[float]]:
    """Mean importance weight and gradient norm of each optimizer step of one update."""
    models = tiny_models()
    rollout = play_matches(dilemma(2), (learner(models), learner(models)), 4)
    for number, d in enumerate(rollout.decisions):
        d.advantage = (-1.0) ** number
    optimizer = OptimizerSettings(learning_rate=3e-2, gradient_clip=None)
    one = Learner(models.engine, "main", optimizer, LossSettings(**settings), updates=3)
    accumulate_gradients, optimizer_step = one.accumulate_gradients, one.optimizer_step
    means: list[float] = []
    norms: list[float] = []

    def accumulated(*given: Any) -> LossSums:
        sums = accumulate_gradients(*given)
        means.append(sums.importance / sums.terms)
        return sums

    def descended(loss: float) -> float:
        norms.append(optimizer_step(loss))
        return norms[-1]

    one.accumulate_gradients, one.optimizer_step = accumulated, descended  # type: ignore[method-assign]
    row = one.update(training_sequences(rollout, "main", 1.0))
    assert one.version == 1
    assert row["importance_mean"] == pytest.approx(np.mean(means))
    assert row["gradient_norm"] == pytest.approx(np.mean(norms))
    assert ("clipped" in row) == ("ratio_clip" in settings)
    return means, norms


def test_later_steps_on_a_batch_are_clipped() -> None:
    """The first step is the plain gradient; the second is from another policy."""
    _, (plain,) = stepped()
    _, (first,) = stepped(ratio_clip=0.2)
    assert first == pytest.approx(plain, rel=1e-4)
    means, norms = stepped(ratio_clip=0.2, epochs=3)
    assert norms[0] == pytest.approx(plain, rel=1e-4)
    assert means[0] == pytest.approx(1, abs=1e-4)
    assert abs(means[1] - 1) > 1e-3
    assert len(norms) == 3
    tight, _ = stepped(ratio_clip=1e-6, epochs=3)
    assert tight[1] == pytest.approx(means[1], rel=1e-3), "nothing is clipped at the first step"


def test_importance_weights_stay_finite() -> None:
    far = terms(behavior=torch.tensor([-300.0, -300.0, 300.0]))
    for level in ("per_token", "per_step"):
        settings = LossSettings(importance_cap=2.0, importance_level=level)
        sums = LossSums()
        assert math.isfinite(float(policy_loss(far, settings, 1.0, sums)))
        assert sums.importance_max == pytest.approx(math.exp(40), rel=1e-4)


def test_terms_of_weight_0_are_not_in_the_graph() -> None:
    entropy = torch.zeros(3, requires_grad=True)
    logprobs = torch.zeros(3, requires_grad=True)
    policy_loss(
        terms(logprobs=logprobs, entropy=entropy), LossSettings(), 1.0, LossSums()
    ).backward()
    assert entropy.grad is None and logprobs.grad is not None
    policy_loss(
        terms(logprobs=logprobs, entropy=entropy), LossSettings(entropy=0.5), 2.0, LossSums()
    ).backward()
    # A descent on the loss raises the entropy.
    np.testing.assert_allclose(entropy.grad, [-0.25] * 3)  # type: ignore[arg-type]


# In the learner.


def lessons_of(models: LanguageModelBackend) -> list[TrainingSequence]:
    """Matches of two and of four rounds, free answers of several tokens."""
    policy = learner(models)
    found: list[TrainingSequence] = []
    for first, rounds in ((0, 2), (10, 4)):
        rollout = play_matches(dilemma(rounds), (policy, policy), 2, seed=first)
        rng = np.random.default_rng(first)
        for d in rollout.decisions:
            d.match += first
            d.advantage = float(rng.normal())
            d.token_logprobs = [b + float(rng.normal(scale=0.3)) for b in d.token_logprobs]
        found += training_sequences(rollout, "main", 1.0)
    return found


def gradient(
    models: LanguageModelBackend, found: list[TrainingSequence], loss: LossSettings, budget: int
) -> torch.Tensor:
    one = Learner(models.engine, "main", OptimizerSettings(), loss, 10, budget)
    one.accumulate_gradients(found)
    whole = torch.cat([p.grad.flatten() for p in one.parameters.values() if p.grad is not None])
    one.optimizer.zero_grad(set_to_none=True)
    return whole


@pytest.mark.parametrize("level", ["per_token", "per_step"])
def test_only_minibatch_depends_on_the_cut(level: str) -> None:
    models = tiny_models(
        prompt={"name": "conversation", "labels": ["apple", "zoo"]}, answer={"name": "free"}
    )
    found = lessons_of(models)
    assert len({len(d.tokens) for one in found for d in one.decisions}) > 1
    assert len(micro_batches(found, len(common_prefix(found)), 40)) > 1
    for name in NORMALIZATIONS:
        loss = LossSettings(0.1, 0.05, name, importance_level=level)
        whole, cut = (gradient(models, found, loss, budget) for budget in (10**6, 40))
        same = torch.allclose(whole, cut, atol=3e-5 * float(whole.abs().max()))
        assert same == (name != "minibatch"), name


def test_the_entropy_bonus_falls_linearly_to_nothing() -> None:
    settings = LossSettings(entropy=0.5, entropy_anneal=4)
    assert [settings.at(update).entropy for update in (0, 1, 3, 4, 9)] == [0.5, 0.375, 0.125, 0, 0]
    constant = LossSettings(entropy=0.5)
    assert constant.at(7) is constant
    with pytest.raises(ComityError, match="entropy_anneal must be at least 1"):
        LossSettings(entropy_anneal=0)
