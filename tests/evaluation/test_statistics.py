"""Bootstrap intervals: agreement with scipy, coverage on simulated data, edge cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from comity.evaluation.statistics import Estimate, bootstrap_mean


def test_one_level_agrees_with_scipy():
    values = np.random.default_rng(1).exponential(size=60)
    ours = bootstrap_mean([values], resamples=20_000)
    scipys = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=2
    ).confidence_interval
    assert ours is not None
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(scipys.low, abs=0.01)
    assert ours.high == pytest.approx(scipys.high, abs=0.01)


def test_one_level_ratio_agrees_with_scipy():
    random = np.random.default_rng(3)
    denominators = random.integers(0, 9, size=50)
    numerators = random.binomial(denominators, 0.3)
    ours = bootstrap_mean([np.stack([numerators, denominators], axis=1)], resamples=20_000)
    scipys = stats.bootstrap(
        (numerators, denominators),
        lambda n, d, axis: n.sum(axis=axis) / d.sum(axis=axis),
        paired=True,
        n_resamples=20_000,
        method="percentile",
        random_state=4,
    ).confidence_interval
    assert ours is not None
    assert ours.mean == pytest.approx(numerators.sum() / denominators.sum())
    assert ours.n == denominators.sum()
    assert ours.low == pytest.approx(scipys.low, abs=0.005)
    assert ours.high == pytest.approx(scipys.high, abs=0.005)


def simulate(random: np.random.Generator, seeds: int, matches: int) -> list[np.ndarray]:
    """Matches of seeds that differ: deviation 1 between seeds, 2 inside, mean 0."""
    return [random.normal(random.normal(), 2.0, size=matches) for _ in range(seeds)]


def test_intervals_cover_the_truth_where_seeds_differ():
    # Over 150 data sets the number covered at 90% has a deviation of 2.5 points; the percentile
    # interval over 12 seeds is a few points too narrow. Pooling all matches covers far less.
    random = np.random.default_rng(5)
    hierarchical = pooled = 0
    for trial in range(150):
        groups = simulate(random, seeds=12, matches=20)
        estimate = bootstrap_mean(groups, confidence=0.9, resamples=300, seed=trial)
        naive = bootstrap_mean([np.concatenate(groups)], 0.9, resamples=300, seed=trial)
        assert estimate is not None and naive is not None
        hierarchical += estimate.low <= 0.0 <= estimate.high
        pooled += naive.low <= 0.0 <= naive.high
    assert 0.83 <= hierarchical / 150 <= 0.97
    assert pooled / 150 <= 0.7


def test_the_width_adds_the_spread_between_seeds_to_that_inside_them():
    # Variance of a resampled mean: var(seed means) / S + mean(var inside) / (S * matches).
    groups = simulate(np.random.default_rng(9), seeds=10, matches=6)
    between = np.var([group.mean() for group in groups]) / 10
    inside = np.mean([group.var() / 6 for group in groups]) / 10
    one_deviation = stats.norm.cdf(1) - stats.norm.cdf(-1)
    estimate = bootstrap_mean(groups, confidence=one_deviation, resamples=20_000)
    assert estimate is not None
    assert inside > 0.2 * between  # neither level could be left out unnoticed
    assert (estimate.high - estimate.low) / 2 == pytest.approx((between + inside) ** 0.5, rel=0.03)


def test_every_seed_weighs_the_same():
    estimate = bootstrap_mean([np.zeros(30), np.ones(10)])
    assert estimate is not None
    assert estimate.mean == pytest.approx(0.5)
    assert estimate.n == 40


def test_seeds_of_different_sizes_stay_apart():
    # Were a draw to run over a seed's end, the 1s would get in among the 0s.
    random = np.random.default_rng(6)
    groups = [np.zeros(3), np.zeros(17), random.random(2) * 0.0]
    estimate = bootstrap_mean(groups)
    assert estimate is not None
    assert (estimate.mean, estimate.low, estimate.high, estimate.n) == (0.0, 0.0, 0.0, 22)
    one_sided = bootstrap_mean([np.zeros(3), np.ones(17)], resamples=500)
    assert one_sided is not None
    assert (one_sided.low, one_sided.mean, one_sided.high) == (0.0, 0.5, 1.0)


def test_a_ratio_is_not_the_mean_of_ratios():
    pairs = np.array([[1, 1], [0, 9], [0, 0]])
    estimate = bootstrap_mean([pairs])
    assert estimate is not None
    assert estimate.mean == pytest.approx(0.1)
    assert estimate.n == 10


@pytest.mark.parametrize("groups", [[], [np.array([])], [np.zeros((4, 2))]])
def test_nothing_counted_is_none(groups: list[np.ndarray]):
    assert bootstrap_mean(groups) is None


def test_a_seed_without_matches_is_as_if_it_were_not_there():
    values = np.arange(5.0)
    assert bootstrap_mean([values, np.array([])]) == bootstrap_mean([values])


def test_resamples_without_a_denominator_are_left_out():
    # The only match that counts is missing from about (7/8)^8 = 34 % of the resamples.
    pairs = np.zeros((8, 2))
    pairs[3] = (1, 2)
    assert bootstrap_mean([pairs]) == Estimate(mean=0.5, low=0.5, high=0.5, n=2)


def test_the_same_arguments_give_the_same_numbers():
    groups = simulate(np.random.default_rng(7), seeds=3, matches=8)
    assert bootstrap_mean(groups, seed=1) == bootstrap_mean(groups, seed=1)
    assert bootstrap_mean(groups, seed=1) != bootstrap_mean(groups, seed=2)


@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6).map(np.array),
        min_size=1,
        max_size=4,
    )
)
def test_the_interval_holds_the_mean_and_stays_within_the_data(groups: list[np.ndarray]):
    estimate = bootstrap_mean(groups, resamples=50)
    assert estimate is not None
    values = np.concatenate(groups)
    slack = 1e-9 * (1.0 + np.abs(values).max())
    assert values.min() - slack <= estimate.low <= estimate.mean
    assert estimate.mean <= estimate.high <= values.max() + slack


def test_a_higher_confidence_gives_a_wider_interval():
    groups = simulate(np.random.default_rng(8), seeds=4, matches=8)
    wide, narrow = bootstrap_mean(groups, 0.99), bootstrap_mean(groups, 0.5)
    assert wide is not None and narrow is not None
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    "bad", [np.array([1.0, np.nan]), np.array([[1.0, -1.0]]), np.zeros((2, 3)), np.zeros(())]
)
def test_bad_values_are_refused(bad: np.ndarray):
    with pytest.raises(ValueError):
        bootstrap_mean([bad])


def test_bad_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_mean([np.ones(3)], confidence=95)


def test_as_dict_is_ready_for_json():
    assert Estimate(0.5, 0.25, 0.75, 8).as_dict() == {
        "mean": 0.5,
        "low": 0.25,
        "high": 0.75,
        "n": 8,
    }
