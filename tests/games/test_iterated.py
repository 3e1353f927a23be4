"""Iterated games: chances, illegal answers, starts, and step as one of the successors."""

from collections import Counter
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.games import make_game
from comity.games.base import ILLEGAL, Action, PlayedMatches
from comity.games.matrix.iterated import Iterated, State


def dilemma(**parameters: Any) -> Iterated:
    game = make_game({"name": "prisoners_dilemma", **parameters})
    assert isinstance(game, Iterated)
    return game


def play(game: Iterated, *joint: tuple[Action, ...], seed: int = 0) -> State:
    state = game.start(seed)
    for moves in joint:
        state = game.step(state, dict(enumerate(moves)))
    return state


def test_a_match_by_hand() -> None:
    game = dilemma(length={"name": "fixed", "rounds": 3})
    state = play(game, (0, 0), (0, 1), (1, 1))
    assert [played.payoffs for played in game.history(state)] == [(3, 3), (0, 5), (1, 1)]
    assert state.over and game.turns(state) == ()
    with pytest.raises(ValueError, match="over"):
        game.step(state, {0: 0, 1: 0})


def test_what_a_seat_sees() -> None:
    game = dilemma()
    turn = game.turns(play(game, (0, 1)))[1]
    assert (turn.seat, turn.round, turn.step, turn.kind, turn.legal) == (1, 1, 0, "choose", (0, 1))
    assert turn.observation.last == (0, 1)
    assert turn.observation.own_first(turn.observation.last) == (1, 0)


@pytest.mark.parametrize("answers", [{0: 0}, {0: 0, 1: 0, 2: 0}, {0: 0, 1: 2}, {0: 0, 1: -1}])
def test_wrong_answers_are_programming_errors(answers: dict[int, Action]) -> None:
    game = dilemma()
    with pytest.raises(ValueError):
        game.step(game.start(0), answers)


ILLEGAL_CASES: list[tuple[str, list[tuple[Action, ...]], tuple[Action, ...], tuple[float, ...]]] = [
    # rule, joint answers, the last round as played, its payoffs
    ("as_defect", [(ILLEGAL, 0)], (1, 0), (5, 0)),
    ("as_defect", [(ILLEGAL, ILLEGAL)], (1, 1), (1, 1)),
    ("carry", [(0, 1), (ILLEGAL, 1)], (0, 1), (0, 5)),
    ("carry", [(0, 1), (ILLEGAL, 1), (1, ILLEGAL), (ILLEGAL, 0)], (1, 0), (5, 0)),
    ("carry", [(ILLEGAL, 1)], (ILLEGAL, 1), (0, 0)),
    ("carry", [(ILLEGAL, 1), (ILLEGAL, 0)], (ILLEGAL, 0), (0, 0)),
    ("carry", [(ILLEGAL, 1), (0, ILLEGAL)], (0, 1), (0, 5)),
    ("zero_all", [(ILLEGAL, 1)], (ILLEGAL, 1), (0, 0)),
    ("end_match", [(0, 0), (1, ILLEGAL)], (1, ILLEGAL), (0, 0)),
]


@pytest.mark.parametrize(("rule", "answers", "played", "payoffs"), ILLEGAL_CASES)
def test_rules_for_illegal_answers(
    rule: str,
    answers: list[tuple[Action, ...]],
    played: tuple[Action, ...],
    payoffs: tuple[float, ...],
) -> None:
    state = play(dilemma(illegal=rule), *answers)
    last = state.history[-1]
    assert (last.intended, last.moves, last.payoffs) == (answers[-1], played, payoffs)
    assert state.over == (rule == "end_match")


def test_as_defect_plays_the_last_of_many_moves() -> None:
    game = make_game({"name": "matrix", "moves": ["a", "b", "c"], "payoffs": [[[1, 1]] * 3] * 3})
    state = game.step(game.start(0), {0: ILLEGAL, 1: 0})
    assert game.history(state)[0].moves == (2, 0)


def test_carry_repeats_the_fictitious_move() -> None:
    game = dilemma(illegal="carry", initial_state="uniform")
    for seed in range(8):
        state = play(game, (ILLEGAL, ILLEGAL), seed=seed)
        assert state.history[0].moves == state.prior
        assert state.history[0].intended == (ILLEGAL, ILLEGAL)


def test_starts_are_uniform_and_shown() -> None:
    game = dilemma(initial_state="uniform")
    drawn = Counter(game.start(seed).prior for seed in range(1200))
    assert set(drawn) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert all(abs(n - 300) < 4 * (300 * 0.75) ** 0.5 for n in drawn.values())
    state = game.start(5)
    assert game.turns(state)[0].observation.last == state.prior
    assert state in [start for _, start in game.initial_distribution(5)]
    after = game.step(state, {0: 0, 1: 0})
    assert game.turns(after)[0].observation.last == (0, 0)
    assert dilemma().start(5).prior is None


actions = st.sampled_from([0, 1, ILLEGAL])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(),
    noise=st.sampled_from([0.0, 0.3, 1.0]),
    illegal=st.sampled_from(["as_defect", "carry", "zero_all", "end_match"]),
    start=st.sampled_from(["none", "uniform"]),
    length=st.sampled_from([{"name": "fixed", "rounds": 3}, {"name": "geometric", "cap": 4}]),
    answers=st.lists(st.tuples(actions, actions), min_size=1, max_size=5),
)
def test_step_is_one_of_the_successors(
    seed: int,
    noise: float,
    illegal: str,
    start: str,
    length: dict[str, Any],
    answers: list[tuple[Action, Action]],
) -> None:
    game = dilemma(noise=noise, illegal=illegal, initial_state=start, length=length)
    state = game.start(seed)
    for joint in answers:
        if state.over:
            break
        moves = dict(enumerate(joint))
        successors = game.successors(state, moves)
        assert sum(p for p, _ in successors) == pytest.approx(1)
        assert all(p > 0 for p, _ in successors)
        assert len({after for _, after in successors}) == len(successors)
        after = game.step(state, moves)
        assert after in [option for _, option in successors]
        assert after == game.step(state, moves)
        assert after.history[-1].intended == joint
        state = after


def test_step_draws_successors_with_their_probabilities() -> None:
    game = make_game(
        {
            "name": "matrix",
            "moves": ["a", "b", "c"],
            "payoffs": [[[i, j] for j in range(3)] for i in range(3)],
            "noise": 0.4,
            "length": {"name": "geometric", "continue_probability": 0.7, "cap": 5},
        }
    )
    n = 4000
    first = game.step(game.start(0), {0: 0, 1: 0})
    assert not first.over  # the second round's chances are looked at

    def key(state: State) -> tuple[Any, ...]:
        return state.history[-1].moves, state.over

    expected = {key(s): p for p, s in game.successors(first, {0: 2, 1: 1})}
    assert len(expected) == 3 * 3 * 2
    drawn: Counter[Any] = Counter()
    for seed in range(n):
        state = State(seed, first.history)
        drawn[key(game.step(state, {0: 2, 1: 1}))] += 1
    chi_square = sum((drawn[k] - n * p) ** 2 / (n * p) for k, p in expected.items())
    assert sum(drawn.values()) == n and set(drawn) <= set(expected)
    assert chi_square < 40.8  # the 0.1 % point with 17 degrees of freedom


def test_certain_noise_always_plays_another_move() -> None:
    state = play(dilemma(noise=1.0), (0, 1), (1, 1))
    assert [played.moves for played in state.history] == [(1, 0), (0, 0)]
    assert [played.intended for played in state.history] == [(0, 1), (1, 1)]


def test_seats_and_rounds_tremble_independently() -> None:
    game = dilemma(noise=0.5, length={"name": "fixed", "rounds": 2})
    patterns = Counter(
        tuple(m for played in play(game, (0, 0), (0, 0), seed=seed).history for m in played.moves)
        for seed in range(1600)
    )
    assert len(patterns) == 16
    assert all(abs(n - 100) < 4.5 * 100**0.5 for n in patterns.values())


def test_a_match_shares_its_chances_whatever_is_played() -> None:
    """Common random numbers: who trembles and when it ends depends on the seed alone."""
    game = dilemma(noise=0.5, length={"name": "geometric", "cap": 6})
    for seed in range(20):
        seen = set()
        for joint in product((0, 1), repeat=2):
            state = game.start(seed)
            while not state.over:
                state = game.step(state, dict(enumerate(joint)))
            seen.add(
                tuple(
                    tuple(a != b for a, b in zip(r.intended, r.moves, strict=True))
                    for r in state.history
                )
            )
        assert len(seen) == 1


def test_matches_as_arrays() -> None:
    game = dilemma(illegal="end_match", length={"name": "fixed", "rounds": 2})
    histories = [play(game, (0, 1), (1, 1)).history, play(game, (ILLEGAL, 0)).history]
    played = PlayedMatches.from_histories(histories, [None, (1, 0)])
    assert played.alive.tolist() == [[True, True], [True, False]]
    assert played.intended.tolist() == [[[0, 1], [1, 1]], [[-1, -1], [0, -1]]]
    assert played.payoffs.tolist() == [[[0, 1], [5, 1]], [[0, 0], [0, 0]]]
    assert played.shown.tolist() == [[[-1, 0], [-1, 1]], [[1, -1], [0, -1]]]
