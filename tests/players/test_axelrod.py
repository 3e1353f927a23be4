"""Scripted players play the same matches as their twins in the axelrod library.

The library sorts all its strategies when it is imported, which takes 3 to 10 seconds; so it
is imported by the first test that needs it and not when tests are collected.
"""

import inspect
from types import ModuleType

import numpy as np
import pytest

from comity.games import make_game
from comity.games.base import Action, Game, Observation, Round
from comity.players.scripted.axelrod_package import package
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.players.scripted.strategies import MatrixStrategy, deterring_generosity
from tests.axelrod_twin import axelrod_or_skip

DILEMMA = make_game({"name": "prisoners_dilemma"})

TWINS = {
    "always_cooperate": "Cooperator",
    "always_defect": "Defector",
    "tit_for_tat": "TitForTat",
    "suspicious_tit_for_tat": "SuspiciousTitForTat",
    "tit_for_two_tats": "TitFor2Tats",
    "grim_trigger": "Grudger",
    "win_stay_lose_shift": "WinStayLoseShift",
    "alternator": "Alternator",
}


@pytest.fixture(scope="module")
def axelrod() -> ModuleType:
    return axelrod_or_skip()


def our_match(
    game: Game, players: tuple[MatrixStrategy, MatrixStrategy]
) -> list[tuple[Action, ...]]:
    state = game.start(0)
    rng = np.random.default_rng(0)
    while turns := game.turns(state):
        state = game.step(
            state, {t.seat: players[t.seat].choose(t.observation, game, rng) for t in turns}
        )
    return [played.moves for played in game.history(state)]


@pytest.mark.parametrize("row", TWINS)
@pytest.mark.parametrize("column", TWINS)
def test_matches_are_the_same(axelrod: ModuleType, row: str, column: str) -> None:
    players = [getattr(axelrod, TWINS[name])() for name in (row, column)]
    joints = axelrod.Match(players, turns=10).play()
    theirs = [tuple(int(action == axelrod.Action.D) for action in joint) for joint in joints]
    assert our_match(DILEMMA, (MATRIX_STRATEGIES[row](), MATRIX_STRATEGIES[column]())) == theirs


@pytest.mark.parametrize("name", TWINS)
def test_answers_to_a_fixed_sequence_are_the_same(axelrod: ModuleType, name: str) -> None:
    sequence = "CDDCCDCDDDCCCDDC"
    players = (getattr(axelrod, TWINS[name])(), axelrod.Cycler(cycle=sequence))
    joints = axelrod.Match(players, turns=len(sequence)).play()
    rounds: list[Round] = []
    ours = []
    for other in sequence:
        observation = Observation(0, 2, len(rounds), tuple(rounds))
        move = MATRIX_STRATEGIES[name]().choose(observation, DILEMMA, np.random.default_rng(0))
        joint = (move, "CD".index(other))
        rounds.append(Round(joint, joint, (0.0, 0.0)))
        ours.append(move)
    assert ours == [int(joint[0] == axelrod.Action.D) for joint in joints]


def test_generosity_is_the_same(axelrod: ModuleType) -> None:
    theirs = axelrod.GTFT()
    axelrod.Match((theirs, axelrod.Cooperator()), turns=1).play()
    assert theirs.p == pytest.approx(deterring_generosity(DILEMMA))


def test_importing_the_package_leaves_inspect_as_it_was() -> None:
    original = inspect.getsource
    package.__wrapped__()
    assert inspect.getsource is original
    assert "def package" in inspect.getsource(package)
