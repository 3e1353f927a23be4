"""Alpha-rank against OpenSpiel's, a brute-force chain, and published rankings."""

import numpy as np
import pytest

from comity.errors import ComityError
from comity.evaluation.metagame.alpha_rank import alpha_rank
from comity.evaluation.metagame.markov import stationary_distribution

ROCK_PAPER_SCISSORS = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])


def open_spiel_alpha_rank(tables: list[np.ndarray], **keys: object) -> np.ndarray:
    pytest.importorskip("open_spiel")
    from open_spiel.python.egt import alpharank

    return np.asarray(alpharank.compute(tables, **keys)[2])


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0, 3.0])
def test_one_population_is_as_in_open_spiel(alpha: float, local: bool) -> None:
    rng = np.random.default_rng(5)
    for n in (2, 3, 5):
        matrix = rng.normal(size=(n, n))
        expected = open_spiel_alpha_rank(
            [matrix], m=10, alpha=alpha, use_local_selection_model=local
        )
        found = alpha_rank(matrix, alpha, population=10, local_selection=local)
        assert found.distribution == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("epsilon", [0.1, 0.001])
def test_infinite_alpha_is_as_in_open_spiel(epsilon: float) -> None:
    matrix = np.random.default_rng(7).integers(0, 3, size=(5, 5)).astype(float)
    expected = open_spiel_alpha_rank([matrix], use_inf_alpha=True, inf_alpha_eps=epsilon)
    assert alpha_rank(matrix, epsilon=epsilon).distribution == pytest.approx(expected, abs=1e-8)


def test_published_results() -> None:
    """Omidshafiei et al. 2019: rock, paper, scissors 1/3 each; in the prisoner's dilemma everything
    on defection."""
    for alpha in (None, 0.5, 100.0):
        found = alpha_rank(ROCK_PAPER_SCISSORS, alpha).distribution
        assert found == pytest.approx([1 / 3] * 3)
    dilemma = alpha_rank(np.array([[3.0, 0.0], [5.0, 1.0]]))
    assert dilemma.distribution == pytest.approx([0, 1], abs=1e-6)
    assert dilemma.ranking() == [1, 0]


def test_fixation_is_that_of_the_chain_over_numbers_of_mutants() -> None:
    """Absorption of the Fermi birth-death chain by linear equations, m = 4."""
    matrix, m, alpha = np.array([[1.0, 3.0], [2.0, 0.5]]), 4, 0.7
    chain = np.zeros((m + 1, m + 1))
    for k in range(1, m):
        own = ((k - 1) * matrix[1, 1] + (m - k) * matrix[1, 0]) / (m - 1)
        other = (k * matrix[0, 1] + (m - k - 1) * matrix[0, 0]) / (m - 1)
        up = 1 / (1 + np.exp(-alpha * (own - other)))
        chain[k, k + 1], chain[k, k - 1] = up, 1 - up
    inner = slice(1, m)
    absorbed = np.linalg.solve(np.eye(m - 1) - chain[inner, inner], chain[inner, m])
    found = alpha_rank(matrix, alpha, m, local_selection=False)
    assert found.transition[0, 1] == pytest.approx(absorbed[0])


def test_stationary_distributions_of_rare_transitions_are_exact() -> None:
    """Two states left with 1e-200 and 3e-200: shares 3/4 and 1/4."""
    rare = np.array([[1.0, 1e-200], [3e-200, 1.0]])
    assert stationary_distribution(rare) == pytest.approx([3 / 4, 1 / 4])
    rng = np.random.default_rng(0)
    chain = rng.dirichlet(np.ones(6), size=6)
    found = stationary_distribution(chain)
    assert found @ chain == pytest.approx(found)
    with pytest.raises(ValueError, match="irreducible"):
        stationary_distribution(np.eye(2))


def test_a_huge_alpha_is_the_limit() -> None:
    """A cycle of three that all beat a fourth; without losses the chain ends in the cycle."""
    matrix = np.full((4, 4), 0.0)
    matrix[:3, :3], matrix[3, :3] = ROCK_PAPER_SCISSORS, -1.0
    for found in (alpha_rank(matrix), alpha_rank(matrix, alpha=300.0)):
        assert found.distribution == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0], abs=1e-6)
        assert found.ranking()[-1] == 3


def test_whole_populations_resist_where_pairs_do_not() -> None:
    """Stag hunt: a hare hunter earns more than the stag hunter that it meets, but less than the
    others. Local selection ranks the hare first; against the whole population the stag holds."""
    stag_hunt = np.array([[4.0, 0.0], [3.0, 1.0]])
    assert alpha_rank(stag_hunt).ranking()[0] == 1
    assert alpha_rank(stag_hunt, alpha=1.0, population=20).ranking()[0] == 1
    leaning = stag_hunt + np.array([[0.0, 0.0], [-1.0, 0.0]])
    whole = alpha_rank(leaning, alpha=1.0, population=20, local_selection=False)
    assert whole.ranking()[0] == 0
    with pytest.raises(ComityError, match="finite"):
        alpha_rank(stag_hunt, local_selection=False)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ComityError, match="alpha must"):
        alpha_rank(np.eye(2), alpha=-1.0)
    with pytest.raises(ComityError, match="two members"):
        alpha_rank(np.eye(2), alpha=1.0, population=1)
