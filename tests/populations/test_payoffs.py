"""The looked-up rewards are those of the studies, seat by seat."""

from itertools import product

import numpy as np
import pytest

from comity.games import make_game
from comity.games.matrix.tables import prisoners_dilemma_4310
from comity.populations.payoffs import ANSWERS, GameTables, answer_codes
from comity.populations.types import LEARNER_TYPES, type_reward
from comity.rewards.own import Own
from comity.rewards.utilitarian import Utilitarian

PAYOFF = {(0, 0): (3, 3), (0, 1): (0, 4), (1, 0): (4, 0), (1, 1): (1, 1)}


def by_hand(kind: str, shown: int, own: int, other: int) -> float:
    """The reward of a move in the dilemma 4/3/1/0 when the partner has `shown` on display."""
    mine, theirs = PAYOFF[own, other]
    equality = 1 - abs(mine - theirs) / (mine + theirs)
    wrong = 5.0 * (own == 1 and shown == 0)
    return {
        "S": mine,
        "UT": mine + theirs,
        "aUT": -mine - theirs,
        "AL": theirs,
        "aAL": -theirs,
        "DE": -wrong,
        "mDE": wrong,
        "VEe": equality,
        "Vie": 1 - equality,
        "VEk": 5 * (own == 0),
        "Vagg": 5 * (own == 1),
        "VM": (equality + (own == 0)) / 2,
    }[kind]


@pytest.mark.parametrize("kind", LEARNER_TYPES)
def test_rewards_of_both_seats(kind: str) -> None:
    game = prisoners_dilemma_4310()
    tables = GameTables(game, [Own(), type_reward(kind, game)])
    for seat, mine, theirs, own, other in product(range(2), repeat=5):
        cell = tables.cell(*(np.array([one]) for one in (seat, mine, theirs, own, other)))
        reward = tables.reward(np.array([1]), cell)
        assert reward == pytest.approx(by_hand(kind, theirs, own, other))
        assert tables.payoff(cell) == PAYOFF[own, other][0]


def test_a_game_with_different_seats() -> None:
    game = make_game({"name": "bach_or_stravinsky"})
    tables = GameTables(game, [Own()])
    assert tables.payoffs[0, 0, 0, 0, 0] == 3 and tables.payoffs[1, 0, 0, 0, 0] == 2
    assert tables.payoffs[0, 0, 0, 1, 1] == 2 and tables.payoffs[1, 0, 0, 1, 1] == 3


def test_illegal_answers_follow_the_rules_of_the_reward() -> None:
    game = prisoners_dilemma_4310()
    rewards = [Own(), Own(illegal=-9, other=-1), Own(illegal=None), Utilitarian()]
    rewards.append(Utilitarian(opponent_illegal="penalize"))
    table = GameTables(game, rewards).rewards[:, 0, 0, 0]
    carried = ANSWERS.index((-1, 0))
    none = ANSWERS.index((-1, -1))
    assert table[:, carried, 0].tolist() == [-6, -9, 3, -6, -6], "own answer"
    assert table[:, 1, carried].tolist() == [4, 4, 4, 4, -6], "its partner gets what was carried"
    assert table[:, 1, none].tolist() == [0, -1, 0, 0, -6], "nothing was carried"


def test_codes_of_answers() -> None:
    intended, move = np.array(ANSWERS, dtype=np.int8).T
    assert answer_codes(intended, move).tolist() == [0, 1, 2, 3, 4]
