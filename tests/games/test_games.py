"""The dictionary of games, and how a config becomes one."""

import pytest

from comity.errors import ComityError
from comity.games import GAMES, make_game
from comity.games.base import Game, Reply, Turn
from comity.games.lengths import Fixed, Geometric
from comity.games.matrix.iterated import Iterated
from comity.games.split.state import SplitObservation
from comity.registry import sentences

OWN_TABLE = {"moves": ["a", "b"], "payoffs": [[[1, 1], [0, 0]], [[0, 0], [1, 1]]]}


def reply(turn: Turn) -> Reply:
    """A legal answer to a turn of any kind."""
    if turn.kind == "claim":
        assert isinstance(turn.observation, SplitObservation)
        return turn.observation.instance.stock
    return "Hello." if turn.kind == "message" else turn.legal[0]


@pytest.mark.parametrize("name", GAMES)
def test_every_game_is_a_game_and_has_a_sentence(name: str) -> None:
    parameters = OWN_TABLE if name == "matrix" else {}
    game = make_game({"name": name, "length": {"name": "fixed", "rounds": 3}, **parameters})
    assert isinstance(game, Game)
    state = game.start(0)
    for _ in range(3):
        turns = game.turns(state)
        number = turns[0].round
        if turns[0].kind == "choose":
            assert [turn.seat for turn in turns] == list(range(game.seats))
        while turns and turns[0].round == number:
            state = game.step(state, {turn.seat: reply(turn) for turn in turns})
            turns = game.turns(state)
    assert game.turns(state) == () and len(game.history(state)) == 3
    sentence = sentences(GAMES)[name]
    assert sentence.endswith(".") and len(sentence) <= 100


def test_parameters_reach_the_game() -> None:
    game = make_game(
        {
            "name": "chicken",
            "length": {"name": "geometric", "continue_probability": 0.5, "cap": 4},
            "noise": 0.25,
            "illegal": "carry",
            "initial_state": "uniform",
        }
    )
    assert isinstance(game, Iterated)
    assert game.length == Geometric(0.5, 4)
    assert (game.noise, game.illegal, game.initial_state) == (0.25, "carry", "uniform")
    default = make_game({"name": "chicken"})
    assert isinstance(default, Iterated) and default.length == Fixed(10)
    assert GAMES["chicken"](length=Fixed(2)).start(0) == default.start(0)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"name": "prisoners_dilema"}, "did you mean prisoners_dilemma"),
        ({}, "game needs a name"),
        (
            {"name": "chicken", "ilegal": "carry"},
            "unknown parameter 'ilegal'; did you mean illegal",
        ),
        ({"name": "chicken", "illegal": "as_cooperate"}, "known: as_defect, carry"),
        (
            {"name": "chicken", "initial_state": "random"},
            "unknown initial_state 'random'; known: none, uniform",
        ),
        ({"name": "chicken", "noise": 1.5}, "noise must lie between 0 and 1"),
        ({"name": "chicken", "noise": float("nan")}, "noise must be finite"),
        ({"name": "chicken", "noise": "much"}, "noise must be a number, not 'much'"),
        ({"name": "chicken", "length": {"name": "forever"}}, "unknown length 'forever'"),
        ({"name": "chicken", "length": {"name": "fixed", "rounds": 0}}, "rounds must be at least"),
        ({"name": "chicken", "length": {"name": "fixed", "rounds": 2.5}}, "a whole number"),
        ({"name": "chicken", "length": 10}, "length must be"),
        (
            {"name": "chicken", "length": {"name": "geometric", "continue_probability": 1.1}},
            "continue_probability must lie",
        ),
        ({"name": "chicken", "length": {"name": "geometric", "cap": 0}}, "cap must be at least"),
        ({"name": "matrix"}, "missing moves, payoffs"),
    ],
)
def test_wrong_configs_are_refused(config: dict[str, object], complaint: str) -> None:
    with pytest.raises(ComityError) as caught:
        make_game(config)
    assert complaint in str(caught.value)
