"""Intervals over seeds: worked examples, known formulas, edge cases. Coverage: test_coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from comity.evaluation.statistics import Estimate, mean_over_seeds

SHARE = (0.0, 1.0)


def some(*seeds: object, bounds: tuple[float, float] | None = SHARE, **more: str) -> Estimate:
    found = mean_over_seeds([np.array(seed) for seed in seeds], bounds, **more)
    assert found is not None
    return found


def test_without_a_range_it_is_the_t_interval_of_the_seeds_means():
    seeds = [[1.0, 3.0], [2.0, 2.5, 3.0], [5.0]]
    found = some(*seeds, bounds=None)
    low, high = stats.t.interval(
        0.95, 2, loc=np.mean([2.0, 2.5, 5.0]), scale=stats.sem([2.0, 2.5, 5.0])
    )
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.units, found.over, found.n, found.reason) == (3, "seeds", 6, "")


def test_in_the_middle_of_a_range_it_is_nearly_the_t_interval():
    values = [0.49, 0.5, 0.52]
    found = some(*([v] for v in values))
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert found.low == pytest.approx(low, abs=5e-4)
    assert found.high == pytest.approx(high, abs=5e-4)


def test_wilsons_interval_has_the_ends_that_the_units_do_not_contradict():
    values = np.array([0.3, 0.45, 0.6])
    found = some(*([v] for v in values))
    mean, quantile = values.mean(), stats.t.ppf(0.975, 2)
    c = quantile**2 * values.var(ddof=1) / (3 * mean * (1 - mean))
    for end in (found.low, found.high):
        assert (mean - end) ** 2 == pytest.approx(c * end * (1 - end))


@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_seeds_at_an_end_are_clopper_and_pearsons(k: int, value: float):
    found = some(*([value] * 8 for _ in range(k)))
    exact = stats.binomtest(k if value else 0, k).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == (pytest.approx(exact.low), pytest.approx(exact.high))


def test_three_of_three_leave_29_percent():
    assert some([1.0], [1.0], [1.0]).low == pytest.approx(0.025 ** (1 / 3))


def test_equal_units_between_the_ends_have_a_width_too():
    """Three seeds with two decisions each came to one half: nobody would bet on 0.5."""
    found = some(*([[1, 2]],) * 3)
    assert found.low < 0.2 and found.high > 0.8
    assert found.low == pytest.approx(0.5 * 0.025 ** (1 / 3))


def test_equal_seeds_between_the_ends_are_as_wide_as_their_groups_are_few():
    """3 seeds of 8 groups, all of them mutual cooperation: 3 a round, of 0 to 5.

    What 24 groups did not show happens in at most 14.2 % of them, 95 times of 100 (two-sided).
    """
    found = some(*([3.0] * 8 for _ in range(3)), bounds=(0.0, 5.0))
    missed = 1 - 0.025 ** (1 / 24)
    assert found.low == pytest.approx(3 - 3 * missed) and found.low > 2.5
    assert found.high == pytest.approx(3 + 2 * missed) and found.high < 3.3


def test_seeds_that_are_equal_but_for_a_hair_are_no_surer_than_equal_ones():
    """One match in one seed went otherwise; the interval hardly moves."""
    equal = some(*([3.0] * 8 for _ in range(3)), bounds=(0.0, 5.0))
    almost = some([3.0] * 8, [3.0] * 8, [3.0] * 7 + [2.98], bounds=(0.0, 5.0))
    assert almost.low == pytest.approx(equal.low, abs=0.03)
    assert almost.high == pytest.approx(equal.high, abs=0.03)


def test_zero_of_480_is_not_zero_to_zero():
    found = some(np.zeros(480))
    assert found.low == 0.0
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 480))


def test_every_seed_weighs_the_same_in_a_ratio():
    """1.0 of 8 and 0.0 of 160 are 0.5, however the seeds are long."""
    found = some([[8, 8]], [[0, 160]])
    assert (found.mean, found.n, found.units) == (0.5, 168, 2)
    assert some(np.zeros(30), np.ones(10)).mean == 0.5


def test_inside_one_seed_a_ratio_is_not_the_mean_of_ratios():
    found = some([[1, 1], [0, 9], [0, 0]])
    assert found.mean == pytest.approx(0.1)
    assert (found.n, found.units, found.over) == (10, 2, "groups of matches")


def test_one_seed_with_equal_denominators_is_as_plain_values():
    values = [0.2, 0.5, 0.55, 0.4]
    plain, pairs = some(values), some([[10 * v, 10] for v in values])
    assert pairs.low == pytest.approx(plain.low) and pairs.high == pytest.approx(plain.high)


def test_one_unit_that_holds_nearly_everything_is_as_if_it_were_alone():
    found = some([[500, 1000], [1, 1]], bounds=None)
    assert found.high - found.low > 100
    assert some([[500, 1000], [1, 1]]).high > 0.99


@pytest.mark.parametrize(
    "over, reason",
    [("matches", "one match:"), ("groups of matches", "one group of matches:"),
     ("ways of telling", "one way of telling:"), ("distinct questions", "one distinct question:")],
)  # fmt: skip
def test_one_unit_has_no_interval_and_says_why(over: str, reason: str):
    found = some([1.0], over=over)
    assert (found.low, found.high, found.units) == (None, None, 1)
    assert found.reason.startswith(reason)


def test_equal_units_of_unknown_range_have_no_interval_and_say_why():
    found = some([2.0], [2.0], bounds=None)
    assert (found.low, found.high) == (None, None)
    assert "all seeds gave the same value" in found.reason


def test_what_is_exact_has_no_interval_and_says_why():
    found = some([0.25], [0.25], exact="the same prompt has always this probability")
    assert (found.mean, found.low, found.high) == (0.25, None, None)
    assert found.reason == "the same prompt has always this probability"


def test_a_range_of_payoffs_scales_the_interval():
    shares, payoffs = some([0.2], [0.4], [0.9]), some([1.0], [2.0], [4.5], bounds=(0.0, 5.0))
    assert payoffs.low == pytest.approx(5 * shares.low)
    assert payoffs.high == pytest.approx(5 * shares.high)
    shifted = some([-9.0], [-8.0], [-5.5], bounds=(-10.0, -5.0))
    assert shifted.low == pytest.approx(payoffs.low - 10)


def test_a_range_is_symmetric():
    found, mirrored = some([0.1], [0.2], [0.02]), some([0.9], [0.8], [0.98])
    assert found.low == pytest.approx(1 - mirrored.high)
    assert found.high == pytest.approx(1 - mirrored.low)


@pytest.mark.parametrize("seeds", [[], [np.array([])], [np.zeros((4, 2))]])
def test_nothing_counted_is_none(seeds: list[np.ndarray]):
    assert mean_over_seeds(seeds, SHARE) is None


def test_a_seed_in_which_nothing_was_counted_is_as_if_it_were_not_there():
    values = [0.1, 0.5, 0.3]
    assert some(values, []) == some(values) == some(values, [[0, 0]])


finite = st.floats(0, 1)
some_seeds = st.lists(st.lists(finite, min_size=1, max_size=6).map(np.array), min_size=1,
                      max_size=5)  # fmt: skip


@given(some_seeds)
def test_the_interval_holds_the_mean_and_stays_in_the_range(seeds: list[np.ndarray]):
    found = some(*seeds)
    if found.units == 1:
        assert found.low is None and found.high is None and found.reason
        return
    assert found.low is not None and found.high is not None and not found.reason
    assert 0.0 <= found.low <= found.mean <= found.high <= 1.0
    assert found.low < found.high


@given(some_seeds)
def test_a_small_change_of_the_data_changes_little(seeds: list[np.ndarray]):
    """No threshold decides which interval it is."""
    found = some(*seeds)
    moved = [0.5 + (seed - 0.5) * (1 - 1e-7) for seed in seeds]
    if found.units > 1:
        again = some(*moved)
        assert again.low == pytest.approx(found.low, abs=1e-3)
        assert again.high == pytest.approx(found.high, abs=1e-3)


def test_a_higher_confidence_gives_a_wider_interval():
    seeds = [np.array([v]) for v in (0.3, 0.5, 0.6)]
    wide, narrow = (
        mean_over_seeds(seeds, SHARE, confidence=0.99),
        mean_over_seeds(seeds, SHARE, confidence=0.5),
    )
    assert wide is not None and narrow is not None
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    "bad", [np.array([1.0, np.nan]), np.array([[1.0, -1.0]]), np.zeros((2, 3)), np.zeros(())]
)
def test_bad_values_are_refused(bad: np.ndarray):
    with pytest.raises(ValueError):
        mean_over_seeds([bad])


def test_values_outside_of_the_range_are_refused():
    with pytest.raises(ValueError, match="bounds"):
        some([0.5], [1.5])


def test_bad_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence"):
        mean_over_seeds([np.ones(3)], confidence=95)


def test_as_dict_is_ready_for_json():
    found = some([0.0], [1.0]).as_dict()
    assert set(found) == {"mean", "low", "high", "n", "units", "over", "reason"}
    assert not any(math.isnan(found[key]) for key in ("mean", "low", "high"))


def test_what_adds_to_the_numerator_alone_counts():
    """A seat that was due nothing in one match and took 4: 7 of 6, whatever the matches' groups."""
    apart, together = [[3.0, 4.0], [4.0, 0.0], [0.0, 2.0]], [[3.0, 4.0], [4.0, 2.0]]
    for bounds in (None, (0.0, math.inf)):
        found = some(apart, bounds=bounds)
        assert found.mean == pytest.approx(7 / 6) == some(together, bounds=bounds).mean
        assert (found.units, found.n) == (3, 6) and found.low < 7 / 6 < found.high
        seeds = some(apart, [[1.0, 2.0]], [[5.0, 0.0]], bounds=bounds)
        assert (seeds.mean, seeds.units) == (pytest.approx((7 / 6 + 1 / 2) / 2), 2)
