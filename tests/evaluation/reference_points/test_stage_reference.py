"""Reference points of stage games: textbook values, naive loops and the minimax theorem."""

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from comity.errors import ComityError
from comity.evaluation.reference_points.schelling import schelling_diagram
from comity.evaluation.reference_points.stage import (
    minimax_value,
    prices,
    pure_stage_equilibria,
    stage_reference,
)
from comity.evaluation.reference_points.summary import reference_points
from comity.games import make_game
from comity.games.matrix.stages import MatrixStage, PublicGoods


def stage(name: str) -> MatrixStage:
    return make_game({"name": name}).stage  # type: ignore[attr-defined,no-any-return]


def test_the_prisoners_dilemma() -> None:
    """Welfare 6 against 2 in the only equilibrium: both prices are 3."""
    found = stage_reference(stage("prisoners_dilemma"))
    (only,) = found.equilibria
    assert only.payoffs == (1, 1) and only.pure
    assert (found.best_welfare, found.best_moves) == (6, ((0, 0),))
    assert found.minimax == (1, 1)
    assert found.price_of_anarchy == found.price_of_stability == 3


def test_the_stag_hunt_is_stable_at_its_optimum_and_anarchic_at_its_worst_equilibrium() -> None:
    """Equilibria 8, 2 and the mixed one: stag with 1/2 (4 p = 3 p + 1 - p), payoff 2, welfare 4."""
    found = stage_reference(stage("stag_hunt"))
    assert sorted(one.welfare for one in found.equilibria) == pytest.approx([2, 4, 8])
    assert found.price_of_anarchy == 4 and found.price_of_stability == 1


def test_chicken_and_matching_pennies() -> None:
    """In chicken the other holds a seat to 1: it goes straight, and one swerves. In matching
    pennies the value is 0 and the equilibrium's welfare too: no price."""
    assert stage_reference(stage("chicken")).minimax == (1, 1)
    pennies = MatrixStage("Pennies", ("heads", "tails"), (((1, -1), (-1, 1)), ((-1, 1), (1, -1))))
    found = stage_reference(pennies)
    assert found.minimax == (0, 0) and found.price_of_anarchy is None
    (only,) = found.equilibria
    assert only.strategies == (pytest.approx((0.5, 0.5)),) * 2


def test_public_goods_of_four_seats() -> None:
    """Contribution 10, factor 1.6: 4 each from a full pot's 64; all keep 10 in equilibrium."""
    found = stage_reference(PublicGoods(4, 10, 1.6))
    (only,) = found.equilibria
    assert only.payoffs == (10, 10, 10, 10) and "pure equilibria only" in found.method
    assert found.best_welfare == pytest.approx(64) and found.best_moves == ((0, 0, 0, 0),)
    assert found.minimax == pytest.approx((10,) * 4)
    assert found.price_of_anarchy == pytest.approx(1.6)


@given(arrays(np.float64, (3, 2, 2, 2), elements=st.integers(-2, 2).map(float)))
def test_pure_equilibria_of_three_seats_are_those_of_naive_loops(payoffs: np.ndarray) -> None:
    naive = [
        joint
        for joint in product((0, 1), repeat=3)
        if all(
            payoffs[seat][joint]
            >= payoffs[seat][(*joint[:seat], 1 - joint[seat], *joint[seat + 1 :])]
            for seat in range(3)
        )
    ]
    assert pure_stage_equilibria(list(payoffs)) == naive


@given(arrays(np.float64, (3, 4), elements=st.integers(-9, 9).map(float)))
def test_minimax_is_what_the_seat_can_secure(payoffs: np.ndarray) -> None:
    """Von Neumann 1928: the maximin program of the seat itself has the same value."""
    solved = linprog(
        np.append(np.zeros(3), -1.0),
        A_ub=np.hstack([-payoffs.T, np.ones((4, 1))]),
        b_ub=np.zeros(4),
        A_eq=np.append(np.ones(3), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * 3 + [(None, None)],
    )
    assert minimax_value(payoffs, 0) == pytest.approx(-solved.fun, abs=1e-7)
    assert minimax_value(payoffs.T, 1) == pytest.approx(-solved.fun, abs=1e-7)


def test_prices_of_nothing_are_none() -> None:
    assert prices(6.0, []) == (None, None)
    assert prices(6.0, [0.0, 2.0]) == (None, None)
    assert prices(6.0, [2.0, 4.0]) == (3.0, 1.5)


def test_too_many_joint_moves_are_refused() -> None:
    with pytest.raises(ComityError, match="too many to enumerate"):
        stage_reference(PublicGoods(30, 10, 1.6))


def test_the_schelling_diagram_of_public_goods() -> None:
    """k other contributors: 4 (k + 1) for a contributor, 10 + 4 k for the other."""
    found = schelling_diagram(PublicGoods(4, 10, 1.6))
    assert found.cooperator == pytest.approx((4, 8, 12, 16))
    assert found.defector == pytest.approx((10, 14, 18, 22))
    assert found.average == pytest.approx((10, 11.5, 13, 14.5, 16))
    assert found.is_dilemma
    assert len(schelling_diagram(PublicGoods(100, 10, 1.6)).cooperator) == 100


@pytest.mark.parametrize(
    ("name", "dilemma"),
    [("prisoners_dilemma", True), ("stag_hunt", True), ("chicken", True),
     ("defective_coordination", False)],
)  # fmt: skip
def test_schelling_diagrams_of_two_seats_are_the_table(name: str, dilemma: bool) -> None:
    table = np.array(stage(name).payoffs)[:, :, 0]
    found = schelling_diagram(stage(name))
    assert found.cooperator == (table[0, 1], table[0, 0])
    assert found.defector == (table[1, 1], table[1, 0])
    assert found.is_dilemma is dilemma


def test_seats_that_differ_are_averaged_over_who_the_cooperators_are() -> None:
    class Unequal:
        """Seat 0 earns the sum of the weights of the cooperators."""

        title, seats, moves = "Unequal", 3, ("cooperate", "defect")

        def payoff(self, moves: tuple[int, ...]) -> tuple[float, ...]:
            total = sum(w for w, m in zip((1.0, 2.0, 4.0), moves, strict=True) if m == 0)
            return total, 0.0, 0.0

    found = schelling_diagram(Unequal())
    assert found.cooperator == (1, 4, 7) and found.defector == (0, 3, 6)
    with pytest.raises(ComityError, match="two moves"):
        schelling_diagram(MatrixStage("T", ("a", "b", "c"), (((0, 0),) * 3,) * 3))


def test_reference_points_of_every_kind_of_game() -> None:
    assert set(reference_points(make_game({"name": "prisoners_dilemma"}))) == {"stage", "schelling"}
    split = reference_points(make_game({"name": "split_no_talk"}))
    assert split["split"]["items"]
    assert reference_points(make_game({"name": "random_dilemma"})) == {}
    for name in ("chicken", "public_goods", "split_no_talk"):
        json.dumps(reference_points(make_game({"name": name})), allow_nan=False)
