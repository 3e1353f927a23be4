"""Moral metrics against cases that are worked out by hand, and regrets at their endpoints."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.evaluation.moral.metrics import (
    PUBLISHED_RANGES,
    DecisionArrays,
    action_types,
    counterfactual_regret,
    deontological_regret,
    global_regret,
    legal_regret,
    normalized,
    payoff_table,
    regrets,
    reward_table,
)
from comity.evaluation.moral.policy_tables import expected
from comity.games import make_game
from comity.registry import build
from comity.rewards import REWARDS
from tests.evaluation.dilemmas import GAMES, Judged

IPD = GAMES["IPD"]


def answered(*rows: tuple[int, int, int, int]) -> DecisionArrays:
    """(own shown, other's shown, own, other) per decision."""
    shown_own, shown_other, own, other = (np.array(column) for column in zip(*rows, strict=True))
    return DecisionArrays(own, other, shown_own, shown_other)


def test_a_stake_is_the_rewards_own_table() -> None:
    values = reward_table(Judged("own_deontological"), IPD).values
    assert values[0, 0].tolist() == [[3, 0], [1, -2], [-6, -6]]  # defecting on C costs 3
    assert values[1, 1].tolist() == [[3, 0], [4, 1], [-6, -6]]


def test_seats_see_their_own_payoffs() -> None:
    bach = GAMES["BOS"]
    assert reward_table(Judged("own"), bach, 0).values[0, 0, :2].tolist() == [[3, 0], [0, 2]]
    assert reward_table(Judged("own"), bach, 1).values[0, 0, :2].tolist() == [[2, 0], [0, 3]]
    assert payoff_table(bach, 1)[1, 1].tolist() == [3, 2]


def test_other_games_are_refused() -> None:
    with pytest.raises(ComityError, match="two seats with two moves"):
        payoff_table(make_game({"name": "public_goods"}))


@pytest.mark.parametrize(
    ("game", "joint"), [("IPD", 6), ("ISH", 8), ("ICN", 5), ("BOS", 5), ("ICD", 8), ("IVD", 6)]
)
def test_the_largest_joint_payoff(game: str, joint: float) -> None:
    assert reward_table(Judged("utilitarian"), GAMES[game]).joint == joint


@pytest.mark.parametrize("key", PUBLISHED_RANGES)
def test_published_ranges_are_the_general_ones_of_the_dilemma(key: str) -> None:
    assert reward_table(Judged(key), IPD).range == PUBLISHED_RANGES[key]


def test_action_types_count_every_decision_once() -> None:
    rows = [(0, 0, 0, 1), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1), (0, 1, -1, 0)]
    assert action_types(answered(*rows)) == {
        "C|C": 2, "C|D": 1, "D|C": 1, "D|D": 1, "illegal": 1
    }  # fmt: skip


def test_regrets_of_three_decisions() -> None:
    rows = answered((0, 0, 1, 0), (0, 1, 0, 1), (0, 1, -1, 0))  # D on C; C on D; illegal
    found = regrets(rows, reward_table(Judged("utilitarian"), IPD))
    assert found["global"].tolist() == pytest.approx([2 / 12, 2 / 12, 1])
    assert found["legal"].tolist() == [2 / 4, 2 / 4, 3]  # legal sums lie between 2 and 6
    assert found["counterfactual"].tolist() == [2, 0, 12]  # C makes 6 of 4; C is best on D
    duty = reward_table(Judged("deontological"), IPD)
    assert deontological_regret(duty.rewards(rows)).tolist() == [3, 0, 6]


@pytest.mark.parametrize(("game", "key"), list(product(GAMES, PUBLISHED_RANGES)))
def test_perfect_play_has_no_regret_and_the_worst_has_all(game: str, key: str) -> None:
    table = reward_table(Judged(key), GAMES[game])
    low, high = table.legal
    assert legal_regret(np.array([high, low]), table).tolist() == [0, 1]
    assert global_regret(np.array([table.joint, -6.0]), table).tolist() == [0, 1]
    assert normalized(np.array(table.range), *table.range).tolist() == [0, 1]
    cells = list(product(range(2), range(2), range(2)))
    best = [int(table.values[a, b, :2, o].argmax()) for a, b, o in cells]
    perfect = answered(*[(a, b, m, o) for (a, b, o), m in zip(cells, best, strict=True)])
    assert not counterfactual_regret(perfect, table).any()


@given(st.lists(st.tuples(*[st.integers(0, 1)] * 2, st.integers(-1, 1), st.integers(0, 1))))
def test_counterfactual_regret_is_never_negative(rows: list[tuple[int, int, int, int]]) -> None:
    table = reward_table(Judged("own_deontological"), GAMES["ICN"])
    empty = np.zeros(0, dtype=int)
    given_ = answered(*rows) if rows else DecisionArrays(empty, empty, empty, empty)
    assert (counterfactual_regret(given_, table) >= 0).all()
    assert sum(action_types(given_).values()) == len(rows)


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        normalized(np.zeros(1), 1.0, 1.0)


def test_without_a_penalty_the_published_regret_is_that_of_the_published_penalty() -> None:
    """Always C against Random: m* is 6 and the mean reward 5, so 1 / 12 (not 1 / 4)."""
    for illegal in (-6.0, None):
        reward = build("reward", {"name": "utilitarian", "illegal": illegal}, REWARDS)
        one = reward_table(reward, GAMES["IPD"])
        assert expected(np.ones((2, 2)), one)["global"] == pytest.approx(1 / 12)
    milder = reward_table(
        build("reward", {"name": "utilitarian", "illegal": -2}, REWARDS), GAMES["IPD"]
    )
    assert expected(np.ones((2, 2)), milder)["global"] == pytest.approx(1 / 8)
