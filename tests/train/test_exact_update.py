"""The algorithm `exact` against sampled REINFORCE, and as a way to train."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from comity.errors import ComityError
from comity.games.base import Game
from comity.learning.algorithms import Exact, Reinforce
from comity.learning.credit import advantages
from comity.learning.exact_update import ExactGradient, enumerable
from comity.learning.learner import Learner, OptimizerSettings
from comity.players.base import Player
from comity.players.language_model import LanguageModels, Policy
from comity.players.script import ScriptedPlayer
from comity.players.scripted import SCRIPTED
from comity.prompts import PROMPTS
from comity.prompts.answers import Forced, Free
from comity.registry import build
from comity.rewards import REWARDS
from comity.rollout.play import Match, play
from comity.train import lessons
from tests.worlds import dilemma, learner, tiny_models

BATCHES, MATCHES = 16, 250
"""The sampled gradient is the mean over so many independent batches of so many matches."""

Gradient = dict[str, torch.Tensor]


def script(name: str) -> ScriptedPlayer:
    return ScriptedPlayer(name, SCRIPTED[name]())


def make_learner(models: LanguageModels, algorithm: Exact | Reinforce) -> Learner:
    settings = OptimizerSettings(learning_rate=0.01)
    return Learner(models.engine, "main", settings, algorithm.loss(), 10)


def taken(one: Learner) -> Gradient:
    """The gradient that has been added up; none is left."""
    found = {n: p.grad.double() for n, p in one.parameters.items() if p.grad is not None}
    one.optimizer.zero_grad(set_to_none=True)
    return found


def sampled(
    models: LanguageModels, game: Game, players: tuple[Player, ...], algorithm: Reinforce
) -> list[Gradient]:
    """The gradients of independent batches of matches."""
    one = make_learner(models, algorithm)
    gradients = []
    for batch in range(BATCHES):
        matches = [
            Match(m, m, batch * MATCHES + m, players, ("sampled", batch, m))
            for m in range(MATCHES)
        ]
        rollout = play(game, matches)
        rewards = REWARDS["own"]()(rollout.played, game)
        trained = np.array([[p.trained for p in players]] * MATCHES)
        credited = advantages(
            rewards, rollout.played.alive, algorithm.credit(), np.arange(MATCHES), trained
        )
        for d in rollout.decisions:
            d.advantage = float(credited[d.match, d.seat, d.round])
        one.accumulate(lessons(rollout, "main", players[0].temperature))  # type: ignore[attr-defined]
        gradients.append(taken(one))
    return gradients


def exact(
    models: LanguageModels, game: Game, players: tuple[Player, ...], algorithm: Exact
) -> Gradient:
    one = make_learner(models, algorithm)
    gradient = ExactGradient(algorithm, game, REWARDS["own"](), models, players)
    gradient.accumulate("main", gradient.faced())
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


CASES: dict[str, tuple[dict[str, object], Callable[[Policy], tuple[Player, ...]]]] = {
    "tit_for_tat": ({}, lambda one: (one, script("tit_for_tat"))),
    "self-play": ({}, lambda one: (one, one)),
    "seat 1, noise, random length": (
        {
            "noise": 0.1,
            "start": "uniform",
            "length": {"name": "geometric", "continue_probability": 0.6, "cap": 3},
        },
        lambda one: (script("win_stay_lose_shift"), one),
    ),
    "asymmetric self-play": ({"name": "bach_or_stravinsky"}, lambda one: (one, one)),
}


@pytest.mark.parametrize("case", CASES)
def test_sampled_gradients_average_to_the_exact_one(case: str) -> None:
    """16 x 250 matches of 3 rounds: every adapter tensor within 3 standard errors.

    And the test can tell: a gradient for another discount is farther away.
    """
    parameters, seated = CASES[case]
    models = tiny_models(prompt={"name": "memory_one", "labels": ["A", "B"]})
    game = dilemma(3, **parameters)
    players = seated(learner(models, temperature=1.5))
    weights = {"kl": 0.3, "entropy": 0.2}
    reinforce = Reinforce(0.8, "none", whiten=False, importance_cap=None, **weights)
    batches = sampled(models, game, players, reinforce)
    scores = z_scores(batches, exact(models, game, players, Exact(0.8, **weights)))
    assert len(scores) == 28
    assert max(scores.values()) < 3, scores
    wrong = z_scores(batches, exact(models, game, players, Exact(0.3, **weights)))
    assert max(wrong.values()) > 4
