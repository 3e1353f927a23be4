"""The algorithm `exact` against sampled REINFORCE, and as a way to train."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from comity.errors import ComityError
from comity.games.base import Game, Turn
from comity.learning.algorithms import Exact
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.credit.returns import advantages
from comity.learning.exact_gradient import ExactGradient, check_enumerable
from comity.learning.learner import Learner
from comity.learning.optimizer import OptimizerSettings
from comity.players.base import Player
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.players.scripted.player import StrategyPlayer
from comity.prompts import PROMPTS
from comity.prompts.answers import Constrained
from comity.prompts.base import Prompt
from comity.registry import build
from comity.rewards import REWARDS
from comity.rollout.play import Match, play
from comity.train import training_sequences
from tests.worlds import dilemma, learner, tiny_models

BATCHES, MATCHES = 16, 100
"""The sampled gradient is the mean over so many independent batches of so many matches."""

TEMPERATURE = 1.5

Gradient = dict[str, torch.Tensor]


def script(name: str) -> StrategyPlayer:
    return StrategyPlayer(name, MATRIX_STRATEGIES[name]())


def make_learner(models: LanguageModelBackend, algorithm: Exact | Reinforce) -> Learner:
    settings = OptimizerSettings(learning_rate=0.01)
    return Learner(models.engine, "main", settings, algorithm.loss(), 10)


def taken(one: Learner) -> Gradient:
    """The gradient that has been added up; none is left."""
    found = {n: p.grad.double() for n, p in one.parameters.items() if p.grad is not None}
    one.optimizer.zero_grad(set_to_none=True)
    return found


def sampled(
    models: LanguageModelBackend, game: Game, players: tuple[Player, ...], algorithm: Reinforce
) -> list[Gradient]:
    """The gradients of independent batches of matches."""
    one = make_learner(models, algorithm)
    gradients = []
    for batch in range(BATCHES):
        matches = [
            Match(m, m, batch * MATCHES + m, players, ("sampled", batch, m)) for m in range(MATCHES)
        ]
        rollout = play(game, matches)
        rewards = REWARDS["own"]()(rollout.played, game)
        trained = np.array([[p.trained for p in players]] * MATCHES)
        credited = advantages(
            rewards, rollout.played.alive, algorithm.credit(), np.arange(MATCHES), trained
        )
        for d in rollout.decisions:
            d.advantage = float(credited[d.match, d.seat, d.round])
        one.accumulate_gradients(training_sequences(rollout, "main", TEMPERATURE))
        gradients.append(taken(one))
    return gradients


def exact(
    models: LanguageModelBackend,
    game: Game,
    players: tuple[Player, ...],
    algorithm: Exact,
    reward: str = "own",
) -> Gradient:
    one = make_learner(models, algorithm)
    gradient = ExactGradient(algorithm, game, REWARDS[reward](), models, players)
    gradient.accumulate_gradients("main", gradient.current_policies())
    return taken(one)


def z_scores(batches: list[Gradient], expected: Gradient) -> dict[str, float]:
    """Per tensor the distance of the batches' mean to what is expected, in standard errors.

    The squared distance over the sum of the components' squared standard errors is 1 on
    average where the expectation is right.
    """
    scores = {}
    for name, value in expected.items():
        found = torch.stack([gradient[name] for gradient in batches])
        squared_error = found.var(dim=0).sum() / len(batches)
        scores[name] = float(((found.mean(dim=0) - value).square().sum() / squared_error).sqrt())
    return scores


WEIGHTS = {"kl": 0.3, "entropy": 0.2}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[[Policy], tuple[Player, ...]]]] = {
    "tit_for_tat": ({}, {}, lambda one: (one, script("tit_for_tat"))),
    "self-play": ({}, {}, lambda one: (one, one)),
    "kl, entropy, seat 1, noise, random length": (
        {
            "noise": 0.1,
            "initial_state": "uniform",
            "length": {"name": "geometric", "continue_probability": 0.6, "cap": 3},
        },
        WEIGHTS,
        lambda one: (script("win_stay_lose_shift"), one),
    ),
    "asymmetric self-play": ({"name": "bach_or_stravinsky"}, {}, lambda one: (one, one)),
}


@pytest.mark.parametrize("case", CASES)
def test_sampled_gradients_average_to_the_exact_one(case: str) -> None:
    """1,600 matches of 3 rounds: every adapter tensor within 3 standard errors.

    And the test can tell: the exact gradient for another reward is farther away.
    """
    parameters, weights, seated = CASES[case]
    models = tiny_models(prompt={"name": "memory_one", "labels": ["A", "B"]})
    game = dilemma(3, **parameters)
    players = seated(learner(models, temperature=TEMPERATURE))
    reinforce = Reinforce(0.8, "none", whiten=False, importance_cap=None, **weights)
    batches = sampled(models, game, players, reinforce)
    scores = z_scores(batches, exact(models, game, players, Exact(0.8, **weights)))
    assert len(scores) == 28
    assert max(scores.values()) < 3, scores
    other = exact(models, game, players, Exact(0.8, **weights), "utilitarian")
    assert min(z_scores(batches, other).values()) > 3


def test_what_the_update_reports_is_what_sampling_reports_on_average() -> None:
    """Divergence and entropy of 600 decisions within a few hundredths of the exact ones."""
    models = tiny_models(prompt={"name": "memory_one", "labels": ["A", "B"]}, noise=0.4)
    game, one = dilemma(3), learner(models)
    players = (one, script("tit_for_tat"))
    algorithm = Reinforce(importance_cap=None, **WEIGHTS)
    rollout = play(game, [Match(m, m, m, players, ("row", m)) for m in range(200)])
    for d in rollout.decisions:
        d.advantage = 0.0
    sums = make_learner(models, algorithm).accumulate_gradients(
        training_sequences(rollout, "main", 1.0)
    )
    gradient = ExactGradient(Exact(**WEIGHTS), game, REWARDS["own"](), models, players)
    (row,) = gradient.update({"main": make_learner(models, Exact(**WEIGHTS))})
    assert row["entropy"] == pytest.approx(sums.entropy / sums.terms, abs=0.03)
    assert row["kl"] == pytest.approx(sums.kl / sums.terms, abs=0.03)
    assert row["kl"] > 0.1 and row["decisions"] == 5
    assert row["importance_mean"] == row["importance_max"] == 1


def test_defection_rises_in_every_update_against_always_cooperate() -> None:
    models = tiny_models(prompt={"name": "memory_one", "labels": ["A", "B"]})
    players = (learner(models), script("always_cooperate"))
    gradient = ExactGradient(Exact(), dilemma(4), REWARDS["own"](), models, players)
    one = make_learner(models, Exact())
    defection = []
    for _ in range(8):
        table = gradient.current_policies()[0]
        # Against always_cooperate only these states occur: start, CC and DC.
        defection.append([float(table[state, 1]) for state in (0, 1, 3)])
        gradient.update({"main": one})
    assert (np.diff(np.array(defection), axis=0) > 0).all()
    assert min(defection[-1]) > 0.9


def test_two_learners_step_against_each_other_as_they_were() -> None:
    """The second learner's gradient does not see the first one's step."""
    models = tiny_models(
        prompt={"name": "memory_one", "labels": ["A", "B"]}, adapters=("one", "two")
    )
    game = dilemma(3)
    players = tuple(Policy(n, models, n, 1.0, 0, trained=True) for n in ("one", "two"))
    gradient = ExactGradient(Exact(), game, REWARDS["own"](), models, players)
    settings = OptimizerSettings(learning_rate=0.05)
    learners = {
        name: Learner(models.engine, name, settings, Exact().loss(), 10) for name in ("one", "two")
    }
    gradient.accumulate_gradients("two", gradient.current_policies())
    alone = taken(learners["two"])
    rows = gradient.update(learners)
    norm = float(torch.stack([g.square().sum() for g in alone.values()]).sum().sqrt())
    assert rows[1]["gradient_norm"] == pytest.approx(norm, rel=1e-5)


def test_a_match_of_one_round_needs_no_memory() -> None:
    """With one round and nothing before it the growing conversation has one state."""
    models = tiny_models()
    players = (learner(models), script("grim_trigger"))
    gradient = ExactGradient(Exact(), dilemma(1), REWARDS["own"](), models, players)
    assert gradient.current_policies()[0].shape == gradient.current_policies()[1].shape == (1, 2)
    sums = gradient.accumulate_gradients("main", gradient.current_policies())
    cooperation = float(gradient.current_policies()[0][0, 0])
    assert sums.loss == pytest.approx(-(3 * cooperation + 5 * (1 - cooperation)), abs=1e-5)


@dataclass(frozen=True)
class RoundsTold:
    """A memory-one prompt that also tells the number of the round."""

    inner: Prompt
    single_turn: ClassVar[bool] = True
    random_parameters: ClassVar[tuple[str, ...]] = ()

    def sample_variant(self, stream: tuple[int | str, ...]) -> "RoundsTold":
        return self

    def labels(self, game: Game) -> tuple[str, ...]:
        return self.inner.labels(game)

    def opening(self, game: Game, turn: Turn) -> str:
        return f"Round {turn.round}. {self.inner.opening(game, turn)}"

    def following(self, game: Game, turn: Turn) -> str:
        return self.opening(game, turn)


def test_prompts_that_show_more_than_the_last_round_are_refused() -> None:
    memory_one = build("prompt", {"name": "memory_one"}, PROMPTS)
    assert check_enumerable(
        dilemma(4, noise=0.1, initial_state="uniform"), memory_one, Constrained()
    )
    with pytest.raises(ComityError, match="prompt=memory_one"):
        check_enumerable(dilemma(4), RoundsTold(memory_one), Constrained())
    assert check_enumerable(dilemma(2), RoundsTold(memory_one), Constrained()), (
        "the round is the state"
    )
