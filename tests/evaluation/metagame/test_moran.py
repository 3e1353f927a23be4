"""The Moran process against axelrod's, linear equations, and closed forms."""

from itertools import product

import numpy as np
import pytest

from comity.errors import ComityError
from comity.evaluation.metagame.moran import (
    EXACT,
    SIMULATED,
    exponential_fitness,
    fixation,
    fixation_from_equal_numbers,
    simulated_fixation,
    two_type_fixation,
)
from tests.axelrod_twin import axelrod_or_skip


def absorbed(payoffs: np.ndarray, start: tuple[int, ...]) -> np.ndarray:
    """Fixation by linear equations over all populations (a slow twin for few members)."""
    types, members = len(payoffs), sum(start)
    states = [s for s in product(range(members + 1), repeat=types) if sum(s) == members]
    number = {state: i for i, state in enumerate(states)}
    chain, ends = np.zeros((len(states),) * 2), np.zeros((len(states), types))
    for state, i in number.items():
        if max(state) == members:
            ends[i, state.index(members)] = 1.0
            continue
        fitness = [
            state[a] * (sum(state[b] * payoffs[a, b] for b in range(types)) - payoffs[a, a])
            for a in range(types)
        ]
        for born, dead in product(range(types), repeat=2):
            chance = fitness[born] / sum(fitness) * state[dead] / members
            after = list(state)
            after[born] += 1
            after[dead] -= 1
            if chance:
                chain[i, number[tuple(after)]] += chance
    return np.linalg.solve(np.eye(len(states)) - chain, ends)[number[start]]


def test_neutral_types_fixate_by_their_share() -> None:
    assert two_type_fixation(np.ones((2, 2)), 10, 3) == pytest.approx(0.3)


def test_a_constant_fitness_has_the_classic_formula() -> None:
    """(1 - 1 / r) / (1 - 1 / r^N) (Moran 1958), also where powers overflow."""
    r = 1.5
    payoffs = np.array([[r, r], [1.0, 1.0]])
    assert two_type_fixation(payoffs, 8) == pytest.approx((1 - 1 / r) / (1 - 1 / r**8))
    assert two_type_fixation(payoffs, 5000) == pytest.approx(1 - 1 / r)
    assert two_type_fixation(payoffs[::-1], 5000) == pytest.approx(0, abs=1e-300)


@pytest.mark.parametrize("start", [(1, 5), (3, 3), (5, 1)])
def test_two_types_are_exact(start: tuple[int, int]) -> None:
    payoffs = np.array([[3.0, 0.5], [5.0, 1.0]])
    found = fixation(payoffs, start)
    assert found.method == EXACT and found.runs == 0
    assert found.probability == pytest.approx(absorbed(payoffs, start))


@pytest.mark.parametrize("start", [(1, 4), (2, 3), (4, 1)])
def test_a_fitness_of_zero_is_exact_too(start: tuple[int, int]) -> None:
    """A lone cooperator among defectors earns 0 in the dilemma 5/3/1/0."""
    payoffs = np.array([[3.0, 0.0], [5.0, 1.0]])
    assert fixation(payoffs, start).probability == pytest.approx(absorbed(payoffs, start))
    if start[0] == 1:
        assert fixation(payoffs, start).probability[0] == 0


def test_three_types_are_simulated_and_agree_with_linear_equations() -> None:
    payoffs = np.array([[1.0, 2.0, 0.5], [0.5, 1.0, 2.0], [2.0, 0.5, 1.5]])
    found = fixation(payoffs, (2, 2, 2), runs=4000, seed=1)
    assert found.method == SIMULATED and found.fixated.sum() == 4000
    exact = absorbed(payoffs, (2, 2, 2))
    error = np.sqrt(exact * (1 - exact) / 4000)
    assert (np.abs(found.probability - exact) < 4 * error).all()
    again = fixation(payoffs, (2, 2, 2), runs=4000, seed=1)
    assert (again.fixated == found.fixated).all()


def test_a_type_that_is_not_there_cannot_win() -> None:
    payoffs = np.ones((3, 3))
    assert fixation(payoffs, (0, 4, 0)).probability.tolist() == [0, 1, 0]
    assert fixation(payoffs, (1, 0, 3)).probability == pytest.approx([0.25, 0, 0.75])


@pytest.mark.slow
def test_it_is_axelrods_moran_process() -> None:
    """60 processes of the package, with its matches as the payoffs here."""
    axelrod = axelrod_or_skip()
    turns, start, runs = 4, (2, 3), 60
    kinds = [axelrod.TitForTat, axelrod.Defector]
    payoffs = np.zeros((2, 2))
    for i, j in product(range(2), repeat=2):
        match = axelrod.Match((kinds[i](), kinds[j]()), turns=turns)
        match.play()
        payoffs[i, j] = match.final_score()[0]
    wins, cache = 0, axelrod.DeterministicCache()
    for seed in range(runs):
        players = [kinds[0]() for _ in range(start[0])] + [kinds[1]() for _ in range(start[1])]
        process = axelrod.MoranProcess(players, turns=turns, seed=seed, deterministic_cache=cache)
        process.play()
        wins += process.winning_strategy_name == "Tit For Tat"
    chance = fixation(payoffs, start).probability[0]
    assert 0.2 < chance < 0.8, "a start that tells something"
    assert abs(wins / runs - chance) < 4 * np.sqrt(chance * (1 - chance) / runs)
    simulated = simulated_fixation(payoffs, start, runs=4000).probability[0]
    assert abs(simulated - chance) < 4 * np.sqrt(chance * (1 - chance) / 4000)


def test_unfinished_processes_count_for_no_type() -> None:
    found = simulated_fixation(np.ones((2, 2)), (50, 50), runs=10, max_steps=3)
    assert found.probability.sum() == 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ComityError, match="exponential_fitness"):
        fixation(np.array([[1.0, -1.0], [1.0, 1.0]]), (1, 1))
    with pytest.raises(ComityError, match="add to all payoffs"):
        fixation(np.zeros((2, 2)), (1, 1))
    with pytest.raises(ComityError, match="number of each"):
        fixation(np.ones((2, 2)), (1, 1, 1))
    with pytest.raises(ComityError, match="must be positive"):
        fixation(np.ones((2, 2)), (0, 0))
    assert exponential_fitness(np.zeros((2, 2))).tolist() == [[1, 1], [1, 1]]


def test_populations_of_equal_numbers() -> None:
    two = np.array([[3.0, 0.0], [5.0, 1.0]])
    found, members, plain = fixation_from_equal_numbers(two)
    assert (members, plain, found.method) == (20, True, EXACT)
    assert found.probability[1] == pytest.approx(two_type_fixation(two[::-1, ::-1], 20, 10))
    equal, members, _ = fixation_from_equal_numbers(np.ones((3, 3)))
    assert members == 21 and equal.probability == pytest.approx([1 / 3] * 3, abs=0.04)
    # With negative payoffs, fitness is exp(payoff).
    less, _, plain = fixation_from_equal_numbers(two - 2)
    assert not plain
    expected = two_type_fixation(np.exp(two - 2), 20, 10)
    assert less.probability[0] == pytest.approx(expected)
    with pytest.raises(ComityError, match="21 types"):
        fixation_from_equal_numbers(np.ones((21, 21)))
