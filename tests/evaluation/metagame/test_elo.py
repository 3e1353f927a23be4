"""Elo: the likelihood's own conditions, known odds, cycles and total orders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from comity.errors import ComityError
from comity.evaluation.metagame.elo import (
    cyclic_share,
    elo,
    hodge_decomposition,
    strongest_cycle,
    win_matrix,
)

CYCLE = np.array([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]])


def test_ratings_of_two_are_the_odds_of_their_matches() -> None:
    """10 to 1 is a difference of 400."""
    found = elo(np.array([[0.0, 10.0], [1.0, 0.0]]))
    assert found.ratings == pytest.approx([1700, 1300])
    assert found.expected(0, 1) == pytest.approx(10 / 11)
    assert found.virtual_ties == 0 and found.warning == ""


def test_win_rates_of_the_model_give_its_ratings_back() -> None:
    ratings = np.array([1900.0, 1600.0, 1450.0, 1050.0])
    rates = 1 / (1 + 10 ** ((ratings[None] - ratings[:, None]) / 400))
    found = elo(rates * 50)
    assert found.ratings == pytest.approx(ratings)
    assert found.cycle == () and found.cyclic_share < 1e-2


@given(arrays(np.float64, (4, 4), elements=st.integers(1, 9).map(float)))
def test_expected_wins_are_the_wins_at_the_maximum(wins: np.ndarray) -> None:
    """The likelihood's slope is 0: every agent wins as often as its rating implies."""
    found = elo(wins)
    np.fill_diagonal(wins, 0)
    for i in range(4):
        implied = sum((wins[i, j] + wins[j, i]) * found.expected(i, j) for j in range(4) if j != i)
        assert wins[i].sum() == pytest.approx(implied)
    assert found.ratings.mean() == pytest.approx(1500)


def test_a_cycle_is_told_and_warned_of() -> None:
    found = elo(CYCLE * 100)
    assert found.ratings == pytest.approx([1500] * 3)
    assert found.cyclic_share == pytest.approx(1)
    assert found.cycle_margin == pytest.approx(0.8) and found.cycle == (0, 1, 2)
    assert "80%" in found.warning


def test_a_total_order_without_upsets_is_no_cycle_but_has_no_finite_maximum() -> None:
    found = elo(np.triu(np.ones((5, 5)), 1) * 10)
    assert found.virtual_ties > 0
    assert (np.diff(found.ratings) < 0).all() and np.isfinite(found.ratings).all()
    assert found.cycle == () and found.warning == ""


@given(arrays(np.float64, (4, 4), elements=st.floats(-5, 5)))
def test_a_flow_is_the_orthogonal_sum_of_its_parts(values: np.ndarray) -> None:
    flow = values - values.T
    gradient, cyclic = hodge_decomposition(flow)
    assert gradient + cyclic == pytest.approx(flow)
    assert (gradient * cyclic).sum() == pytest.approx(0, abs=1e-8)
    # A gradient sums to zero around every triangle; a cyclic part has no divergence.
    assert gradient[0, 1] + gradient[1, 2] + gradient[2, 0] == pytest.approx(0, abs=1e-9)
    assert cyclic.sum(axis=1) == pytest.approx(np.zeros(4), abs=1e-9)


def test_cyclic_shares_of_pure_cases() -> None:
    levels = np.array([3.0, 1.0, -4.0])
    assert cyclic_share(levels[:, None] - levels[None]) == pytest.approx(0, abs=1e-12)
    assert cyclic_share(CYCLE - CYCLE.T) == pytest.approx(1)
    assert cyclic_share(np.zeros((3, 3))) == 0
    with pytest.raises(ValueError, match="antisymmetric"):
        cyclic_share(np.ones((2, 2)))


def test_the_strongest_cycle_is_limited_by_its_weakest_edge() -> None:
    """0 beats 1 beats 2 beats 0 with 0.1 at least; 1 beats 2 beats 3 beats 1 with 0.3."""
    margins = np.zeros((4, 4))
    for winner, loser, margin in (
        (0, 1, 0.9), (1, 2, 0.8), (2, 0, 0.1), (2, 3, 0.3), (3, 1, 0.4),
    ):  # fmt: skip
        margins[winner, loser], margins[loser, winner] = margin, -margin
    found, cycle = strongest_cycle(margins)
    assert found == pytest.approx(0.3)
    assert set(cycle) == {1, 2, 3} and len(cycle) == 3
    assert all(margins[a, b] >= 0.3 for a, b in zip(cycle, (*cycle[1:], cycle[0]), strict=True))


def test_wins_from_payoffs() -> None:
    """A cooperator ties with itself and loses to the defector."""
    assert win_matrix(np.array([[3.0, 0.0], [5.0, 1.0]])).tolist() == [[0.5, 0], [1, 0.5]]


@pytest.mark.parametrize(
    ("wins", "said"),
    [
        (np.ones((2, 3)), "agent, agent"),
        (-np.ones((2, 2)), "negative"),
        (np.kron(np.eye(2), np.ones((2, 2))), "never met"),
    ],
)
def test_bad_wins_are_refused(wins: np.ndarray, said: str) -> None:
    with pytest.raises(ComityError, match=said):
        elo(wins)
