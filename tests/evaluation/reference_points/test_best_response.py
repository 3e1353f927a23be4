"""Best responses: values by hand, enumeration of all policies, and two programs that agree."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.evaluation.reference_points.best_response import FULL, MERGED, best_response
from comity.evaluation.reference_points.strategy_memory import MEMORY
from comity.games import make_game
from comity.games.base import Game, Observation
from comity.games.enumerate import expected_payoffs
from comity.games.matrix.iterated import Iterated
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.players.scripted.strategies import (
    AlwaysCooperate,
    AlwaysDefect,
    GrimTrigger,
    MatrixStrategy,
    Random,
    TitForTat,
    TitForTwoTats,
    WinStayLoseShift,
)


def dilemma(rounds: int, **keys: object) -> Iterated:
    length = {"name": "fixed", "rounds": rounds}
    return make_game({"name": "prisoners_dilemma", "length": length, **keys})  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("strategy", "total", "moves"),
    [
        # Cooperation until the last round, then 5.
        (TitForTat(), 9 * 3 + 5, (0,) * 9 + (1,)),
        (GrimTrigger(), 9 * 3 + 5, (0,) * 9 + (1,)),
        (AlwaysCooperate(), 50, (1,) * 10),
        (AlwaysDefect(), 10, (1,) * 10),
        # After D against C it defects once more, after DD it cooperates again: 5 + 1 for two
        # rounds equals cooperating twice.
        (WinStayLoseShift(), 9 * 3 + 5, None),
        # D, C in turn is never punished: 5 + 3; D in the last two rounds.
        (TitForTwoTats(), 4 * 8 + 5 + 5, None),
        (Random(0.3), 10 * (0.3 * 5 + 0.7), (1,) * 10),
    ],
)
def test_ten_rounds_by_hand(
    strategy: MatrixStrategy, total: float, moves: tuple[int, ...] | None
) -> None:
    found = best_response(dilemma(10), strategy)
    assert found.total == pytest.approx(total) and found.value == pytest.approx(total / 10)
    assert found.exact and found.method == MERGED
    if moves is not None:
        assert found.first_moves == moves
    assert found.gap(found.value - 1) == pytest.approx(1)


def every_policy(game: Iterated, strategy: MatrixStrategy, seat: int) -> float:
    """The largest payoff of all deterministic policies, each enumerated (few rounds only)."""
    histories: list[tuple] = [
        joint
        for rounds in range(game.length.longest)
        for joint in product(product((0, 1), repeat=2), repeat=rounds)
    ]
    best = -np.inf
    for moves in product((0, 1), repeat=len(histories)):
        table = dict(zip(histories, moves, strict=True))

        def own(known: Observation, table: dict = table) -> list[float]:
            move = table[tuple(played.moves for played in known.history)]
            return [float(move == 0), float(move == 1)]

        def other(known: Observation) -> tuple[float, float]:
            return strategy.probabilities(known, game)

        policies = [own, other] if seat == 0 else [other, own]
        best = max(best, float(expected_payoffs(game, policies)[seat]))
    return best


@pytest.mark.parametrize("name", MATRIX_STRATEGIES)
@pytest.mark.parametrize("seat", [0, 1])
def test_no_policy_of_two_rounds_earns_more(name: str, seat: int) -> None:
    game, strategy = dilemma(2, noise=0.1), MATRIX_STRATEGIES[name]()
    for merge in (True, False):
        found = best_response(game, strategy, seat, merge)
        assert found.total == pytest.approx(every_policy(game, strategy, seat))


GAMES = {
    "plain": {"name": "prisoners_dilemma", "length": {"name": "fixed", "rounds": 6}},
    "trembles": {
        "name": "prisoners_dilemma", "length": {"name": "fixed", "rounds": 4}, "noise": 0.15,
    },
    "random length and prior": {
        "name": "prisoners_dilemma",
        "length": {"name": "geometric", "continue_probability": 0.7, "cap": 4},
        "initial_state": "uniform",
    },
    "another illegal rule": {
        "name": "prisoners_dilemma", "length": {"name": "fixed", "rounds": 5},
        "illegal": "zero_all",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MATRIX_STRATEGIES)
@pytest.mark.parametrize("rules", GAMES)
def test_merged_and_full_histories_agree_and_the_policy_earns_its_value(
    name: str, rules: str
) -> None:
    """Every entry of the table of memories, in every kind of game, in both seats."""
    game, strategy = make_game(GAMES[rules]), MATRIX_STRATEGIES[name]()
    assert isinstance(game, Iterated)

    def other(known: Observation) -> tuple[float, float]:
        return strategy.probabilities(known, game)

    for seat in (0, 1):
        full = best_response(game, strategy, seat, merge=False)
        merged = best_response(game, strategy, seat)
        assert (full.method, merged.method) == (FULL, MERGED)
        assert merged.states <= full.states
        assert merged.total == pytest.approx(full.total)
        assert merged.first_moves == full.first_moves
        for found in (full, merged):
            policies = [found.policy, other] if seat == 0 else [other, found.policy]
            assert expected_payoffs(game, policies)[seat] == pytest.approx(found.total)


def test_all_scripted_strategies_have_a_memory() -> None:
    assert set(MEMORY) == set(MATRIX_STRATEGIES.values())


def test_a_wrong_memory_would_be_seen() -> None:
    """Fault injection: one that forgets the defection that it should never forget."""

    class Forgetful(GrimTrigger):
        """Grim trigger that declares too little."""

        def memory(self, observation: Observation) -> object:
            """Whether the last round was cooperative: not enough."""
            return tuple(played.moves for played in observation.history[-1:])

    game = make_game({"name": "chicken", "length": {"name": "fixed", "rounds": 5}})
    assert isinstance(game, Iterated)
    right = best_response(game, GrimTrigger(), merge=False).total
    assert best_response(game, GrimTrigger()).total == pytest.approx(right)
    strange = dilemma(5, noise=0.2)
    assert best_response(strange, Forgetful()).total != pytest.approx(
        best_response(strange, Forgetful(), merge=False).total
    )


def test_a_long_match_has_few_merged_states() -> None:
    found = best_response(dilemma(200), TitForTat())
    assert found.total == pytest.approx(199 * 3 + 5)
    assert found.states < 2 * 200


@settings(max_examples=20)
@given(
    st.lists(st.integers(-5, 5), min_size=8, max_size=8),
    st.sampled_from(["tit_for_tat", "win_stay_lose_shift", "grim_trigger"]),
)
def test_any_table_of_payoffs(numbers: list[int], name: str) -> None:
    cells = [[numbers[0:2], numbers[2:4]], [numbers[4:6], numbers[6:8]]]
    game = make_game(
        {"name": "matrix", "moves": ["left", "right"], "payoffs": cells,
         "length": {"name": "fixed", "rounds": 4}}
    )  # fmt: skip
    assert isinstance(game, Iterated)
    strategy = MATRIX_STRATEGIES[name]()
    for seat in (0, 1):
        merged = best_response(game, strategy, seat).total
        assert merged == pytest.approx(best_response(game, strategy, seat, merge=False).total)


class Gradual(MatrixStrategy):
    """Defects if the others defected in more than half of the rounds: no declared memory."""

    def cooperation(self, observation: Observation, game: Game) -> float:
        """By counting."""
        defections = sum(r.moves[1 - observation.seat] == 1 for r in observation.history)
        return float(2 * defections <= len(observation.history))


def test_strategies_without_a_memory_are_solved_over_full_histories_up_to_a_bound() -> None:
    found = best_response(dilemma(6), Gradual())
    assert found.method == FULL and found.value > 3
    with pytest.raises(ComityError, match="memory"):
        best_response(dilemma(30), Gradual(), max_states=1000)
    with pytest.raises(ComityError, match="declares its memory"):
        best_response(dilemma(3), Gradual(), merge=True)

    class Counting(Gradual):
        """The same with its memory."""

        def memory(self, observation: Observation) -> object:
            """The number of defections."""
            return sum(r.moves[1 - observation.seat] == 1 for r in observation.history)

    assert best_response(dilemma(6), Counting()).total == pytest.approx(found.total)
    assert best_response(dilemma(40), Counting()).method == MERGED


def test_three_seats() -> None:
    """Public goods with two grim triggers: contributing until the last round."""
    game = make_game({"name": "public_goods", "seats": 3, "length": {"name": "fixed", "rounds": 4}})
    assert isinstance(game, Iterated)
    found = best_response(game, {1: GrimTrigger(), 2: GrimTrigger()})
    assert found.first_moves == (0, 0, 0, 1)
    assert found.total == pytest.approx(3 * 16 + 10 + 20 * 1.6 / 3)
    full = best_response(game, {1: GrimTrigger(), 2: GrimTrigger()}, merge=False)
    assert full.total == pytest.approx(found.total)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ComityError, match="each seat but 0"):
        best_response(dilemma(2), {0: TitForTat()})
    with pytest.raises(ComityError, match="sample_instance"):
        best_response(make_game({"name": "random_dilemma"}), TitForTat())  # type: ignore[arg-type]
    with pytest.raises(ComityError, match="how likely"):
        best_response(dilemma(2), object())
    with pytest.raises(ComityError, match="seats 0 to 1"):
        best_response(dilemma(2), TitForTat(), seat=2)
    with pytest.raises(ComityError, match="iterated game"):
        best_response(make_game({"name": "split_no_talk"}), TitForTat())  # type: ignore[arg-type]
    assert best_response(dilemma(10), TitForTat()).value == pytest.approx(3.2)
