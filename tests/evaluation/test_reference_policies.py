"""Reference policies and values that curves and bars are compared with."""

import pytest

from comity.evaluation.moral.reference_policies import payoff_range
from comity.games import make_game


@pytest.mark.parametrize(
    ("game", "low", "high"),
    [("prisoners_dilemma", 0.0, 5.0), ("prisoners_dilemma_4310", 0.0, 4.0)],
)
def test_what_a_game_can_pay_in_a_round(game: str, low: float, high: float) -> None:
    assert payoff_range(make_game({"name": game})) == {"payoffs": [low, high]}


def test_no_range_where_payoffs_are_drawn() -> None:
    assert payoff_range(make_game({"name": "random_dilemma"})) == {}
    assert payoff_range(make_game({"name": "trust_and_split"})) == {}


def test_more_than_two_seats() -> None:
    found = payoff_range(make_game({"name": "public_goods"}))["payoffs"]
    assert found[0] < found[1]
