"""Paired comparisons: exact enumeration, the test's size, and Holm's correction."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.evaluation.tournament.comparison import (
    HIGHER,
    LOWER,
    OPEN,
    TOO_FEW,
    compare,
    corrected,
    holm,
    sign_flip_test,
)

whole = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=7)


@given(whole)
def test_the_p_value_is_that_of_all_sign_flips(differences: list[float]) -> None:
    found = sign_flip_test(np.array(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    expected = np.mean([one >= abs(sum(differences)) - 1e-9 for one in sums])
    assert found.exact and found.p == pytest.approx(expected)
    assert found.p >= found.least


@pytest.mark.parametrize("n", [5, 8])
def test_the_exact_test_keeps_its_size(n: int) -> None:
    """Over all 2^n equally likely signs p <= alpha occurs in at most a share alpha."""
    size = np.random.default_rng(n).exponential(size=n)
    p_values = np.array(
        [sign_flip_test(size * np.array(signs)).p for signs in product((1, -1), repeat=n)]
    )
    for alpha in (0.01, 0.05, 0.1, 0.3):
        assert (p_values <= alpha).mean() <= alpha


def test_the_random_test_keeps_its_size_and_is_near_the_exact_one() -> None:
    rng = np.random.default_rng(1)
    p_values = [sign_flip_test(rng.normal(size=20), flips=400).p for _ in range(400)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    differences = np.append(rng.normal(0.6, 1.0, size=16), 0.0)
    exact = sign_flip_test(differences)
    assert exact.exact and exact.informative == 16
    more = np.append(differences[:16], 1e-9)  # one more, which changes nothing to speak of
    sampled = sign_flip_test(more)
    assert not sampled.exact
    assert sampled.p == pytest.approx(exact.p, abs=4 * np.sqrt(exact.p / 100_000) + 1e-4)
    assert sign_flip_test(more) == sampled, "the same data give the same p-value"


def test_it_finds_what_is_there() -> None:
    rng = np.random.default_rng(2)
    found = [sign_flip_test(rng.normal(1.0, 1.0, size=16)).p for _ in range(50)]
    assert np.mean(np.array(found) <= 0.05) > 0.9


def test_too_few_pairs_can_say_nothing_whatever_their_mean() -> None:
    few = compare("a", "b", np.full(5, 3.0))
    assert few.test.p == few.test.least == 2 / 32
    assert few.verdict == TOO_FEW and "too few to say" in few.sentence()
    # Ties add nothing.
    assert compare("a", "b", np.append(np.full(5, 3.0), np.zeros(50))).verdict == TOO_FEW
    assert compare("a", "b", np.full(6, 3.0)).verdict == HIGHER
    assert compare("a", "b", np.full(6, -3.0)).verdict == LOWER
    mixed = compare("a", "b", np.array([1.0, -1.0] * 4))
    assert mixed.verdict == OPEN and mixed.test.p == 1
    assert compare("a", "b", np.zeros(9)).verdict == TOO_FEW


def test_without_a_common_seed_there_is_no_comparison() -> None:
    with pytest.raises(ComityError, match="no environment seed in common"):
        compare("a", "b", np.zeros(0))


def test_the_interval_is_the_statistics_modules() -> None:
    found = compare("a", "b", np.array([1.0, 2.0, 3.0, 2.0, 1.0, 2.0]), bounds=(-5, 5))
    assert found.difference.mean == pytest.approx(11 / 6)
    assert found.difference.over == "environment seeds" and found.difference.n == 6
    assert found.difference.low is not None and found.difference.low > 0
    assert "a is higher than b" in found.sentence()


def test_holm_by_hand() -> None:
    """0.01 * 4, 0.02 * 3, then 0.03 * 2 and 0.04 * 1, which may not be smaller than before."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_sequential_rule(p_values: list[float]) -> None:
    """Adjusted p <= alpha exactly where the step-down procedure rejects."""
    alpha, rejected = 0.05, set()
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if (len(p_values) - rank) * p_values[i] > alpha:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_many_comparisons_need_more_pairs() -> None:
    """Seven equal differences: p = 2/128 alone; times 10 comparisons nothing could be said."""
    clear, unclear = (
        compare("a", "b", np.full(7, 1.0)),
        compare("c", "d", np.array([1.0, -1.0] * 9)),
    )
    assert clear.verdict == HIGHER
    (first, *_) = corrected([clear] + [unclear] * 9)
    assert first.adjusted == pytest.approx(20 / 128)
    assert first.verdict == TOO_FEW and "10 comparisons (Holm)" in first.sentence()
    # Where the others are significant, less correction is left for it.
    (first, *_) = corrected([clear] + [compare("c", "d", np.full(16, 1.0))] * 9)
    assert first.verdict == HIGHER


def test_the_correction_keeps_the_rate_of_any_false_claim() -> None:
    """Four agents that do not differ, six comparisons, 12 seeds."""
    rng, claims, trials = np.random.default_rng(4), 0, 150
    for _ in range(trials):
        agents = {name: rng.normal(size=12) for name in "abcd"}
        found = corrected(
            [compare(a, b, agents[a] - agents[b]) for a, b in combinations(agents, 2)]
        )
        assert len(found) == 6
        claims += any(one.verdict in (HIGHER, LOWER) for one in found)
    assert claims / trials <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_common_random_numbers_cancel_what_both_share() -> None:
    """Seeds differ by far more than the agents; paired, the difference is plain."""
    luck = np.random.default_rng(5).normal(0, 100, size=10)
    found = compare("better", "worse", (luck + 1) - luck)
    assert found.verdict == HIGHER and found.test.p == pytest.approx(2 / 2**10)
    assert found.difference.mean == pytest.approx(1)
