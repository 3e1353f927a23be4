"""Deviation ratings: their properties, games by hand, and a twin without dual values."""

from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from comity.errors import ComityError
from comity.evaluation.metagame.deviation_ratings import (
    deviation_gains,
    deviation_ratings,
    deviation_ratings_of_compositions,
    deviation_ratings_of_players,
)

ROCK_PAPER_SCISSORS = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
small_games = arrays(np.float64, (2, 3, 3), elements=st.integers(-3, 3).map(float))


def naive(payoffs: tuple[np.ndarray, ...]) -> np.ndarray:
    """Lexicographic minimum of the sorted gains, by asking of each gain how low it can go.

    A gain is settled if it cannot be below epsilon while all others keep their limits.
    """
    gains = deviation_gains(payoffs)
    strategies, joints = gains.shape
    limits: list[float | None] = [None] * strategies
    simplex = {"A_eq": np.ones((1, joints)), "b_eq": [1.0], "bounds": [(0, None)] * joints}
    while None in limits:
        open_ = [i for i, limit in enumerate(limits) if limit is None]
        left = np.array([[-1.0 if i in open_ else 0.0] for i in range(strategies)])
        solved = linprog(
            np.append(np.zeros(joints), 1.0),
            A_ub=np.hstack([gains, left]),
            b_ub=[0.0 if limit is None else limit + 1e-9 for limit in limits],
            A_eq=np.append(np.ones(joints), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0, None)] * joints + [(None, None)],
        )
        epsilon = float(solved.x[-1])
        bounds = [epsilon + 1e-9 if limit is None else limit + 1e-9 for limit in limits]
        for i in open_:
            least = linprog(gains[i], A_ub=gains, b_ub=bounds, **simplex).fun
            if least > epsilon - 1e-6:
                limits[i] = epsilon
    return np.array(limits, dtype=np.float64)


def test_games_by_hand() -> None:
    """Rock, paper, scissors: all 0. In the dilemma only defection of both is an equilibrium:
    cooperating against it loses P - S = 1."""
    assert deviation_ratings(ROCK_PAPER_SCISSORS).ratings[0] == pytest.approx([0, 0, 0])
    dilemma = deviation_ratings(np.array([[3.0, 0.0], [5.0, 1.0]]))
    assert dilemma.ratings[0] == pytest.approx([-1, 0], abs=1e-6)
    assert dilemma.equilibrium == pytest.approx(np.array([[0, 0], [0, 1]]), abs=1e-6)


def test_coordination_recommends_both_meetings_equally_often() -> None:
    """Payoff 1 for meeting: with half of the time at each place, always going to one gains
    1/2 - 1, and no distribution makes the larger of the two gains smaller."""
    found = deviation_ratings(np.eye(2))
    assert found.ratings[0] == pytest.approx([-0.5, -0.5])
    assert np.trace(found.equilibrium) == pytest.approx(1)


def test_a_dominated_strategy_is_rated_by_what_it_loses() -> None:
    game = np.zeros((4, 4))
    game[:3, :3] = ROCK_PAPER_SCISSORS
    game[3, :3], game[:3, 3] = -2.0, 2.0
    assert deviation_ratings(game).ratings[0] == pytest.approx([0, 0, 0, -2], abs=1e-6)


@settings(max_examples=25)
@given(small_games)
def test_ratings_are_those_of_the_twin(games: np.ndarray) -> None:
    found = deviation_ratings_of_players(tuple(games))
    assert np.concatenate(found.ratings) == pytest.approx(naive(tuple(games)), abs=1e-5)


@settings(max_examples=25)
@given(small_games)
def test_ratings_are_the_gains_under_a_coarse_correlated_equilibrium(games: np.ndarray) -> None:
    found = deviation_ratings_of_players(tuple(games))
    gains = deviation_gains(tuple(games)) @ found.equilibrium.reshape(-1)
    assert np.concatenate(found.ratings) == pytest.approx(gains, abs=1e-5)
    assert gains.max() <= 1e-6
    assert found.equilibrium.sum() == pytest.approx(1)


@settings(max_examples=25)
@given(small_games, st.integers(0, 2))
def test_adding_a_clone_changes_no_rating(games: np.ndarray, cloned: int) -> None:
    row, column = games
    before = deviation_ratings_of_players((row, column)).ratings
    rows = [0, 1, 2, cloned]
    after = deviation_ratings_of_players((row[rows], column[rows])).ratings
    assert after[0] == pytest.approx(before[0][rows], abs=1e-5)
    assert after[1] == pytest.approx(before[1], abs=1e-5)


@settings(max_examples=15)
@given(small_games)
def test_offsets_change_no_rating(games: np.ndarray) -> None:
    row, column = games
    before = deviation_ratings_of_players((row, column)).ratings
    # What only the opponent's strategy decides cannot be gained by deviating.
    shifted = deviation_ratings_of_players((row + np.array([0.0, 7.0, -4.0]), column)).ratings
    assert shifted[0] == pytest.approx(before[0], abs=1e-5)


def test_one_symmetric_matrix_is_rated_as_two_seats() -> None:
    matrix = np.random.default_rng(2).normal(size=(5, 5))
    pair = deviation_ratings_of_players((matrix, matrix.T)).ratings
    found = deviation_ratings(matrix).ratings
    assert found[0] == pytest.approx(pair[0], abs=1e-6)
    assert found[1] == pytest.approx(pair[1], abs=1e-6)


def test_three_players() -> None:
    """Each wants the same as the majority: as with two players, both strategies are equal; a
    clone of the first player's first strategy is rated as it."""
    votes = np.indices((2, 2, 2))
    majority = (votes.sum(axis=0) >= 2).astype(int)
    payoffs = [(votes[player] == majority).astype(float) for player in range(3)]
    before = deviation_ratings_of_players(payoffs).ratings
    assert all(one[0] == pytest.approx(one[1], abs=1e-6) for one in before)
    after = deviation_ratings_of_players([one[[0, 1, 0]] for one in payoffs]).ratings
    assert after[0] == pytest.approx(before[0][[0, 1, 0]], abs=1e-5)
    assert np.concatenate(before) == pytest.approx(naive(tuple(payoffs)), abs=1e-5)


def payoffs_of(agents: list[str], seats: int, seed: int) -> dict[tuple[str, ...], dict[str, float]]:
    """A random symmetric game."""
    rng = np.random.default_rng(seed)
    every = combinations_with_replacement(sorted(agents), seats)
    return {one: {agent: float(rng.integers(-9, 10)) for agent in set(one)} for one in every}


@pytest.mark.parametrize("seats", [2, 3, 4])
def test_compositions_are_rated_as_all_joint_strategies(seats: int) -> None:
    agents = ["a", "b", "c"]
    for seed in range(4):
        payoffs = payoffs_of(agents, seats, seed)
        tensors = [np.zeros((3,) * seats) for _ in range(seats)]
        for joint in product(range(3), repeat=seats):
            paid = payoffs[tuple(sorted(agents[k] for k in joint))]
            for player, tensor in enumerate(tensors):
                tensor[joint] = paid[agents[joint[player]]]
        expected = deviation_ratings_of_players(tensors).ratings
        found = deviation_ratings_of_compositions(payoffs)
        for ratings in expected:
            assert [found[agent] for agent in agents] == pytest.approx(ratings, abs=1e-6)


def test_a_clone_among_compositions_changes_no_rating() -> None:
    payoffs = payoffs_of(["a", "b", "c"], 3, 7)
    as_original = {"a": "a", "b": "b", "c": "c", "clone": "b"}
    cloned = {
        one: {
            agent: payoffs[tuple(sorted(as_original[x] for x in one))][as_original[agent]]
            for agent in set(one)
        }
        for one in combinations_with_replacement(sorted(as_original), 3)
    }
    before = deviation_ratings_of_compositions(payoffs)
    after = deviation_ratings_of_compositions(cloned)
    assert after == pytest.approx({**before, "clone": before["b"]}, abs=1e-6)
    del cloned["a", "a", "a"]
    for wrong in (cloned, {}):
        with pytest.raises(ComityError, match="need every composition"):
            deviation_ratings_of_compositions(wrong)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ComityError, match="axis for every"):
        deviation_ratings_of_players([np.zeros((2, 2))] * 3)
    with pytest.raises(ComityError, match="leave out"):
        deviation_ratings(np.zeros((300, 300)))
    with pytest.raises(ComityError, match="finite"):
        deviation_ratings_of_players([np.full((2, 2), np.inf)] * 2)
