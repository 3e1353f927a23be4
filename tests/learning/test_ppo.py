"""The pieces of PPO against closed forms and naive loops, and its updates on a tiny model."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.learning.credit.gae import gae
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.ppo.batch import PpoBatch
from comity.learning.ppo.learner import PpoLearner
from comity.learning.ppo.objective import (
    KlController,
    PpoSettings,
    RunningMoments,
    policy_losses,
    value_losses,
    whitened,
)
from comity.learning.training_batch import TermOutputs, TrainedDecision, TrainingSequence
from comity.train import training_sequences
from tests.worlds import dilemma, learner, play_matches, tiny_models

numbers = st.floats(-5, 5)


def test_gae_worked_example() -> None:
    """r = (1, 0, 2), V = (0.5, 1, 0.2), discount 0.9, lambda 0.95: by hand from the end."""
    found = gae([1, 0, 2], [0.5, 1, 0.2], [0.9, 0.9, 0.9], 0.95)
    assert found == pytest.approx([2.0147, 0.7190, 1.8], abs=1e-4)


@given(
    st.lists(st.tuples(numbers, numbers, st.floats(0, 1)), min_size=1, max_size=6), st.floats(0, 1)
)
def test_gae_is_the_double_sum(steps: list[tuple[float, float, float]], lam: float) -> None:
    rewards, values, discounts = (list(column) for column in zip(*steps, strict=True))
    n = len(rewards)
    for t, found in enumerate(gae(rewards, values, discounts, lam)):
        total, weight = 0.0, 1.0
        for s in range(t, n):
            following = values[s + 1] if s + 1 < n else 0.0
            total += weight * (rewards[s] + discounts[s] * following - values[s])
            weight *= discounts[s] * lam
        assert found == pytest.approx(total)


@given(st.lists(st.lists(numbers, min_size=1, max_size=5), min_size=1, max_size=5))
def test_running_moments_are_those_of_everything(batches: list[list[float]]) -> None:
    moments, seen = RunningMoments(), []
    for batch in batches:
        moments.add(np.array(batch))
        seen += batch
    assert moments.mean == pytest.approx(np.mean(seen), abs=1e-9)
    deviation = np.std(seen, ddof=1) if len(seen) > 1 else 0.0
    assert moments.deviation == pytest.approx(deviation, abs=1e-6)


def test_equal_scores_normalize_to_zero() -> None:
    moments = RunningMoments()
    moments.add(np.array([3.0, 3.0]))
    assert moments.normalized(np.array([3.0])) == pytest.approx([0.0])


def test_whitening() -> None:
    assert whitened(np.array([1.0, 2.0, 3.0])) == pytest.approx([-1, 0, 1])
    assert whitened(np.array([7.0])).tolist() == [7.0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [
        # -A rho, or with rho clamped to [0.8, 1.2], whichever is larger.
        (1.0, 2.0, -2.0),
        (1.5, 2.0, -2.4),
        (0.5, 2.0, -1.0),
        (1.5, -2.0, 3.0),
        (0.5, -2.0, 1.6),
    ],
)
def test_the_clipped_surrogate(ratio: float, advantage: float, loss: float) -> None:
    logprobs = torch.tensor([math.log(ratio)], requires_grad=True)
    losses, ratios = policy_losses(logprobs, torch.zeros(1), torch.tensor([advantage]), 0.2)
    assert losses.item() == pytest.approx(loss)
    assert ratios.item() == pytest.approx(ratio)
    losses.sum().backward()
    clamped = loss == pytest.approx(-advantage * min(max(ratio, 0.8), 1.2)) and ratio != 1
    assert logprobs.grad is not None
    assert logprobs.grad.item() == pytest.approx(0.0 if clamped else -advantage * ratio)


@pytest.mark.parametrize(
    ("value", "old", "target", "loss"),
    [
        (1.0, 1.0, 3.0, 2.0),  # half of 2 squared
        (3.0, 1.0, 3.0, 0.5 * 1.8**2),  # clipped to 1.2
        (-1.0, 1.0, 3.0, 0.5 * 4.0**2),  # the unclipped one is worse
    ],
)
def test_the_clipped_value_loss(value: float, old: float, target: float, loss: float) -> None:
    found = value_losses(torch.tensor([value]), torch.tensor([old]), torch.tensor([target]), 0.2)
    assert found.item() == pytest.approx(loss)


def test_the_kl_controller() -> None:
    adaptive = KlController(0.2, PpoSettings())
    adaptive.update(divergence=7.0, decisions=5)
    assert adaptive.coefficient == pytest.approx(0.2 * (1 + (7 / 6 - 1) * 5 / 10_000))
    adaptive = KlController(0.2, PpoSettings())
    adaptive.update(divergence=100.0, decisions=5)
    assert adaptive.coefficient == pytest.approx(0.2 * (1 + 0.2 * 5 / 10_000))
    fixed = KlController(0.2, PpoSettings(kl_controller="fixed"))
    fixed.update(divergence=100.0, decisions=5)
    assert fixed.coefficient == 0.2


def test_the_published_coefficient_hardly_moves_in_a_thousand_episodes() -> None:
    """1,000 episodes of 5 decisions at either limit: between 0.181 and 0.221."""
    ends = []
    for divergence in (0.0, 100.0):
        controller = KlController(0.2, PpoSettings())
        for _ in range(1000):
            controller.update(divergence, 5)
        ends.append(controller.coefficient)
    assert ends == pytest.approx([0.181, 0.221], abs=5e-4)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"horizon": "match"}, "unknown horizon"),
        ({"kl_controller": "adaptve"}, "did you mean adaptive"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"clip": 0.0}, "clip must be positive or null"),
        ({"kl": -1.0}, "must not be negative"),
        ({"gae_lambda": 1.5}, "between 0 and 1"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ComityError, match=complaint):
        PpoSettings(**settings)  # type: ignore[arg-type]


# Updates on a tiny model


def world(
    answer: str = "constrained", prompt: str = "memory_one", **settings: object
) -> tuple[PpoLearner, list[TrainingSequence]]:
    """A learner, and sequences whose rewards differ."""
    models = tiny_models(prompt={"name": prompt}, answer={"name": answer})
    policy = learner(models)
    rollout = play_matches(dilemma(3), (policy, policy), 3)
    for number, d in enumerate(rollout.decisions):
        d.reward = float(number % 3) - (2.0 if d.move == 1 else 0.0)
    found = training_sequences(rollout, "main", 1.0)
    ppo = PpoSettings(**{"value_dropout": 0.0, **settings})  # type: ignore[arg-type]
    optimizer = OptimizerSettings(learning_rate=1e-2, gradient_clip=None)
    one = PpoLearner(models.engine, "main", optimizer, LossSettings(), updates=10, ppo=ppo)
    return one, found


@pytest.mark.parametrize("answer", ["constrained", "free"])
@pytest.mark.parametrize("prompt", ["memory_one", "conversation"])
def test_one_step_has_ratios_of_exactly_one(answer: str, prompt: str) -> None:
    one, found = world(answer, prompt, epochs=1)
    row = one.update(found)
    assert row["steps"] == 1
    assert row["ratio_min"] == row["ratio_max"] == 1.0


@pytest.mark.parametrize("answer", ["constrained", "free"])
def test_ratios_move_away_from_one_after_the_first_minibatch(answer: str) -> None:
    one, found = world(answer, epochs=2, minibatches=3, ratio_limit=None)
    row = one.update(found)
    assert row["steps"] == 6
    assert row["ratio_max"] - row["ratio_min"] > 1e-3
    assert one.version == 1


def test_micro_batches_change_nothing() -> None:
    gradients = []
    for budget in (10_000, 40):
        one, found = world("free", epochs=1, kl=0.1)
        one._microbatch_tokens = budget
        one.optimizer_step = lambda loss: 0.0  # type: ignore[method-assign]
        one.update(found)
        gradients.append(torch.cat([p.grad.flatten() for p in one._trainable_parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


def test_a_ratio_beyond_the_limit_takes_no_step() -> None:
    one, found = world(epochs=3, ratio_limit=1e-6)
    before = [p.detach().clone() for p in one._trainable_parameters()]
    row = one.update(found)
    assert (row["steps"], row["steps_skipped"]) == (0, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, one._trainable_parameters(), strict=True))


def test_what_is_rewarded_becomes_likelier() -> None:
    one, found = world(epochs=4, kl=0.0, normalize_scores=False)
    first = one.update(found)
    for _ in range(8):
        last = one.update(found)
    # Values come to predict the rewards of a batch that stays the same.
    assert last["value_loss"] < first["value_loss"]


def test_horizons() -> None:
    """With "answer" every one-term advantage is reward less value; "rounds" sees ahead."""
    own, found = world(epochs=1, kl=0.0, whiten=False, normalize_scores=False)
    own.update(found)
    ahead, found = world(
        epochs=1, kl=0.0, whiten=False, normalize_scores=False, horizon="rounds", gae_lambda=1.0
    )
    ahead.update(found)
    decisions = {d.source: d for sequence in found for d in sequence.decisions}
    for source, d in decisions.items():
        later = [
            o for o in decisions.values() if o.trajectory == d.trajectory and o.source > source
        ]
        # The values are alike: both have the same weights and seed.
        gap = ahead.mean_advantages[source] - own.mean_advantages[source]
        assert gap == pytest.approx(sum(o.reward for o in later), abs=1e-4)


def test_the_divergence_is_paid_for() -> None:
    """A reward of zero: the term's reward is minus the coefficient times log(pi / ref)."""
    one, found = world(epochs=1, kl=0.5, whiten=False, normalize_scores=False)
    with torch.no_grad():
        for p in one.value_head.parameters():
            p.zero_()
    silent = [
        TrainingSequence(x.ids, tuple(type(d)(**{**vars(d), "reward": 0.0}) for d in x.decisions))
        for x in found
    ]
    row = one.update(silent)
    reference = one.reference.logprobs(silent).double()
    pairs = zip([d for x in silent for d in x.decisions], reference, strict=True)
    gaps = {d.source: d.behavior[0] - float(r) for d, r in pairs}
    for source, gap in gaps.items():
        assert one.mean_advantages[source] == pytest.approx(-0.5 * gap, abs=1e-4)
    assert row["kl"] == pytest.approx(np.mean(list(gaps.values())), abs=1e-4)


def test_no_reference_pass_without_a_kl_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    one, found = world(epochs=1, kl=0.0)
    monkeypatch.setattr(one.reference, "logprobs", None)
    assert one.update(found)["kl"] is None


def test_state_and_resets() -> None:
    one, found = world(epochs=1)
    start = {key: value.clone() for key, value in one.value_head.state_dict().items()}
    one.update(found)
    state = one.state()
    assert one.moments.count > 0 and one.kl.coefficient != one.ppo.kl
    one.reset(["normalizer", "kl", "value_head", "optimizer"])
    assert one.moments.count == 0 and one.kl.coefficient == one.ppo.kl
    for key, value in one.value_head.state_dict().items():
        assert torch.equal(value, start[key])
    assert not one.optimizer.state
    one.restore_state(state)
    assert one.moments.count > 0 and one.kl.coefficient == state["kl"]


def test_with_the_horizon_rounds_talk_and_claim_are_paid_once() -> None:
    """A thought, a message and a claim in each of two rounds; values of 0 and lambda 1."""
    settings = PpoSettings(horizon="rounds", discount=0.5, gae_lambda=1.0, kl=0.0, whiten=False)
    decisions = [
        TrainedDecision(1, (7,) * terms, (), (0.0,) * terms, 0.0, source=source, round=source // 3)
        for source, terms in enumerate((2, 1, 3, 1, 2, 1))
    ]
    order = [4, 0, 5, 2, 1, 3]  # as sequences may come
    sequences = [TrainingSequence((7,) * 9, (decisions[i],)) for i in order]
    scores = {source: (6.0, 10.0)[source // 3] for source in range(6)}

    def advantages(ppo: PpoSettings) -> dict[int, float]:
        batch = PpoBatch(ppo, sequences, scores)
        terms = torch.zeros(10)
        batch.prepare(TermOutputs(terms, terms, torch.zeros(10, 2)), values=terms)
        return batch.mean_advantages()

    # The first round's 6, and half of the second round's 10.
    assert advantages(settings) == {0: 11.0, 1: 11.0, 2: 11.0, 3: 10.0, 4: 10.0, 5: 10.0}
    bandits = replace(settings, horizon="answer", discount=1.0)
    assert advantages(bandits) == scores
