"""`answer.train_illegal=false`: an answer that stayed illegal counts, and is not learned from."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from comity.config.compose import compose
from comity.errors import ComityError
from comity.evaluation.metrics import iteration_metrics
from comity.experiments.rules import check_training
from comity.games.base import Game
from comity.learning.advantages import AdvantageEstimates, StepRewards, estimate_advantages
from comity.learning.algorithms.advantage_alignment import AdvantageAlignment
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.training_batch import training_sequences
from comity.players.language_model.player import LanguageModelBackend
from comity.prompts.answers import Attempts, Constrained, Free
from comity.rollout.play import Rollout
from comity.rollout.recording import record_rewards
from comity.train import mean_rewards, payoff_decisions
from tests.players.answer_models import Easy, Terse, split, told
from tests.worlds import dilemma, learner, play_matches, tiny_models

TRY = {"name": "attempts", "fallback": "illegal", "message_tokens": 6}
WORLDS: dict[str, tuple[dict[str, Any], type | None, Game]] = {
    "once": (TRY, Easy, split(rounds=2)),
    "twice": ({**TRY, "free_attempts": 2, "retry_feedback": "append"}, Easy, split(rounds=2)),
    "thinking": ({**TRY, "thinking": 6}, Easy, split(rounds=2)),
    "one round": (TRY, Easy, split("ultimatum", 1)),
    "free": ({"name": "free", "max_tokens": 1}, None, dilemma(3)),
    "cut": ({"name": "constrained", "message_tokens": 6, "claim_tokens": 1}, Terse, split()),
}


def rolled(
    name: str, train_illegal: bool, matches: int = 6
) -> tuple[LanguageModelBackend, Rollout]:
    answer, prompt, game = WORLDS[name]
    block = {"name": "negotiation"} if prompt else {"name": "conversation", "labels": ["Z", "!"]}
    answer = {**answer, "train_illegal": train_illegal}
    models = tiny_models(prompt=block, answer=answer, adapters=("main", "b"))
    models = told(models, prompt) if prompt else models
    return models, play_matches(game, (learner(models), learner(models, "b")), matches)


def credit(rollout: Rollout, algorithm: Reinforce) -> tuple[StepRewards, AdvantageEstimates]:
    played = rollout.played
    step_rewards = StepRewards.of(rollout.decisions, played.payoffs, played.alive, "rounds")
    result = estimate_advantages(
        step_rewards.rewards,
        step_rewards.alive,
        algorithm,
        np.zeros(len(step_rewards.alive), dtype=int),
        step_rewards.trained,
    )
    for d, place in zip(rollout.decisions, step_rewards.decision_steps, strict=True):
        d.reward = float(played.payoffs[d.match, d.seat, d.round])
        d.return_, d.advantage = float(result.returns[place]), float(result.advantages[place])
    return step_rewards, result


@pytest.mark.parametrize("name", WORLDS)
def test_only_the_mark_of_illegal_answers_differs(name: str) -> None:
    _, usual = rolled(name, True)
    _, spared = rolled(name, False)
    seen = set()
    for d, e in zip(usual.decisions, spared.decisions, strict=True):
        final = d.kind not in ("think", "attempt")
        assert d.trained == (d.kind != "attempt") and d.controller == e.controller == "live"
        assert e.trained == (d.trained and not (final and d.move < 0))
        assert str(replace(d, trained=e.trained)) == str(e)
        seen.add((final, e.trained))
    assert {(True, True), (True, False)} <= seen
    assert usual.conversations == spared.conversations
    assert iteration_metrics(usual.decisions) == iteration_metrics(spared.decisions)


def test_metrics_count_who_gave_nothing_but_illegal_answers() -> None:
    """Also a seat of which nothing is learned in a match."""
    _, rollout = rolled("one round", False)
    learned: dict[tuple[int, int], bool] = {}
    for d in rollout.decisions:
        learned[d.match, d.seat] = learned.get((d.match, d.seat), False) | d.trained
    assert not all(learned.values()) and any(learned.values())
    asked = [d for d in rollout.decisions if d.kind in ("message", "claim", "respond")]
    row = iteration_metrics(rollout.decisions)
    assert row["illegal"] == sum(d.move < 0 for d in asked) / len(asked) > 0
    assert row["payoff"] == pytest.approx(float(rollout.played.payoffs[:, :, 0].mean()))
    ends = [d for d in rollout.decisions if d.kind in ("claim", "respond")]
    record_rewards(rollout.decisions, {"own": rollout.played.payoffs})
    assert payoff_decisions(rollout) == ends and len(ends) == 12
    assert mean_rewards(rollout)["own"] == pytest.approx(float(rollout.played.payoffs.mean()))


@pytest.mark.parametrize("name", ["once", "one round", "free"])
@pytest.mark.parametrize(
    "algorithm",
    [
        Reinforce(baseline="leave_one_out", whiten=False),
        Reinforce(baseline="batch_pooled", whiten=True),
        AdvantageAlignment(baseline="batch", whiten=False),
    ],
)
def test_returns_and_baselines_see_the_rewards_of_what_is_not_learned_from(
    name: str, algorithm: Reinforce
) -> None:
    _, usual = rolled(name, True)
    _, spared = rolled(name, False)
    (step_rewards, ours), (other, theirs) = credit(spared, algorithm), credit(usual, algorithm)
    assert step_rewards.trained.all() and np.array_equal(step_rewards.trained, other.trained)
    assert np.array_equal(ours.returns, theirs.returns)
    assert np.array_equal(ours.advantages, theirs.advantages)
    if name == "one round":
        # A seat's baseline is the mean of all other matches, whatever was answered there.
        payoffs = usual.played.payoffs[:, 0, 0]
        if algorithm.baseline == "leave_one_out":
            expected = payoffs - (payoffs.sum() - payoffs) / (len(payoffs) - 1)
            assert ours.advantages[:, 0, 0] == pytest.approx(expected)


def gradient(
    models: LanguageModelBackend, rollout: Rollout, settings: LossSettings
) -> torch.Tensor:
    one = Learner(models.engine, "main", OptimizerSettings(), settings, 9)
    one.accumulate_gradients(training_sequences(rollout, "main", 1.0))
    found = torch.cat([p.grad.flatten() for p in one.parameters.values() if p.grad is not None])
    for parameter in one.parameters.values():
        parameter.grad = None
    return found


@pytest.mark.parametrize("normalization", ["decisions", "tokens", "trajectory", "sum"])
def test_the_loss_leaves_them_out_and_is_normalized_without_them(normalization: str) -> None:
    """Against the whole loss of a batch in which they have no advantage, by its other Z."""
    models, usual = rolled("once", True)
    other, spared = rolled("once", False)
    algorithm = Reinforce(baseline="batch", whiten=False)
    credit(usual, algorithm)
    credit(spared, algorithm)
    settings = LossSettings(normalization=normalization, importance_cap=None)
    ours = gradient(other, spared, settings)
    mine = [d for d in usual.decisions if d.adapter == "main" and d.tokens]
    left = [d for d in mine if d.trained and d.move >= 0]
    assert 0 < len(left) < len([d for d in mine if d.trained])
    # By hand: every term's gradient with its weight, summed.
    tokens: dict[tuple[int, int], int] = {}
    for d in left:
        tokens[d.match, d.seat] = tokens.get((d.match, d.seat), 0) + len(d.tokens)
    z = {
        "decisions": {place: len(left) for place in tokens},
        "tokens": {place: sum(tokens.values()) for place in tokens},
        "trajectory": {place: len(tokens) * count for place, count in tokens.items()},
        "sum": dict.fromkeys(tokens, 1),
    }[normalization]
    for d in mine:
        legal = d.trained and d.move >= 0
        d.advantage = d.advantage / z[d.match, d.seat] if legal else 0.0
    expected = gradient(models, usual, LossSettings(normalization="sum", importance_cap=None))
    assert float(expected.norm()) > 0
    scale = float(expected.abs().max())
    torch.testing.assert_close(ours, expected, atol=1e-5 * scale, rtol=1e-3)


def test_ppo_over_rounds_refuses_to_lose_their_rewards() -> None:
    ppo = ["algorithm=ppo", "answer.train_illegal=false"]
    check_training(compose("ipd", ppo))
    with pytest.raises(ComityError, match=r"set algorithm\.horizon=answer") as refused:
        check_training(compose("ipd", [*ppo, "algorithm.horizon=rounds"]))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("size", ["", "small/"])
def test_the_presets_whose_errors_are_untrained(size: str) -> None:
    untrained = {"ipd_overt", "ipd_overt_restricted", "ultimatum"}
    for name in (*untrained, "ipd_covert", "ipd_covert_restricted", "negotiation_game"):
        answer = compose(f"myopic/{size}{name}").answer
        assert answer["train_illegal"] == (name not in untrained)
    for form in (Attempts(), Constrained(), Free()):
        assert form.train_illegal
