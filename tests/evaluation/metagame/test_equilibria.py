"""Equilibria: textbook games, and the definition itself on random ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from comity.errors import ComityError
from comity.evaluation.metagame.equilibria import equilibria, pure_equilibria, regret

DILEMMA = np.array([[3.0, 0.0], [5.0, 1.0]])
CHICKEN = np.array([[2.0, 1.0], [4.0, 0.0]])
ROCK_PAPER_SCISSORS = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
BACH = (np.array([[3.0, 0.0], [0.0, 2.0]]), np.array([[2.0, 0.0], [0.0, 3.0]]))


def test_the_prisoners_dilemma_has_one_equilibrium_which_is_strict() -> None:
    found = equilibria(DILEMMA)
    (only,) = found.found
    assert (only.row, only.column, only.payoffs) == ((0, 1), (0, 1), (1, 1))
    assert only.pure and only.symmetric and only.strict and found.complete


def test_chicken_has_two_pure_equilibria_and_a_symmetric_mixed_one() -> None:
    """Swerve with p: 2 p + (1 - p) = 4 p, so p = 1/3; payoff 4/3."""
    found = equilibria(CHICKEN)
    assert pure_equilibria(CHICKEN) == [(0, 1), (1, 0)]
    assert [one.symmetric for one in found.pure] == [False, False]
    (mixed,) = found.mixed
    assert mixed.symmetric and not mixed.strict
    assert mixed.row == pytest.approx((1 / 3, 2 / 3))
    assert mixed.payoffs == pytest.approx((4 / 3, 4 / 3))


def test_different_seats_are_a_pair_of_matrices() -> None:
    """Bach or Stravinsky: 3 y = 2 (1 - y), so the column goes to Bach with 2/5."""
    (mixed,) = equilibria(BACH).mixed
    assert mixed.row == pytest.approx((3 / 5, 2 / 5))
    assert mixed.column == pytest.approx((2 / 5, 3 / 5))
    assert not mixed.symmetric


def test_a_degenerate_game_says_that_there_may_be_more() -> None:
    found = equilibria(np.zeros((2, 2)))
    assert len(found.pure) == 4
    assert not found.complete and "degenerate" in found.method


def test_a_large_cycle_is_solved_by_the_program_and_says_so() -> None:
    """Rock, paper, scissors with three copies of each: no pure equilibrium, payoff 0."""
    found = equilibria(np.kron(ROCK_PAPER_SCISSORS, np.ones((3, 3))))
    assert found.pure == () and not found.complete and "mixed-integer" in found.method
    (one,) = found.found
    assert one.payoffs == pytest.approx((0, 0), abs=1e-9)
    assert np.reshape(one.row, (3, 3)).sum(axis=1) == pytest.approx([1 / 3] * 3)


def test_the_program_finds_the_equilibrium_of_the_largest_sum() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        row, column = rng.normal(size=(2, 4, 4))
        every = equilibria((row, column))
        best = max(sum(one.payoffs) for one in every.found)
        found = equilibria((row, column), max_enumerated=1)
        assert max(sum(one.payoffs) for one in found.found) == pytest.approx(best, abs=1e-6)


@given(arrays(np.float64, (2, 3, 3), elements=st.integers(-3, 3).map(float)))
def test_every_equilibrium_has_no_regret_and_pure_ones_are_all_found(games: np.ndarray) -> None:
    row, column = games
    found = equilibria((row, column))
    for one in found.found:
        x, y = np.array(one.row), np.array(one.column)
        assert x.sum() == pytest.approx(1) and y.sum() == pytest.approx(1)
        assert (row @ y).max() - x @ row @ y <= 1e-6
        assert (x @ column).max() - x @ column @ y <= 1e-6
    naive = [
        (i, j)
        for i in range(3)
        for j in range(3)
        if all(row[i, j] >= row[k, j] for k in range(3))
        and all(column[i, j] >= column[i, k] for k in range(3))
    ]
    assert pure_equilibria((row, column)) == naive
    assert len(found.pure) == len(naive)
    if found.complete:
        assert len(found.found) % 2 == 1, "a nondegenerate game has an odd number of equilibria"


def test_regret_is_what_the_better_seat_could_gain() -> None:
    assert regret(DILEMMA, np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 2
    assert regret(BACH, np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 2


@pytest.mark.parametrize(
    ("payoffs", "said"),
    [
        (np.zeros((2, 3)), "square"),
        ((np.zeros((2, 3)), np.zeros((3, 2))), "one shape"),
        (np.array([[1.0, np.nan], [0.0, 1.0]]), "finite"),
    ],
)
def test_bad_payoffs_are_refused(payoffs: object, said: str) -> None:
    with pytest.raises(ComityError, match=said):
        equilibria(payoffs)  # type: ignore[arg-type]
