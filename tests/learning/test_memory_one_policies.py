"""Credit at work on policies of five numbers: naive learning defects, alignment reciprocates.

Two seats of an iterated dilemma (T/R/P/S = 5/3/1/0, ten rounds) share the chances to cooperate
at the start and after CC, CD, DC, DD (own move first). Only the credit differs; it is made by
the very function that trains language models. What was learned is then evaluated exactly.
"""

import numpy as np
import pytest
import torch

from comity.learning.advantages import estimate_advantages
from comity.learning.algorithms.advantage_alignment import AdvantageAlignment
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.exact.policy_gradient import expected_return

PAYOFFS = np.array([[3.0, 0.0], [5.0, 1.0]])
"""By own and other's move; 0 cooperates."""
MATCHES, ROUNDS, UPDATES = 512, 10, 1000

pytestmark = pytest.mark.slow


def trained(algorithm: Reinforce, seed: int, shared: bool = True) -> np.ndarray:
    """P(C) in the five states, `[seat, state]`, after training both from a coin's toss.

    Adam with rate 0.03 on the logits; one row for both seats where they are `shared`.
    """
    random = np.random.default_rng(seed)
    owner = [0, 0] if shared else [0, 1]
    logits = torch.zeros(max(owner) + 1, 5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.03)
    alive = np.ones((MATCHES, ROUNDS), bool)
    for iteration in range(UPDATES):
        chances = logits.detach().sigmoid().numpy()[owner]
        states = np.zeros((MATCHES, 2, ROUNDS), int)
        moves = np.zeros_like(states)
        dice = random.random(states.shape)
        for t in range(ROUNDS):
            if t:
                own = moves[:, :, t - 1]
                states[:, :, t] = 1 + 2 * own + own[:, ::-1]
            moves[:, :, t] = dice[:, :, t] >= chances[[0, 1], states[:, :, t]]
        rewards = PAYOFFS[moves, moves[:, ::-1]]
        credit = estimate_advantages(rewards, alive, algorithm, iteration=iteration).advantages
        # d log pi / d logit is (1 if C) - P(C); the mean over decisions.
        gradient = np.zeros((2, 5))
        for seat in (0, 1):
            at = states[:, seat].ravel()
            terms = ((moves[:, seat].ravel() == 0) - chances[seat, at]) * credit[:, seat].ravel()
            gradient[seat] = np.bincount(at, terms, minlength=5) / len(at)
        logits.grad = torch.zeros_like(logits)
        logits.grad.index_add_(0, torch.tensor(owner), torch.from_numpy(-gradient))
        optimizer.step()
    found: np.ndarray = logits.detach().sigmoid().numpy()[owner]
    return found


def payoff(own: np.ndarray, other: np.ndarray) -> float:
    """Expected payoff a round of a seat with these chances to cooperate, `[state]` each."""
    tables = [torch.from_numpy(np.stack([chance, 1 - chance], axis=1)) for chance in (own, other)]
    return float(expected_return(tables[0], tables[1], torch.from_numpy(PAYOFFS), ROUNDS)) / ROUNDS


NAIVE = AdvantageAlignment(discount=0.9, baseline="batch", weight=0.0)
ALIGNED = AdvantageAlignment(discount=0.9, baseline="batch", weight=1.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_naive_learning_ends_in_defection(seed: int) -> None:
    own, other = trained(NAIVE, seed)
    assert payoff(own, other) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_alignment_learns_to_reciprocate(seed: int) -> None:
    own, other = trained(ALIGNED, seed)
    after_cc, after_cd = own[1], own[2]
    assert after_cc >= 0.9 and after_cd <= 0.1
    assert payoff(own, other) >= 2.5
    # Nor is it exploited: defecting on it pays less than cooperating with it.
    defector = np.zeros(5)
    assert payoff(defector, own) < payoff(np.ones(5), own) - 1
    assert payoff(own, defector) > 0.85


def test_alignment_of_two_separate_policies() -> None:
    """Both reciprocate too; one forgives a little more than the other and earns less."""
    own, other = trained(ALIGNED, seed=0, shared=False)
    for policy in (own, other):
        assert policy[1] >= 0.9 and policy[2] <= 0.1
    assert payoff(own, other) + payoff(other, own) >= 2 * 2.4


def test_the_sum_of_advantages_cooperates_and_is_exploited() -> None:
    own, other = trained(AdvantageAlignment(baseline="batch", form="sum", peers="sum"), seed=0)
    assert payoff(own, other) > 2.9
    assert payoff(np.zeros(5), own) > 4
