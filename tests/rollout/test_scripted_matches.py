"""Fast matches of scripted players are the matches that lock-step play plays."""

from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.config.seats import scripted_player
from comity.games import make_game
from comity.games.base import ILLEGAL, Game, Observation, Reply, Round, Turn
from comity.games.randomness import recorded_streams
from comity.players.base import Player
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.players.scripted.player import StrategyPlayer
from comity.players.scripted.state_machines import MACHINES, state_machine
from comity.players.scripted.strategies import MatrixStrategy
from comity.rollout.play import Match, play
from comity.rollout.scripted_matches import play_scripted
from tests.axelrod_twin import axelrod_or_skip

DILEMMA = make_game({"name": "prisoners_dilemma"})


@dataclass(frozen=True)
class Forgetful(MatrixStrategy):
    """A user's strategy: it mixes by what both meant to do two rounds ago."""

    def cooperation(self, observation: Observation, game: Game) -> float:
        before = observation.history[-2:-1]
        return 0.5 if not before else 0.2 + 0.3 * sum(before[0].intended)


class Mute:
    """A user's strategy that makes no move in round 1."""

    kinds = ("choose",)

    def reply(self, turn: Turn, game: Game, rng: np.random.Generator) -> Reply:
        return ILLEGAL if turn.round == 1 else 0


AXELROD = ("axelrod:Gradual", "axelrod:Random", "axelrod:SecondByBlack", "axelrod:EvolvedFSM4",
           "axelrod:BackStabber", "axelrod:Adaptive")  # fmt: skip
OWN: tuple[Any, ...] = (
    *MATRIX_STRATEGIES,
    {"name": "random", "p": 0.3},
    {"name": "generous_tit_for_tat", "generosity": 0.4},
    {"name": "noisy_tit_for_tat", "noise": 0.0},
)


def seated(seat: Any) -> Player:
    return seat if isinstance(seat, StrategyPlayer) else scripted_player(seat)


def same(game: Game, players: tuple[Any, Any], matches: int, run: int = 0) -> None:
    """Both ways of play give the same arrays; matches come in groups of two."""
    pair = (seated(players[0]), seated(players[1]))
    seeds = [1000 * run + m // 2 for m in range(matches)]
    streams = [(run, 0, m) for m in range(matches)]
    slow = play(
        game,
        [
            Match(m, m // 2, seed, pair, stream)
            for m, (seed, stream) in enumerate(zip(seeds, streams, strict=True))
        ],
    ).played
    fast = play_scripted(game, pair, seeds, streams)
    assert fast is not None
    for field in fields(slow):
        ours, theirs = getattr(fast, field.name), getattr(slow, field.name)
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs), field.name


def iterated(name: str, length: dict[str, Any], **rules: Any) -> Game:
    return make_game({"name": name, "length": length, **rules})


games = st.builds(
    iterated,
    st.sampled_from(["prisoners_dilemma", "bach_or_stravinsky", "chicken"]),
    st.one_of(
        st.builds(lambda n: {"name": "fixed", "rounds": n}, st.integers(1, 9)),
        st.builds(
            lambda p, n: {"name": "geometric", "continue_probability": p, "cap": n},
            st.sampled_from([0.0, 0.7, 1.0]),
            st.integers(1, 9),
        ),
    ),
    noise=st.sampled_from([0.0, 0.0, 0.3, 1.0]),
    initial_state=st.sampled_from(["none", "uniform"]),
)


@settings(max_examples=150, deadline=None)
@given(
    games,
    st.tuples(*[st.sampled_from([*OWN, StrategyPlayer("forgetful", Forgetful())])] * 2),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_own_strategies(game: Game, players: tuple[Any, Any], matches: int, run: int) -> None:
    if "generous_tit_for_tat" in players and game.stage != DILEMMA.stage:  # type: ignore[attr-defined]
        return  # It knows its generosity in dilemmas only.
    same(game, players, matches, run)


@settings(max_examples=60, deadline=None)
@given(
    games,
    st.tuples(st.sampled_from(AXELROD), st.sampled_from([*AXELROD, *OWN[:4], "random"])),
    st.booleans(),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_strategies_of_the_package(
    game: Game, players: tuple[Any, Any], swapped: bool, matches: int, run: int
) -> None:
    axelrod_or_skip()
    same(game, players[::-1] if swapped else players, matches, run)


def strategy_of(seat: Any) -> Any:
    return seated(seat).strategy  # type: ignore[attr-defined]


WITH_MACHINE = [seat for seat in OWN if state_machine(strategy_of(seat), DILEMMA) is not None]


def test_every_machine_is_compared() -> None:
    """A strategy need not have one; a machine needs a strategy in `OWN`."""
    assert {type(strategy_of(seat)) for seat in WITH_MACHINE} == set(MACHINES)


@pytest.mark.parametrize("seat", WITH_MACHINE, ids=str)
def test_a_machine_is_its_strategy(seat: Any) -> None:
    """After every history of up to four rounds, with and without a fictitious joint move."""
    strategy = strategy_of(seat)
    machine = state_machine(strategy, DILEMMA)
    assert machine is not None
    joints = list(product((0, 1), repeat=2))
    for prior in (None, *joints):
        for rounds in range(4):
            for history in product(joints, repeat=rounds):
                seen = tuple(Round(one, one, (0.0, 0.0)) for one in history)
                state = machine.start(prior)
                for own, other in history:
                    state = machine.successors[state][2 * own + other]
                known = Observation(0, 2, rounds, seen, prior)
                assert machine.cooperation[state] == strategy.cooperation(known, DILEMMA)


def test_machines_are_of_strategies() -> None:
    assert set(MACHINES) <= set(MATRIX_STRATEGIES.values())


def test_a_subclass_is_not_played_by_its_parents_machine() -> None:
    class Contrary(MATRIX_STRATEGIES["always_cooperate"]):  # type: ignore[misc]
        def cooperation(self, observation: Observation, game: Game) -> float:
            return 0.0

    assert state_machine(Contrary(), DILEMMA) is None
    same(DILEMMA, (StrategyPlayer("contrary", Contrary()), "tit_for_tat"), 2)


def test_deterministic_matches_draw_nothing_and_are_played_once() -> None:
    pair = (seated("tit_for_tat"), seated("grim_trigger"))
    with recorded_streams() as streams:
        found = play_scripted(DILEMMA, pair, [1, 2, 3], [(0, 0, m) for m in range(3)])
    assert not streams
    assert found is not None and found.moves.shape == (3, 2, 10)
    with recorded_streams() as streams:
        play_scripted(DILEMMA, (seated("random"), pair[1]), [1, 2], [(0, 0, 0), (0, 0, 1)])
    assert len(streams) == 2 * 10, "one draw for every move of the one that mixes"


@pytest.mark.parametrize(
    "game",
    [
        {"name": "random_dilemma"},
        {"name": "public_goods", "seats": 3},
        {"name": "trust_and_split_rps"},
    ],
    ids=str,
)
def test_other_games_are_left_to_lock_step_play(game: dict[str, Any]) -> None:
    made = make_game(game)
    players = (seated("tit_for_tat"),) * made.seats
    assert play_scripted(made, players, [0], [(0, 0, 0)]) is None


def test_other_players_are_left_to_lock_step_play() -> None:
    class Person(StrategyPlayer):
        pass

    pair = (seated("tit_for_tat"), Person("me", MATRIX_STRATEGIES["tit_for_tat"]()))
    assert play_scripted(DILEMMA, pair, [0], [(0, 0, 0)]) is None
    mute = StrategyPlayer("mute", Mute())
    assert play_scripted(DILEMMA, (mute, mute), [0], [(0, 0, 0)]) is None
