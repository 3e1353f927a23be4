"""Rewards against naive loops over matches, seats and rounds."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.games import make_game
from comity.games.base import ILLEGAL, Action, PlayedMatches
from comity.registry import build, sentences
from comity.rewards import REWARDS

GAME = make_game(
    {"name": "public_goods", "seats": 3, "length": {"name": "geometric", "cap": 5}, "noise": 0.2}
)

Loop = Callable[[PlayedMatches, int, int, int], float]


def own(played: PlayedMatches, match: int, seat: int, round: int) -> float:
    if played.intended[match, seat, round] < 0:
        return -6.0
    return float(played.payoffs[match, seat, round])


def utilitarian(played: PlayedMatches, match: int, seat: int, round: int) -> float:
    if played.intended[match, seat, round] < 0:
        return -6.0
    total = 0.0
    for other in range(played.payoffs.shape[1]):
        total += played.payoffs[match, other, round]
    return total


def weighted(played: PlayedMatches, match: int, seat: int, round: int) -> float:
    if played.intended[match, seat, round] < 0:
        return -6.0
    return 0.25 * own(played, match, seat, round) - 2 * utilitarian(played, match, seat, round)


def peers(own: float, others: float) -> Loop:
    def reward(played: PlayedMatches, match: int, seat: int, round: int) -> float:
        if played.intended[match, seat, round] < 0:
            return -6.0
        total = own * played.payoffs[match, seat, round]
        for other in range(played.payoffs.shape[1]):
            if other != seat:
                total += others * played.payoffs[match, other, round]
        return float(total)

    return reward


def deontological(played: PlayedMatches, match: int, seat: int, round: int) -> float:
    if played.intended[match, seat, round] < 0:
        return -6.0
    wronged = 0
    for other in range(played.shown.shape[1]):
        if other != seat and played.shown[match, other, round] == 0:
            wronged += 1
    defects = played.moves[match, seat, round] != 0
    return -4.0 * wronged / (played.shown.shape[1] - 1) if defects else 0.0


def equality(played: PlayedMatches, match: int, seat: int, round: int) -> float:
    if played.intended[match, seat, round] < 0:
        return -6.0
    shares = []
    mine = played.payoffs[match, seat, round]
    for other in range(played.payoffs.shape[1]):
        theirs = played.payoffs[match, other, round]
        if other != seat:
            size = abs(mine) + abs(theirs)
            shares.append(1.0 if size == 0 else 1 - abs(mine - theirs) / size)
    return sum(shares) / len(shares)


CASES: list[tuple[object, Loop]] = [
    ("own", own),
    ("utilitarian", utilitarian),
    ({"name": "weighted", "terms": {"own": 0.25, "utilitarian": -2}}, weighted),
    ({"name": "deontological", "penalty": 4}, deontological),
    ("equality", equality),
    ("peers", peers(1, -1)),
    ({"name": "peers", "own": 0.0}, peers(0, -1)),
    ({"name": "peers", "own": 0.5, "others": 2.0}, peers(0.5, 2)),
]


def play(answers: list[list[tuple[Action, ...]]]) -> PlayedMatches:
    """One match per list of joint answers, cut where the match ends."""
    histories = []
    for seed, joints in enumerate(answers):
        state = GAME.start(seed)
        for joint in joints:
            if GAME.turns(state):
                state = GAME.step(state, dict(enumerate(joint)))
        histories.append(GAME.history(state))
    return PlayedMatches.from_histories(histories)


action = st.sampled_from([0, 1, ILLEGAL])
matches = st.lists(
    st.lists(st.tuples(action, action, action), min_size=1, max_size=5), min_size=1, max_size=4
)


@pytest.mark.parametrize(("config", "loop"), CASES)
@settings(max_examples=30, deadline=None)
@given(answers=matches)
def test_rewards_equal_their_loops(
    config: object, loop: Loop, answers: list[list[tuple[Action, ...]]]
) -> None:
    played = play(answers)
    rewards = build("reward", config, REWARDS)(played, GAME)
    assert rewards.shape == played.payoffs.shape and rewards.dtype == np.float64
    for match, seat, round in np.ndindex(rewards.shape):
        expected = loop(played, match, seat, round) if played.alive[match, round] else 0.0
        assert rewards[match, seat, round] == pytest.approx(expected)


def test_a_reward_does_not_share_memory_with_the_payoffs() -> None:
    played = play([[(0, 0, 1)]])
    rewards = build("reward", "own", REWARDS)(played, GAME)
    rewards += 1
    assert played.payoffs.tolist() != rewards.tolist()


def test_worked_example() -> None:
    game = make_game({"name": "prisoners_dilemma", "length": {"name": "fixed", "rounds": 2}})
    state = game.start(0)
    for joint in ((1, 0), (0, 0)):
        state = game.step(state, dict(enumerate(joint)))
    played = PlayedMatches.from_histories([game.history(state)])
    assert build("reward", "own", REWARDS)(played, game).tolist() == [[[5, 3], [0, 3]]]
    assert build("reward", "utilitarian", REWARDS)(played, game).tolist() == [[[5, 6], [5, 6]]]


@pytest.mark.parametrize(
    ("terms", "complaint"),
    [
        ({}, "at least one reward"),
        ({"owm": 1}, "did you mean own"),
        ({"own": float("nan")}, "must be finite"),
        ({"own": "much"}, "must be a number"),
        ({"weighted": 1}, "missing terms"),
    ],
)
def test_wrong_terms_are_refused(terms: dict[str, object], complaint: str) -> None:
    with pytest.raises(ComityError, match=complaint):
        build("reward", {"name": "weighted", "terms": terms}, REWARDS)


def test_weights_of_peers_are_numbers() -> None:
    with pytest.raises(ComityError, match="finite"):
        build("reward", {"name": "peers", "others": float("inf")}, REWARDS)


def test_every_reward_has_a_sentence_and_a_formula() -> None:
    assert all(text.endswith(".") for text in sentences(REWARDS).values())
    for reward in REWARDS.values():
        assert getattr(reward, "formula", "").startswith("r[i] = ")
