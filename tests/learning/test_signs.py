"""One step on a term of a loss moves what the term is about, the way that it should.

Every term of every learner's loss, on answers that were sampled freely, scored and bound by a
grammar alike: with the other terms at nothing, one small step along the gradient. So no term can
be left out of a gradient, or come with the wrong sign, for one way of answering alone.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from comity.learning.critic import Critic
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.ppo.learner import PpoLearner
from comity.learning.ppo.objective import PpoSettings
from comity.learning.reference_policy import ReferencePolicy
from comity.learning.training_batch import TrainingSequence, evaluate_terms, training_sequences
from comity.players.language_model.player import LanguageModelBackend
from comity.prompts.negotiation.prompt import Negotiation
from tests.players.answer_models import Terse, split
from tests.worlds import dilemma, learner, play_matches, tiny_models

ANSWERS: dict[str, dict[str, Any]] = {
    "scored": {"name": "constrained"},
    "sampled": {"name": "free", "max_tokens": 3},
    "attempts": {"name": "attempts", "claim_tokens": 3},
    "thinking": {"name": "constrained", "thinking": 6},
    "grammar": {"name": "constrained", "message_tokens": 5},
}
STEP = 2e-3


def world(answer: str, dropout: float = 0.0) -> tuple[LanguageModelBackend, list[TrainingSequence]]:
    if answer == "grammar":
        models = tiny_models(prompt={"name": "negotiation"}, answer=ANSWERS[answer])
        terse: Negotiation = Terse()
        models, game = replace(models, prompt=terse), split(rounds=1)
    else:
        prompt = {"name": "conversation", "labels": ["action1", "action22"]}
        models, game = tiny_models(prompt=prompt, answer=ANSWERS[answer]), dilemma(2)
    policy = learner(models)
    rollout = play_matches(game, (policy, policy), 3)
    for d in rollout.decisions:
        d.advantage = d.reward = 0.0
    found = training_sequences(rollout, "main", 1.0)
    assert any(d.answers for one in found for d in one.decisions) == (
        answer in ("scored", "thinking", "attempts")
    )
    assert any(any(d.masks) for one in found for d in one.decisions) == (
        answer in ("thinking", "grammar")
    )
    return models, found


def paid(found: list[TrainingSequence], sign: float = 1.0) -> list[TrainingSequence]:
    """The first decision of every conversation is better than the others."""
    return [
        replace(
            one,
            decisions=tuple(
                replace(d, advantage=value, reward=value)
                for n, d in enumerate(one.decisions)
                for value in [sign if n == 0 else -sign]
            ),
        )
        for one in found
    ]


def entropy(
    models: LanguageModelBackend, found: list[TrainingSequence], top: int | None = None
) -> float:
    return float(evaluate_terms(models.engine, found, "main", entropy_top_k=top).entropy.mean())


def far_from_base(models: LanguageModelBackend, found: list[TrainingSequence]) -> float:
    """Mean k3 of the terms, which is 0 where the policy is the base and positive elsewhere."""
    now = evaluate_terms(models.engine, found, "main").logprobs
    gap = ReferencePolicy(models.engine).logprobs(found) - now
    return float((gap.exp() - gap - 1).mean())


def reinforce(models: LanguageModelBackend, **settings: Any) -> Learner:
    optimizer = OptimizerSettings(learning_rate=STEP, gradient_clip=None)
    return Learner(models.engine, "main", optimizer, LossSettings(**settings), 9)


def proximal(models: LanguageModelBackend, **settings: Any) -> PpoLearner:
    optimizer = OptimizerSettings(learning_rate=STEP, gradient_clip=None)
    nothing = {"kl": 0.0, "value_weight": 0.0, "epochs": 1, "normalize_scores": False}
    ppo = PpoSettings(**{**nothing, "whiten": False, **settings})
    made = PpoLearner(models.engine, "main", optimizer, LossSettings(), 9, ppo=ppo)
    with torch.no_grad():  # Values of 0: what is rewarded is the advantage.
        made.value_head.linear.weight.zero_()
        made.value_head.linear.bias.zero_()
    return made


def taken(one: Learner) -> torch.Tensor:
    """The gradient that was added up, which is taken away."""
    found = torch.cat([p.grad.flatten() for p in one.parameters.values() if p.grad is not None])
    one.optimizer.zero_grad(set_to_none=True)
    return found


POLICY: dict[str, Callable[[LanguageModelBackend], Learner]] = {
    "reinforce": lambda models: reinforce(models),
    "without importance weights": lambda models: reinforce(models, importance_cap=None),
    "weights per step": lambda models: reinforce(models, importance_level="per_step"),
    "clipped surrogate": lambda models: reinforce(models, ratio_clip=0.2),
    "clipped, per step": lambda models: reinforce(
        models, ratio_clip=0.2, importance_level="per_step"
    ),
    "ppo": lambda models: proximal(models),
    "ppo without clipping": lambda models: proximal(models, clip=None),
    "ppo, several steps": lambda models: proximal(models, epochs=2, minibatches=2),
    "ppo over rounds": lambda models: proximal(models, horizon="rounds", discount=0.0),
}
for kind in ("decisions", "tokens", "trajectory", "minibatch", "sum"):
    POLICY[f"divided by {kind}"] = lambda models, kind=kind: reinforce(models, normalization=kind)  # type: ignore[misc]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("kind", POLICY)
def test_what_is_better_becomes_likelier(kind: str, answer: str) -> None:
    models, found = world(answer)
    better = paid(found)
    before = evaluate_terms(models.engine, better, "main").logprobs
    made = POLICY[kind](models)
    made.update(better)
    change = evaluate_terms(models.engine, better, "main").logprobs - before
    decisions = [d for one in better for d in one.decisions]
    credit = made.mean_advantages if isinstance(made, PpoLearner) else {}
    better_by = [credit.get(d.source, d.advantage) for d in decisions for _ in d.behavior]
    assert float((change * torch.tensor(better_by)).mean()) > 1e-3


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(
    ("kind", "top"), [("reinforce", None), ("reinforce", 4), ("ppo", None), ("ppo steps", None)]
)
def test_the_entropy_bonus_raises_entropy(kind: str, top: int | None, answer: str) -> None:
    models, found = world(answer)
    made: Learner
    if kind == "reinforce":
        made = reinforce(models, entropy=1.0, entropy_top_k=top)
    else:
        steps = {"epochs": 2, "minibatches": 2} if kind == "ppo steps" else {}
        made = proximal(models, entropy=1.0, **steps)
    before = entropy(models, found, top)
    row = made.update(found)
    if kind != "ppo steps":
        assert row["entropy"] == pytest.approx(before, rel=1e-4)
    assert entropy(models, found, top) > before + 1e-3


@pytest.mark.parametrize("kind", ["reinforce", "ppo"])
def test_the_bonus_of_one_kind_of_turn_is_the_gradient_of_its_entropy(kind: str) -> None:
    """Against the bonus on sequences without the others' decisions."""
    models, found = world("grammar")
    kinds = {d.kind for one in found for d in one.decisions}
    assert kinds == {"message", "claim"}

    def gradient(some: list[TrainingSequence], turns: tuple[str, ...] | None) -> torch.Tensor:
        made = (
            reinforce(models, entropy=1.0, entropy_turns=turns, normalization="sum")
            if kind == "reinforce"
            else proximal(models, entropy=1.0, entropy_turns=turns)
        )
        made.optimizer_step = lambda loss: 0.0  # type: ignore[method-assign]
        made.update(some)
        result = torch.cat(
            [p.grad.flatten() for p in made.parameters.values() if p.grad is not None]
        )
        terms = sum(len(d.behavior) for one in some for d in one.decisions)
        made.optimizer.zero_grad(set_to_none=True)
        return result * (terms if kind == "ppo" else 1)

    together = gradient(found, None)
    parts = []
    for turn in sorted(kinds):
        alone = [
            TrainingSequence(one.ids, tuple(d for d in one.decisions if d.kind == turn))
            for one in found
        ]
        mine, theirs = gradient(found, (turn,)), gradient([o for o in alone if o.decisions], None)
        torch.testing.assert_close(mine, theirs, atol=1e-4 * float(together.abs().max()), rtol=1e-3)
        assert float(mine.norm()) > 0
        parts.append(mine)
    torch.testing.assert_close(
        sum(parts), together, atol=1e-4 * float(together.abs().max()), rtol=1e-3
    )


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_divergence_falls(answer: str) -> None:
    models, found = world(answer)
    before = far_from_base(models, found)
    row = reinforce(models, kl=1.0).update(found)
    assert row["kl"] == pytest.approx(before, rel=1e-4)
    assert far_from_base(models, found) < before - 1e-4


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_divergence_that_is_paid_for_falls(answer: str) -> None:
    """PPO: minus the weight times log(pi/ref) is a reward of every term.

    On average over samples the gradient of the divergence is log(pi/ref) times that of log pi; so
    a step on these samples lowers what was above the reference and raises what was below it.
    """
    models, found = world(answer)
    before = evaluate_terms(models.engine, found, "main").logprobs
    gap = before - ReferencePolicy(models.engine).logprobs(found)
    fixed = {"kl_controller": "fixed", "gae_lambda": 0.0, "discount": 0.0}
    made = proximal(models, kl=1.0, **fixed)
    row = made.update(found)
    decisions = sum(len(one.decisions) for one in found)
    assert row["kl"] == pytest.approx(float(gap.sum()) / decisions, rel=1e-3, abs=1e-5)
    after = evaluate_terms(models.engine, found, "main").logprobs
    assert float((gap * (after - before)).sum()) < -1e-5


@pytest.mark.parametrize("answer", ANSWERS)
def test_values_come_nearer_to_returns(answer: str) -> None:
    models, found = world(answer)
    rich = [replace(o, decisions=tuple(replace(d, reward=3.0) for d in o.decisions)) for o in found]
    made = proximal(models, value_weight=1.0, clip=None, value_clip=None, value_dropout=0.0)
    rows = [made.update(rich) for _ in range(3)]
    losses = [row["value_loss"] for row in rows]
    assert losses[0] > losses[1] > losses[2]
    assert rows[0]["value_mean"] < rows[1]["value_mean"] < rows[2]["value_mean"]


@pytest.mark.parametrize("loss", ["huber", "squared"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_critic_comes_nearer_to_its_targets(answer: str, loss: str) -> None:
    models, found = world(answer)
    models.engine.adapters.add("main:critic", rank=4, alpha=8, seed=3)
    critic = Critic(
        models.engine, "main:critic", OptimizerSettings(learning_rate=STEP), 9, loss=loss
    )
    states = [
        replace(
            one,
            decisions=tuple(
                replace(d, answers=(), tokens=(), behavior=(), masks=(), advantage=2.0, source=n)
                for n, d in enumerate(one.decisions)
            ),
        )
        for one in found
    ]
    losses = []
    for _ in range(3):
        critic.set_targets(states)
        losses.append(critic.train_step()["critic_loss"])
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_weight_above_the_cap_counts_as_the_cap(answer: str) -> None:
    """The gradient is that of the cap times the advantage, whatever is above it."""
    models, found = world(answer)

    def gradient(lower: float, **settings: Any) -> torch.Tensor:
        some = [
            replace(
                o,
                decisions=tuple(
                    replace(d, behavior=tuple(b - lower for b in d.behavior)) for d in o.decisions
                ),
            )
            for o in paid(found)
        ]
        made = reinforce(models, **settings)
        made.accumulate_gradients(some)
        result = torch.cat(
            [p.grad.flatten() for p in made.parameters.values() if p.grad is not None]
        )
        made.optimizer.zero_grad(set_to_none=True)
        return result

    plain = gradient(0.0, importance_cap=None)
    scale = 1e-4 * float(plain.abs().max())
    for lower, cap, factor in ((3.0, 2.0, 2.0), (0.5, 2.0, np.exp(0.5)), (3.0, None, 1.0)):
        torch.testing.assert_close(
            gradient(lower, importance_cap=cap), factor * plain, atol=factor * scale, rtol=1e-3
        )
