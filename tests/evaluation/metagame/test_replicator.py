"""Replicator dynamics: closed forms, conserved quantities, and scipy's integrator."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from comity.errors import ComityError
from comity.evaluation.metagame.payoff_matrix import scale_of
from comity.evaluation.metagame.replicator import (
    basins,
    default_starts,
    simplex_coordinates,
    simplex_grid,
    trajectories,
    velocity,
)

ROCK_PAPER_SCISSORS = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])


def test_a_constant_advantage_grows_logistically() -> None:
    """Always 1 more: the odds grow by e in a unit of time."""
    found = trajectories(np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([[0.1, 0.9]]), 6.0, 7)
    odds = found[0, :, 0] / found[0, :, 1]
    assert odds == pytest.approx(np.exp(np.arange(7)) / 9)


def test_trajectories_agree_with_a_general_integrator() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        matrix = rng.normal(size=(4, 4))
        start = rng.dirichlet(np.ones(4))
        # Time is in units of 1 / payoff range.
        end = 8.0 / scale_of(matrix)
        known = solve_ivp(
            lambda _, x, a=matrix: x * (a @ x - x @ a @ x), (0, end), start, rtol=1e-10, atol=1e-12
        ).y[:, -1]
        assert trajectories(matrix, start[None], 8.0, 3)[0, -1] == pytest.approx(known, abs=1e-4)


def test_rock_paper_scissors_conserves_the_product_of_shares_and_settles_nowhere() -> None:
    path = trajectories(ROCK_PAPER_SCISSORS, np.array([[0.5, 0.3, 0.2]]), 60.0, 100)[0]
    assert path.prod(axis=1) == pytest.approx(np.full(100, 0.03), rel=1e-3)
    found = basins(ROCK_PAPER_SCISSORS, simplex_grid(3, 5)[:2], time=100.0)
    assert found.unsettled == 1 and found.rest_points == ()


def test_a_cycle_that_pays_winners_more_settles_in_the_middle() -> None:
    """Wins 2, losses -1: the interior equilibrium is stable (Hofbauer and Sigmund 1998, 7.7)."""
    good = np.where(ROCK_PAPER_SCISSORS == 1, 2.0, ROCK_PAPER_SCISSORS)
    (only,) = basins(good, simplex_grid(3, 6)).rest_points
    assert only.support == (0, 1, 2) and only.basin == 1
    assert only.shares == pytest.approx((1 / 3,) * 3, abs=1e-4)


def test_a_heteroclinic_cycle_is_no_rest_point_though_it_lingers_at_corners() -> None:
    bad = np.where(ROCK_PAPER_SCISSORS == 1, 0.5, ROCK_PAPER_SCISSORS)
    assert basins(bad, np.array([[0.4, 0.35, 0.25]])).unsettled == 1


def test_the_basins_of_the_stag_hunt_meet_at_its_mixed_equilibrium() -> None:
    """Stag 4, 0; hare 3, 1: stag grows where 4 p > 3 p + (1 - p), p > 1/2."""
    starts = np.stack([np.arange(0.05, 1, 0.1), 1 - np.arange(0.05, 1, 0.1)], axis=1)
    found = basins(np.array([[4.0, 0.0], [3.0, 1.0]]), starts)
    assert [(one.support, one.basin, one.payoff) for one in found.rest_points] == [
        ((0,), 0.5, 4),
        ((1,), 0.5, 1),
    ]
    assert (found.ends.argmax(axis=1) == (starts[:, 0] < 0.5)).all()


def test_paths_that_linger_at_a_saddle_are_followed_to_their_end() -> None:
    """Stag hunt, started a billionth beside the unstable mixed equilibrium at 1/2."""
    starts = np.array([[0.5 + 1e-9, 0.5 - 1e-9], [0.5 - 1e-9, 0.5 + 1e-9], [0.5, 0.5]])
    found = basins(np.array([[4.0, 0.0], [3.0, 1.0]]), starts)
    assert sorted(one.support for one in found.rest_points) == [(0,), (0, 1), (1,)]
    assert [one.basin for one in found.rest_points] == pytest.approx([1 / 3] * 3)


def test_neutral_agents_are_a_line_of_rest_points() -> None:
    """Tit-for-tat and always-cooperate earn the same among each other."""
    (line,) = basins(
        np.array([[3.0, 3.0], [3.0, 3.0]]), np.array([[0.2, 0.8], [0.9, 0.1]])
    ).rest_points
    assert line.support == (0, 1) and line.spread == pytest.approx(0.7)


def test_an_agent_with_share_0_stays_out() -> None:
    dilemma = np.array([[3.0, 0.0], [5.0, 1.0]])
    assert trajectories(dilemma, np.array([[1.0, 0.0]]), 50.0, 5)[0, -1].tolist() == [1, 0]
    (only,) = basins(dilemma, np.array([[1.0, 0.0]])).rest_points
    assert only.support == (0,)


def test_velocity_is_zero_at_equilibria_and_sums_to_zero() -> None:
    third = np.full(3, 1 / 3)
    assert velocity(ROCK_PAPER_SCISSORS, third) == pytest.approx(np.zeros(3))
    moved = velocity(np.random.default_rng(0).normal(size=(3, 3)), simplex_grid(3, 6))
    assert moved.sum(axis=1) == pytest.approx(np.zeros(len(moved)))


def test_a_pair_of_matrices_is_averaged_over_seats() -> None:
    row, column = np.array([[0.0, 2.0], [4.0, 6.0]]), np.array([[0.0, 8.0], [2.0, 0.0]])
    start = np.array([[0.3, 0.7]])
    both = trajectories((row, column), start, 5.0, 4)
    assert both == pytest.approx(trajectories((row + column.T) / 2, start, 5.0, 4))


def test_grids_and_coordinates() -> None:
    grid = simplex_grid(3, 5)
    assert len(grid) == 6 and (grid > 0).all() and grid.sum(axis=1) == pytest.approx(np.ones(6))
    assert simplex_coordinates(np.eye(3)).tolist() == [[0, 0], [1, 0], [0.5, 3**0.5 / 2]]
    many = default_starts(7)
    assert (many == default_starts(7)).all() and many.shape == (500, 7)


@pytest.mark.parametrize("starts", [[[0.5, 0.6]], [[1.0]], [[-0.1, 1.1]], np.zeros((0, 2))])
def test_bad_starts_are_refused(starts: object) -> None:
    with pytest.raises(ComityError):
        trajectories(np.eye(2), np.array(starts))
