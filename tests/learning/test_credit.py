"""Credit against naive loops, worked vectors, and what the definitions promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.learning.credit.returns import (
    BASELINES,
    CreditSettings,
    advantages,
    baseline,
    discounted_returns,
    expand_rounds,
    whiten,
)

# Naive twins: the definitions, entry by entry.


def loop_returns(rewards: np.ndarray, alive: np.ndarray, discount: float) -> np.ndarray:
    result = np.zeros(rewards.shape)
    for b, i, t in np.ndindex(rewards.shape):
        if alive[b, t]:
            result[b, i, t] = sum(
                discount ** (s - t) * rewards[b, i, s]
                for s in range(t, rewards.shape[2])
                if alive[b, s]
            )
    return result


def loop_baseline(
    returns: np.ndarray, alive: np.ndarray, kind: str, groups: np.ndarray, trained: np.ndarray
) -> np.ndarray:
    result = np.zeros(returns.shape)
    for b, i, t in np.ndindex(returns.shape):
        if not alive[b, t]:
            continue
        pool = []
        for b2, i2, t2 in np.ndindex(returns.shape):
            if not (alive[b2, t2] and trained[b2, i2]):
                continue
            other, same_seat, same_round = b2 != b, i2 == i, t2 == t
            belongs = {
                "leave_one_out": other and same_seat and same_round and groups[b2] == groups[b],
                "batch": other and same_seat and same_round,
                "batch_pooled": other and same_seat,
                "shared": other and same_round,
                "batch_mean": same_seat and same_round,
                "none": False,
            }[kind]
            if belongs:
                pool.append(returns[b2, i2, t2])
        if pool:
            result[b, i, t] = sum(pool) / len(pool)
    return result


def loop_whiten(values: np.ndarray, valid: np.ndarray, scope: str) -> np.ndarray:
    result = values.copy()
    for b, i, t in np.ndindex(values.shape):
        pool = [
            values[index]
            for index in np.ndindex(values.shape)
            if valid[index] and (scope != "round" or index[2] == t)
        ]
        if pool:
            deviation = np.std(pool, ddof=1) if len(pool) > 1 else 0.0
            divisor = 1.0 if scope == "center" else deviation + 1e-9
            result[b, i, t] = (values[b, i, t] - np.mean(pool)) / divisor
    return result


@st.composite
def batches(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Batches of 1 to 5 matches with unequal lengths, any groups, some seats not trained."""
    matches, seats = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    lengths = np.array(draw(st.lists(st.integers(1, 4), min_size=matches, max_size=matches)))
    rounds = int(lengths.max())
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    return {
        "rewards": random.integers(-5, 6, size=(matches, seats, rounds)).astype(float),
        "alive": np.arange(rounds) < lengths[:, None],
        "groups": random.integers(0, 3, size=matches) * 7,
        "trained": random.random((matches, seats)) < draw(st.sampled_from([0.0, 0.6, 1.0])),
    }


discounts = st.sampled_from([0.0, 0.5, 0.9, 1.0])


@given(batches(), discounts)
def test_returns_equal_the_loop(batch: dict[str, np.ndarray], discount: float):
    ours = discounted_returns(batch["rewards"], batch["alive"], discount)
    expected = loop_returns(batch["rewards"], batch["alive"], discount)
    np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize("kind", BASELINES)
@given(batches())
def test_baselines_equal_the_loop(kind: str, batch: dict[str, np.ndarray]):
    alive, groups, trained = batch["alive"], batch["groups"], batch["trained"]
    returns = discounted_returns(batch["rewards"], alive, 0.9)
    ours = baseline(returns, alive, kind, groups, trained)
    assert ours.shape == returns.shape
    expected = loop_baseline(returns, alive, kind, groups, trained)
    np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize("scope", ["all", "round", "center"])
@given(batches())
def test_whitening_equals_the_loop(scope: str, batch: dict[str, np.ndarray]):
    values = batch["rewards"] + 0.25 * np.arange(batch["rewards"].shape[2])
    valid = batch["alive"][:, None, :] & batch["trained"][:, :, None]
    ours, expected = whiten(values, valid, scope), loop_whiten(values, valid, scope)
    # Where the deviation is 0 the result is 0 or, off the pool, of the order of 1e9.
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("whitening", [False, True, "round", "center"])
@pytest.mark.parametrize("kind", BASELINES)
@given(batches(), discounts)
def test_advantages_compose_the_three(
    kind: str, whitening: bool | str, batch: dict[str, np.ndarray], discount: float
):
    alive, groups, trained = batch["alive"], batch["groups"], batch["trained"]
    settings = CreditSettings(discount, kind, whitening)
    ours = advantages(batch["rewards"], alive, settings, groups, trained)
    returns = loop_returns(batch["rewards"], alive, discount)
    expected = returns - loop_baseline(returns, alive, kind, groups, trained)
    valid = alive[:, None, :] & trained[:, :, None]
    if whitening:
        expected = loop_whiten(expected, valid, "all" if whitening is True else whitening)
    expected = np.where(alive[:, None, :], expected, 0.0)
    # Advantages that are equal but for rounding whiten to 1e-16 / 1e-9.
    np.testing.assert_allclose(ours[valid], expected[valid], rtol=1e-6, atol=1e-5)
    assert (ours[np.broadcast_to(~alive[:, None, :], ours.shape)] == 0.0).all()
    if not whitening:
        np.testing.assert_allclose(ours, expected, atol=1e-12)


# Worked vectors.


def one_seat(rows: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array(rows, dtype=float)
    return values[:, None, :], np.ones(values.shape, dtype=bool)


def test_returns_worked_vector():
    rewards, alive = one_seat([[3, 0, 5]])
    ours = discounted_returns(rewards / 5, alive, 0.9)
    np.testing.assert_allclose(ours[0, 0], [1.41, 0.9, 1.0])
    scaled = CreditSettings(0.9, "none", whiten=False, reward_scale=5.0)
    np.testing.assert_allclose(advantages(rewards, alive, scaled)[0, 0], [1.41, 0.9, 1.0])


def test_the_visitation_discount_comes_last():
    rewards, alive = one_seat([[3, 0, 5], [1, 0, 2]])
    plain = advantages(rewards, alive, CreditSettings(0.9))
    ours = advantages(rewards, alive, CreditSettings(0.9, visitation_discount=True))
    np.testing.assert_allclose(ours, plain * [1, 0.9, 0.81])
    first = CreditSettings(0.0, "none", whiten=False, visitation_discount=True)
    np.testing.assert_array_equal(advantages(rewards, alive, first)[0, 0], [3, 0, 0])


def test_rounds_open_into_their_steps():
    """Two talk in turn and claim (3 steps), or only claim (1); the discount counts steps."""
    rewards = np.array([[[6.0, 4.0]], [[2.0, 9.0]]])
    alive, steps = np.array([[1, 1], [1, 0]]), np.array([[3, 1], [1, 7]])
    opened, living, first = expand_rounds(rewards, alive, steps)
    np.testing.assert_array_equal(opened[:, 0], [[0, 0, 6, 4], [2, 0, 0, 0]])
    np.testing.assert_array_equal(living, [[1, 1, 1, 1], [1, 0, 0, 0]])
    np.testing.assert_array_equal(first[alive == 1], [0, 3, 0])
    ours = discounted_returns(opened, living, 0.5)
    np.testing.assert_allclose(ours[0, 0], [0.25 * 6 + 0.125 * 4, 0.5 * 6 + 1, 6 + 2, 4])


@given(batches(), st.integers(0, 2**32))
def test_opened_rounds_equal_the_loop(batch: dict[str, np.ndarray], seed: int):
    rewards, alive = batch["rewards"], batch["alive"]
    steps = np.random.default_rng(seed).integers(1, 4, size=alive.shape)
    opened, living, first = expand_rounds(rewards, alive, steps)
    for b, i in np.ndindex(rewards.shape[:2]):
        expected: list[float] = []
        for t in range(rewards.shape[2]):
            if alive[b, t]:
                assert first[b, t] == len(expected)
                expected += [0.0] * (steps[b, t] - 1) + [rewards[b, i, t]]
        length = len(expected)
        np.testing.assert_array_equal(opened[b, i], expected + [0.0] * (opened.shape[2] - length))
        np.testing.assert_array_equal(living[b], np.arange(opened.shape[2]) < length)
    # Undiscounted, a step's return is its round's.
    whole = discounted_returns(rewards, alive, 1.0)
    steps_whole = discounted_returns(opened, living, 1.0)
    for b, t in np.argwhere(alive):
        np.testing.assert_allclose(steps_whole[b, :, first[b, t]], whole[b, :, t])


@pytest.mark.parametrize("kind", ["leave_one_out", "batch", "shared"])
def test_leave_one_out_worked_vector(kind: str):
    returns, alive = one_seat([[6, 3], [2, 1], [4, 5]])
    ours = returns - baseline(returns, alive, kind, groups=np.zeros(3, dtype=int))
    np.testing.assert_allclose(ours[:, 0], [[3, 0], [-3, -3], [0, 3]])


def test_the_other_pools_on_the_same_vector():
    returns, alive = one_seat([[6, 3], [2, 1], [4, 5]])
    pooled = returns - baseline(returns, alive, "batch_pooled")
    np.testing.assert_allclose(pooled[:, 0], [[3, 0], [-2.5, -3.5], [1, 2]])
    mean = returns - baseline(returns, alive, "batch_mean")
    np.testing.assert_allclose(mean[:, 0], [[2, 0], [-2, -2], [0, 2]])


def test_shared_leaves_out_the_other_seat_of_the_same_match():
    returns = np.array([[[1.0], [10.0]], [[2.0], [20.0]], [[3.0], [30.0]]])
    alive = np.ones((3, 1), dtype=bool)
    ours = baseline(returns, alive, "shared")
    np.testing.assert_allclose(ours[0, :, 0], (2 + 20 + 3 + 30) / 4)
    np.testing.assert_allclose(ours[2, :, 0], (1 + 10 + 2 + 20) / 4)


def test_whitening_worked_vector():
    values, alive = one_seat([[1, 10], [2, 10], [3, 40]])
    by_round = whiten(values, alive[:, None, :], "round")
    np.testing.assert_allclose(by_round[:, 0, 0], [-1, 0, 1], atol=1e-8)
    np.testing.assert_allclose(by_round[:, 0, 1], np.array([-1, -1, 2]) / np.sqrt(3), atol=1e-8)


# What the definitions promise.


@pytest.mark.parametrize("kind", ["leave_one_out", "batch", "batch_pooled", "shared", "none"])
def test_an_empty_pool_leaves_the_return(kind: str):
    rewards, alive = one_seat([[3, 0, 5]])
    settings = CreditSettings(0.9, kind, whiten=False)
    ours = advantages(rewards, alive, settings, groups=np.array([4]))
    np.testing.assert_allclose(ours, discounted_returns(rewards, alive, 0.9))


def test_groups_of_one_do_not_fall_back_to_the_batch():
    returns, alive = one_seat([[6, 3], [2, 1], [4, 5]])
    assert (baseline(returns, alive, "leave_one_out", groups=np.array([5, 6, 9])) == 0.0).all()


@given(batches())
def test_finished_rounds_and_untrained_seats_do_not_matter(batch: dict[str, np.ndarray]):
    alive, trained = batch["alive"], batch["trained"]
    settings = CreditSettings(0.9, "batch", whiten=True)
    ours = advantages(batch["rewards"], alive, settings, None, trained)
    valid = alive[:, None, :] & trained[:, :, None]
    disturbed = np.where(valid, batch["rewards"], np.nan)
    again = advantages(disturbed, alive, settings, None, trained)
    np.testing.assert_array_equal(ours[valid], again[valid])


@given(batches(), st.floats(-10, 10))
def test_a_constant_reward_changes_no_leave_one_out_advantage_at_equal_lengths(
    batch: dict[str, np.ndarray], constant: float
):
    if len(batch["rewards"]) < 2:
        return
    alive = np.ones_like(batch["alive"])
    settings = CreditSettings(0.9, "batch", whiten=False)
    before = advantages(batch["rewards"], alive, settings)
    after = advantages(batch["rewards"] + constant, alive, settings)
    np.testing.assert_allclose(before, after, atol=1e-9)


def test_equal_advantages_whiten_to_zero():
    values, alive = one_seat([[2.0, 2.0], [2.0, 2.0]])
    np.testing.assert_allclose(whiten(values, alive[:, None, :]), 0.0, atol=1e-6)


def test_whitened_moments():
    random = np.random.default_rng(0)
    rewards, alive = random.normal(3, 9, size=(6, 2, 5)), np.ones((6, 5), dtype=bool)
    ours = advantages(rewards, alive, CreditSettings(0.9, "batch", True))
    assert ours.mean() == pytest.approx(0.0, abs=1e-9)
    assert ours.std(ddof=1) == pytest.approx(1.0)


def test_integers_and_booleans_from_records_are_taken():
    rewards, alive = np.array([[[3, 0]], [[5, 1]]]), np.array([[1, 1], [1, 0]])
    ours = advantages(rewards, alive, CreditSettings(1.0, "batch", False))
    np.testing.assert_allclose(ours[:, 0], [[3 - 5, 0], [5 - 3, 0]])
    assert ours.dtype == np.float64


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"discount": 1.5}, "discount"),
        ({"discount": float("nan")}, "discount"),
        ({"baseline": "leave_one"}, "leave_one_out"),
        ({"whiten": "rounds"}, "round"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float | str], message: str):
    with pytest.raises(ComityError, match=message):
        CreditSettings(**settings)  # type: ignore[arg-type]


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="alive"):
        discounted_returns(np.zeros((2, 1, 3)), np.ones((2, 4), dtype=bool), 1.0)
    with pytest.raises(ValueError, match="groups"):
        baseline(np.zeros((2, 1, 3)), np.ones((2, 3), dtype=bool), "leave_one_out")
    with pytest.raises(ValueError, match="trained"):
        baseline(np.zeros((2, 1, 3)), np.ones((2, 3), dtype=bool), "batch", trained=np.ones(2))
    with pytest.raises(ValueError, match="one step"):
        expand_rounds(np.zeros((2, 1, 3)), np.ones((2, 3)), np.zeros((2, 3), dtype=int))
