"""Payoff tables: the named ones as published, and your own refused where they are wrong."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.games import make_game
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.stages import MatrixStage, PublicGoods

PUBLISHED = {
    "prisoners_dilemma": [(3, 3), (0, 5), (5, 0), (1, 1)],
    "prisoners_dilemma_4310": [(3, 3), (0, 4), (4, 0), (1, 1)],
    "stag_hunt": [(4, 4), (0, 3), (3, 0), (1, 1)],
    "chicken": [(2, 2), (1, 4), (4, 1), (0, 0)],
    "bach_or_stravinsky": [(3, 2), (0, 0), (0, 0), (2, 3)],
    "defective_coordination": [(1, 1), (0, 0), (0, 0), (4, 4)],
    "volunteers_dilemma": [(3, 3), (1, 4), (4, 1), (0, 0)],
}
"""Payoffs of CC, CD, DC, DD (seat 0, seat 1)."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_named_tables_are_the_published_ones(name: str) -> None:
    game = make_game({"name": name})
    assert isinstance(game, Iterated)
    cells = [game.stage.payoff((a, b)) for a in (0, 1) for b in (0, 1)]
    assert cells == PUBLISHED[name]


def test_public_goods_pays_what_was_kept_and_a_share_of_the_pot() -> None:
    stage = PublicGoods(seats=4, contribution=10, multiplier=1.6)
    assert stage.payoff((0, 0, 0, 0)) == pytest.approx((16, 16, 16, 16))
    assert stage.payoff((1, 1, 1, 1)) == pytest.approx((10, 10, 10, 10))
    assert stage.payoff((0, 1, 1, 1)) == pytest.approx((4, 14, 14, 14))
    assert stage.moves == ("cooperate", "defect")


@given(
    st.integers(2, 6),
    st.floats(0.1, 100),
    st.floats(0.1, 10),
    st.data(),
)
def test_public_goods_conserves_points(
    seats: int, contribution: float, multiplier: float, data: st.DataObject
) -> None:
    moves = tuple(data.draw(st.lists(st.integers(0, 1), min_size=seats, max_size=seats)))
    total = sum(PublicGoods(seats, contribution, multiplier).payoff(moves))
    given_away = moves.count(0) * contribution
    assert total == pytest.approx(seats * contribution + (multiplier - 1) * given_away)


def test_your_own_table() -> None:
    game = make_game(
        {
            "name": "matrix",
            "title": "Rock Paper Scissors",
            "moves": ["rock", "paper", "scissors"],
            "payoffs": [
                [[0, 0], [-1, 1], [1, -1]],
                [[1, -1], [0, 0], [-1, 1]],
                [[-1, 1], [1, -1], [0, 0]],
            ],
        }
    )
    assert isinstance(game, Iterated)
    assert game.moves == ("rock", "paper", "scissors")
    assert game.stage.payoff((1, 0)) == (1, -1)
    assert game.stage.title == "Rock Paper Scissors"


def test_lists_make_the_same_stage_as_tuples() -> None:
    tuples = MatrixStage("Tie", ("a", "b"), (((1, 1), (0, 0)), ((0, 0), (1, 1))))
    lists = MatrixStage("Tie", ["a", "b"], [[[1, 1], [0, 0]], [[0, 0], [1, 1]]])  # type: ignore[arg-type]
    assert lists == tuples and hash(lists) == hash(tuples)


GOOD = [[[3, 3], [0, 5]], [[5, 0], [1, 1]]]
NAMES = ["cooperate", "defect"]


@pytest.mark.parametrize(
    ("moves", "payoffs", "complaint"),
    [
        (NAMES, GOOD[:1], "one row for each of the 2 moves; found 1"),
        (NAMES, [GOOD[0], [[5, 0]]], "row of 'defect' must have one cell"),
        (NAMES, [[[3, 3], [0, 5], [1, 1]]] * 2, "row of 'cooperate' must have one cell"),
        (NAMES, [[[3, 3, 3], [0, 5]], GOOD[1]], "two payoffs, one for each seat; found 3"),
        (NAMES, [[3, 0], [5, 1]], "two payoffs, one for each seat; found 3"),
        (NAMES, [[["3", 3], [0, 5]], GOOD[1]], "holds '3', which is no finite number"),
        (NAMES, [[[True, 3], [0, 5]], GOOD[1]], "holds True"),
        (NAMES, [[[float("nan"), 3], [0, 5]], GOOD[1]], "must be finite"),
        (NAMES, [[[3, 3], [0, float("inf")]], GOOD[1]], "must be finite"),
        (NAMES, [[[None, 3], [0, 5]], GOOD[1]], "holds None"),
        (NAMES, "GOOD", "payoffs must be a list"),
        (NAMES, {"cooperate": 3}, "payoffs must be a list"),
        (["stay"], [[[1, 1]]], "at least two moves"),
        ([], [], "at least two moves"),
        (["a", "b", "c"], GOOD, "one row for each of the 3 moves; found 2"),
        (["stay", "Stay "], GOOD, "collides"),
        (["stay", ""], GOOD, "must be text"),
        ([False, True], GOOD, "must be text, not False (quote it in YAML)"),
        (["legal", "illegal"], GOOD, "collides"),
    ],
)
def test_wrong_tables_are_refused(moves: object, payoffs: object, complaint: str) -> None:
    with pytest.raises(ComityError, match=re.escape(complaint)) as caught:
        make_game({"name": "matrix", "moves": moves, "payoffs": payoffs})
    assert str(caught.value).startswith("game 'matrix'")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seats": 1},
        {"seats": 2.5},
        {"contribution": 0},
        {"contribution": float("inf")},
        {"multiplier": -1},
        {"multiplier": float("nan")},
    ],
)
def test_wrong_public_goods_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ComityError, match=next(iter(wrong))):
        make_game({"name": "public_goods", **wrong})
