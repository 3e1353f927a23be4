"""Generalized advantage estimation on arrays against the double sum, entry by entry."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.learning.credit.gae import annealed_lambda, gae_advantages
from comity.learning.credit.returns import discounted_returns


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards, values and alive of matches of unequal lengths, three seats."""
    lengths = np.array(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (len(lengths), 3, int(lengths.max()))
    alive = np.arange(shape[2]) < lengths[:, None]
    return random.normal(size=shape), random.normal(size=shape), alive


def loop_gae(
    rewards: np.ndarray, values: np.ndarray, alive: np.ndarray, discount: float, lam: float
) -> np.ndarray:
    result = np.zeros(rewards.shape)
    for b, i, t in np.ndindex(rewards.shape):
        length = int(alive[b].sum())
        for s in range(t, length):
            following = values[b, i, s + 1] if s + 1 < length else 0.0
            delta = rewards[b, i, s] + discount * following - values[b, i, s]
            result[b, i, t] += (discount * lam) ** (s - t) * delta
    return result


def test_worked_vector() -> None:
    rewards, values = np.array([[[1.0, 0, 2]]]), np.array([[[0.5, 1, 0.2]]])
    found, targets = gae_advantages(rewards, values, np.ones((1, 3), bool), 0.9, 0.95)
    np.testing.assert_allclose(found[0, 0], [2.0147, 0.7190, 1.8], atol=5e-5)
    np.testing.assert_allclose(targets[0, 0], [2.5147, 1.7190, 2.0], atol=5e-5)


@given(batches(), st.sampled_from([0.0, 0.7, 1.0]), st.sampled_from([0.0, 0.95, 1.0]))
def test_it_is_the_double_sum(
    batch: tuple[np.ndarray, np.ndarray, np.ndarray], discount: float, lam: float
) -> None:
    rewards, values, alive = batch
    found, targets = gae_advantages(rewards, values, alive, discount, lam)
    expected = loop_gae(rewards, values, alive, discount, lam)
    here = np.broadcast_to(alive[:, None, :], rewards.shape)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(targets[here], (expected + values)[here], atol=1e-12)
    assert (found[~here] == 0).all() and (targets[~here] == 0).all()
    # What lies behind the end is not read.
    spoiled = [np.where(here, one, np.nan) for one in (rewards, values)]
    again, _ = gae_advantages(*spoiled, alive, discount, lam)
    np.testing.assert_array_equal(found, again)


@given(batches())
def test_lambda_one_is_the_return_less_the_value(
    batch: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    rewards, values, alive = batch
    found, targets = gae_advantages(rewards, values, alive, 0.8, 1.0)
    returns = discounted_returns(rewards, alive, 0.8)
    np.testing.assert_allclose(targets, returns, atol=1e-12)
    np.testing.assert_allclose(
        found, np.where(alive[:, None, :], returns - values, 0.0), atol=1e-12
    )


def test_a_step_without_a_question_hands_on_what_follows() -> None:
    """The seat is asked in steps 0 and 2 of 4: it has errors there alone."""
    rewards, alive = np.array([[[1.0, 2.0, 3.0, 4.0]]]), np.ones((1, 4), bool)
    values = np.array([[[5.0, np.nan, 6.0, np.nan]]])
    found, _ = gae_advantages(rewards, values, alive, 0.5, 0.9)
    # From the end: V_3 = 4; delta_2 = 3 + 0.5 * 4 - 6; V_1 = 2 + 0.5 * 6; delta_0 = 1 + 2.5 - 5.
    last = 3 + 0.5 * 4 - 6
    np.testing.assert_allclose(
        found[0, 0], [1 + 0.5 * 5 - 5 + 0.45**2 * last, 0.45 * last, last, 0.0]
    )


def test_lambda_rises_from_nothing() -> None:
    assert annealed_lambda(0.95, None, 0) == 0.95
    assert annealed_lambda(0.95, 50.0, 0) == 0.0
    assert annealed_lambda(0.95, 50.0, 50) == pytest.approx(0.95 * (2 / (1 + math.exp(-1)) - 1))
    assert annealed_lambda(0.95, 50.0, 10**6) == pytest.approx(0.95)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="alive"):
        gae_advantages(np.zeros((2, 1, 3)), np.zeros((2, 1, 3)), np.ones((2, 2)), 0.9, 0.9)
