"""The enumerated policy gradient against trees, finite differences and sampled REINFORCE."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from comity.errors import ComityError
from comity.learning.credit.returns import CreditSettings, advantages
from comity.learning.exact.policy_gradient import (
    exact_loss,
    expected_return,
    mirrored,
    reinforce_surrogate,
    uniform_start,
    with_trembles,
)

DILEMMA = torch.tensor([[3.0, 0.0], [5.0, 1.0]], dtype=torch.float64)
"""Own payoff by (own move, other's move)."""

TABLES = {
    "always_cooperate": [1, 1, 1, 1, 1],
    "always_defect": [0, 0, 0, 0, 0],
    "tit_for_tat": [1, 1, 0, 1, 0],
    "win_stay_lose_shift": [1, 1, 0, 0, 1],
    "random": [0.5] * 5,
}
"""P(C) in start, CC, CD, DC, DD."""


def table(cooperation: object) -> Tensor:
    chance = torch.as_tensor(cooperation, dtype=torch.float64)
    return torch.stack([chance, 1 - chance], dim=1)


def random_table(moves: int, seed: int, rows: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows or 1 + moves * moves, moves)
    return torch.rand(shape, generator=generator, dtype=torch.float64).softmax(dim=1)


def tree(
    learner: Tensor,
    opponent: Tensor,
    rewards: Tensor,
    rounds: int,
    discount: float,
    state: int = 0,
    mirror: int = 0,
    continuation: float = 1.0,
) -> float:
    """The expected return, walked move by move with each seat's state kept by itself."""
    if rounds == 0:
        return 0.0
    k = learner.shape[1]
    total = 0.0
    for a, b in product(range(k), repeat=2):
        chance = float(learner[state, a] * opponent[mirror, b])
        reward = float(rewards[a, b] if rewards.ndim == 2 else rewards[state, a, b])
        after = tree(
            learner,
            opponent,
            rewards,
            rounds - 1,
            discount,
            1 + k * a + b,
            1 + k * b + a,
            continuation,
        )
        total += chance * (reward + continuation * discount * after)
    return total


@pytest.mark.parametrize(("moves", "rounds"), [(2, 1), (2, 5), (3, 3)])
@pytest.mark.parametrize("discount", [0.0, 0.9, 1.0])
def test_expected_return_equals_the_tree(moves: int, rounds: int, discount: float):
    learner, opponent = random_table(moves, 1), random_table(moves, 2)
    generator = torch.Generator().manual_seed(3)
    for shape in ((moves, moves), (1 + moves * moves, moves, moves)):
        rewards = torch.randn(shape, generator=generator, dtype=torch.float64)
        ours = expected_return(learner, opponent, rewards, rounds, discount)
        expected = tree(learner, opponent, rewards, rounds, discount)
        assert float(ours) == pytest.approx(expected, abs=1e-12)


def test_uniform_start_equals_the_mean_of_the_trees():
    learner, opponent = random_table(2, 4), random_table(2, 5)
    ours = expected_return(learner, opponent, DILEMMA, 4, 0.9, uniform_start(2))
    expected = np.mean(
        [
            tree(learner, opponent, DILEMMA, 4, 0.9, 1 + 2 * a + b, 1 + 2 * b + a)
            for a, b in product(range(2), repeat=2)
        ]
    )
    assert float(ours) == pytest.approx(expected, abs=1e-12)


def test_random_length_equals_the_tree():
    learner, opponent = random_table(2, 6), random_table(2, 7)
    ours = expected_return(learner, opponent, DILEMMA, 5, 0.9, continuation=0.7)
    expected = tree(learner, opponent, DILEMMA, 5, 0.9, continuation=0.7)
    assert float(ours) == pytest.approx(expected, abs=1e-12)
    # Paid 1 a round, the return is the expected length (1 - p^cap) / (1 - p).
    length = expected_return(learner, opponent, torch.ones_like(DILEMMA), 5, continuation=0.7)
    assert float(length) == pytest.approx((1 - 0.7**5) / 0.3, abs=1e-12)


@pytest.mark.parametrize(
    ("learner", "opponent", "payoffs"),
    [
        ("tit_for_tat", "always_defect", (0.9, 1.4)),
        ("win_stay_lose_shift", "always_defect", (0.5, 3.0)),
        ("random", "random", (2.25, 2.25)),
        ("tit_for_tat", "win_stay_lose_shift", (3.0, 3.0)),
    ],
)
def test_known_payoffs_a_round(learner: str, opponent: str, payoffs: tuple[float, float]):
    first, second = table(TABLES[learner]), table(TABLES[opponent])
    assert float(expected_return(first, second, DILEMMA, 10)) / 10 == pytest.approx(payoffs[0])
    assert float(expected_return(second, first, DILEMMA, 10)) / 10 == pytest.approx(payoffs[1])


@pytest.mark.parametrize(
    ("learner", "opponent", "discounted"),
    [
        ("always_cooperate", "always_cooperate", 19.5396),
        ("always_defect", "always_defect", 6.5132),
        ("always_defect", "tit_for_tat", 10.5132),
        ("tit_for_tat", "always_defect", 5.5132),
    ],
)
def test_known_discounted_returns(learner: str, opponent: str, discounted: float):
    ours = expected_return(table(TABLES[learner]), table(TABLES[opponent]), DILEMMA, 10, 0.9)
    assert float(ours) == pytest.approx(discounted, abs=1e-4)


def test_mirrored_swaps_the_two_moves():
    assert mirrored(2).tolist() == [0, 1, 3, 2, 4]
    assert mirrored(3)[1 + 3 * 2 + 1] == 1 + 3 * 1 + 2
    assert (mirrored(4)[mirrored(4)] == torch.arange(17)).all()


def test_trembling_plays_another_move_that_often():
    ours = with_trembles(torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]]), 0.1)
    expected = torch.tensor([[0.9, 0.05, 0.05], [0.22, 0.305, 0.475]])
    torch.testing.assert_close(ours, expected)


def test_one_row_plays_the_same_in_every_state():
    row, opponent = random_table(2, 8, rows=1), random_table(2, 9)
    for value in (expected_return, reinforce_surrogate):
        ours = value(row, opponent, DILEMMA, 4, 0.9)
        torch.testing.assert_close(ours, value(row.expand(5, 2), opponent, DILEMMA, 4, 0.9))
    one_shot = expected_return(row, row, DILEMMA, 1)
    torch.testing.assert_close(one_shot, row[0] @ DILEMMA @ row[0])


def test_the_gradient_equals_finite_differences():
    logits = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(10))
    logits.requires_grad_()
    opponent = random_table(2, 11)

    def value(z: Tensor) -> Tensor:
        return expected_return(z.softmax(1), opponent, DILEMMA, 5, 0.9, uniform_start(2), 0.8)

    assert torch.autograd.gradcheck(value, logits)


def reinforce_gradient_by_tree(
    chance: Tensor, opponent: Tensor, rounds: int, discount: float
) -> Tensor:
    """E[sum_t grad log pi(a_t|s_t) G_t] over all paths, in the logit of C in each state."""
    gradient = torch.zeros(5, dtype=torch.float64)
    learner = table(chance)
    for moves in product(product(range(2), repeat=2), repeat=rounds):
        state, mirror, probability = 0, 0, 1.0
        states, rewards = [], []
        for a, b in moves:
            probability *= float(learner[state, a] * opponent[mirror, b])
            states.append(state)
            rewards.append(float(DILEMMA[a, b]))
            state, mirror = 1 + 2 * a + b, 1 + 2 * b + a
        for t, (a, _) in enumerate(moves):
            ahead = sum(discount ** (s - t) * rewards[s] for s in range(t, rounds))
            gradient[states[t]] += probability * (float(a == 0) - chance[states[t]]) * ahead
    return gradient


def gradient_in_logits(value: object, chance: Tensor, *arguments: object) -> Tensor:
    """Gradient of value(table, ...) in the logit of C in each state."""
    logits = chance.logit().requires_grad_()
    value(table_of(logits), *arguments).backward()  # type: ignore[operator]
    assert logits.grad is not None
    return logits.grad


def table_of(logits: Tensor) -> Tensor:
    return torch.stack([logits.sigmoid(), (-logits).sigmoid()], dim=1)


def test_the_surrogate_has_the_gradient_that_reinforce_has_on_average():
    chance = torch.tensor([0.6, 0.8, 0.3, 0.5, 0.2], dtype=torch.float64)
    opponent = random_table(2, 12)
    ours = gradient_in_logits(reinforce_surrogate, chance, opponent, DILEMMA, 4, 0.9)
    expected = reinforce_gradient_by_tree(chance, opponent, 4, 0.9)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)
    discounted = gradient_in_logits(expected_return, chance, opponent, DILEMMA, 4, 0.9)
    assert (ours - discounted).abs().max() > 0.01  # they are two different things


def test_the_surrogate_of_a_random_length_is_the_mean_over_lengths():
    chance = torch.tensor([0.6, 0.8, 0.3, 0.5, 0.2], dtype=torch.float64)
    opponent, p = random_table(2, 18), 0.7
    ours = gradient_in_logits(reinforce_surrogate, chance, opponent, DILEMMA, 3, 0.9, None, p)
    lengths = {1: 1 - p, 2: p * (1 - p), 3: p**2}
    expected = torch.zeros(5, dtype=torch.float64)
    for rounds, weight in lengths.items():
        expected += weight * reinforce_gradient_by_tree(chance, opponent, rounds, 0.9)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("rounds", "discount"), [(1, 0.5), (6, 1.0)])
def test_the_two_gradients_agree_without_discounting_or_in_one_round(rounds: int, discount: float):
    chance = torch.tensor([0.6, 0.8, 0.3, 0.5, 0.2], dtype=torch.float64)
    arguments = (random_table(2, 13), DILEMMA, rounds, discount, uniform_start(2), 0.9)
    surrogate = gradient_in_logits(reinforce_surrogate, chance, *arguments)
    discounted = gradient_in_logits(expected_return, chance, *arguments)
    torch.testing.assert_close(surrogate, discounted, atol=1e-12, rtol=0)


# Sampled REINFORCE with the project's own credit.

CHANCE = np.array([0.5, 0.8, 0.3, 0.6, 0.3])
"""P(C) of the policy that is sampled; sigmoid policies: one logit per state."""


def sample(
    chances: tuple[np.ndarray, np.ndarray], matches: int, rounds: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States and moves `[match, seat, round]` and the dilemma's payoffs."""
    random = np.random.default_rng(seed)
    states = np.zeros((matches, 2, rounds), dtype=int)
    moves = states.copy()
    for t in range(rounds):
        if t:
            own = moves[:, :, t - 1]
            states[:, :, t] = 1 + 2 * own + own[:, ::-1]
        for seat in (0, 1):
            moves[:, seat, t] = random.random(matches) >= chances[seat][states[:, seat, t]]
    return states, moves, DILEMMA.numpy()[moves, moves[:, ::-1]]


def score_times_advantage(states: np.ndarray, moves: np.ndarray, credit: np.ndarray) -> np.ndarray:
    """Gradient estimates `[match, seat, state]`: sum over rounds of d log pi / d logit times A."""
    terms = ((moves == 0) - CHANCE[states]) * credit
    return np.stack([(terms * (states == s)).sum(axis=2) for s in range(5)], axis=2)


@pytest.mark.parametrize("kind", ["none", "leave_one_out", "batch", "batch_pooled", "shared"])
def test_sampled_reinforce_averages_to_the_exact_gradient(kind: str):
    """In self-play, both seats; groups of four matches. |z| < 4.5 in each of 5 states: an
    unbiased estimator fails this once in 30 000 tries, and the seed is fixed."""
    matches, rounds, discount = 40_000, 8, 0.7
    states, moves, rewards = sample((CHANCE, CHANCE), matches, rounds, seed=14)
    credit = advantages(
        rewards,
        np.ones((matches, rounds), dtype=bool),
        CreditSettings(discount, kind, whiten=False),
        groups=np.arange(matches) // 4,
    )
    estimates = score_times_advantage(states, moves, credit)
    # Matches of a group share baselines and seats share matches: average over both first.
    independent = estimates.mean(axis=1).reshape(-1, 4, 5).mean(axis=1)
    deviation = independent.std(axis=0, ddof=1) / np.sqrt(len(independent))
    chance = torch.from_numpy(CHANCE)
    exact = gradient_in_logits(
        lambda learner: -exact_loss(learner.log(), DILEMMA, rounds, discount), chance
    ).numpy()
    z = (independent.mean(axis=0) - exact) / deviation
    assert np.abs(z).max() < 4.5
    # The test can tell the two gradients apart, and would notice a quarter of the signal lost.
    discounted = gradient_in_logits(
        expected_return, chance, table(CHANCE), DILEMMA, rounds, discount
    ).numpy()
    assert np.abs((discounted - exact) / deviation).max() > 9
    assert np.abs(0.25 * exact / deviation).max() > 4.5


def test_with_the_visitation_discount_it_averages_to_the_discounted_gradient():
    """The credit that REINFORCE leaves out makes it the gradient of E[sum g^t r_t]."""
    matches, rounds, discount = 40_000, 8, 0.7
    states, moves, rewards = sample((CHANCE, CHANCE), matches, rounds, seed=16)
    settings = CreditSettings(discount, "batch", whiten=False, visitation_discount=True)
    credit = advantages(rewards, np.ones((matches, rounds), dtype=bool), settings)
    independent = score_times_advantage(states, moves, credit).mean(axis=1)
    deviation = independent.std(axis=0, ddof=1) / np.sqrt(matches)
    chance = torch.from_numpy(CHANCE)
    exact = gradient_in_logits(
        expected_return, chance, table(CHANCE), DILEMMA, rounds, discount
    ).numpy()
    assert np.abs((independent.mean(axis=0) - exact) / deviation).max() < 4.5
    plain = gradient_in_logits(
        lambda learner: -exact_loss(learner.log(), DILEMMA, rounds, discount), chance
    ).numpy()
    assert np.abs((plain - exact) / deviation).max() > 9


def test_batch_mean_shrinks_the_gradient_as_stated():
    """Batches of two matches: (n - 1) / n = 1/2 of the exact gradient, |z| < 4.5."""
    batches, rounds = 10_000, 4
    alive = np.ones((2, rounds), dtype=bool)
    states, moves, rewards = sample((CHANCE, np.full(5, 0.4)), 2 * batches, rounds, seed=15)
    credit = np.concatenate(
        [
            advantages(pair, alive, CreditSettings(1.0, "batch_mean", whiten=False))
            for pair in np.split(rewards, batches)
        ]
    )
    estimates = score_times_advantage(states, moves, credit)[:, 0]
    independent = estimates.reshape(batches, 2, 5).mean(axis=1)
    deviation = independent.std(axis=0, ddof=1) / np.sqrt(batches)
    opponent = table(np.full(5, 0.4))
    exact = gradient_in_logits(
        expected_return, torch.from_numpy(CHANCE), opponent, DILEMMA, rounds
    ).numpy()
    assert np.abs((independent.mean(axis=0) - exact / 2) / deviation).max() < 4.5
    assert np.abs((independent.mean(axis=0) - exact) / deviation).max() > 9


# The loss.


def test_self_play_holds_the_other_seat_constant():
    log_probs = random_table(2, 16).log().requires_grad_()
    exact_loss(log_probs, DILEMMA, 5, 0.9).backward()
    own = log_probs.grad
    log_probs.grad = None
    exact_loss(log_probs, DILEMMA, 5, 0.9, opponent=random_table(2, 16)).backward()
    assert own is not None and log_probs.grad is not None
    torch.testing.assert_close(own, log_probs.grad)


@pytest.mark.parametrize("objective", ["reinforce", "discounted"])
@pytest.mark.parametrize(("prosocial", "outcome"), [(False, 0.02), (True, 0.98)])
def test_descending_the_loss_learns_what_the_reward_asks_for(
    objective: str, prosocial: bool, outcome: float
):
    """Self-play on the own payoff ends in defection, on the sum of payoffs in cooperation."""
    rewards = DILEMMA + DILEMMA.T if prosocial else DILEMMA
    logits = torch.zeros(5, 2, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        exact_loss(logits.log_softmax(1), rewards, 10, 0.9, objective=objective).backward()
        optimizer.step()
    policy = logits.detach().double().softmax(1)
    cooperated = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    rate = float(expected_return(policy, policy, cooperated, 10)) / 10
    assert rate < outcome if outcome < 0.5 else rate > outcome


def test_a_reward_of_the_last_move_shown_is_taken():
    """A penalty of 3 for defecting on a cooperator, against tit-for-tat from CC."""
    penalty = torch.zeros(5, 2, 2, dtype=torch.float64)
    penalty[1, 1] = penalty[3, 1] = -3.0  # the other was shown to cooperate: CC and DC
    start = torch.tensor([0.0, 1, 0, 0, 0], dtype=torch.float64)
    alternating = table([1, 0, 1, 1, 1])  # D after CC, then C
    ours = expected_return(alternating, table(TABLES["tit_for_tat"]), penalty, 3, 1.0, start)
    # CC: D against C; then DC: C against D; then CD: C against C.
    assert float(ours) == -3.0


def test_wrong_arguments_are_refused():
    good = random_table(2, 17).log()
    with pytest.raises(ComityError, match="reinforce"):
        exact_loss(good, DILEMMA, 3, objective="reinforced")
    with pytest.raises(ValueError, match="normalized"):
        exact_loss(good - 0.1, DILEMMA, 3)
    with pytest.raises(ValueError, match="learner"):
        exact_loss(good[:4], DILEMMA, 3)
    with pytest.raises(ValueError, match="opponent"):
        exact_loss(good, DILEMMA, 3, opponent=random_table(3, 0))
    with pytest.raises(ValueError, match="rewards"):
        exact_loss(good, torch.zeros(3, 3), 3)
