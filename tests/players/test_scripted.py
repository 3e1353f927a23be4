"""Scripted players: truth tables and conventions."""

import re
from itertools import product

import numpy as np
import pytest

from comity.errors import ComityError
from comity.games import make_game
from comity.games.base import ILLEGAL, Action, Observation, Round
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.players.scripted.strategies import (
    Alternator,
    GenerousTitForTat,
    GrimTrigger,
    MatrixStrategy,
    Random,
    SuspiciousTitForTat,
    TitForTat,
    TitForTwoTats,
    WinStayLoseShift,
    deterring_generosity,
)
from comity.registry import build, sentences

DILEMMA = make_game({"name": "prisoners_dilemma"})
C, D = 0, 1


def seen(
    *joint: tuple[Action, ...], seat: int = 0, prior: tuple[int, ...] | None = None, seats: int = 2
) -> Observation:
    """What a seat knows after these joint moves."""
    history = tuple(Round(moves, moves, (0.0,) * seats) for moves in joint)
    return Observation(seat, seats, len(history), history, prior)


# P(C) at the start and after CC, CD, DC, DD (own move first)
TRUTH: dict[str, tuple[float, float, float, float, float]] = {
    "always_cooperate": (1, 1, 1, 1, 1),
    "always_defect": (0, 0, 0, 0, 0),
    "tit_for_tat": (1, 1, 0, 1, 0),
    "noisy_tit_for_tat": (0.95, 0.95, 0.05, 0.95, 0.05),
    "suspicious_tit_for_tat": (0, 1, 0, 1, 0),
    "generous_tit_for_tat": (1, 1, 1 / 3, 1, 1 / 3),
    "tit_for_two_tats": (1, 1, 1, 1, 1),
    "grim_trigger": (1, 1, 0, 1, 0),
    "win_stay_lose_shift": (1, 1, 0, 0, 1),
    "random": (0.5, 0.5, 0.5, 0.5, 0.5),
    "alternator": (1, 0, 0, 0, 0),
}


COUNT_ROUNDS = {"alternator"}
"""Strategies that count rounds rather than moves, so that a fictitious move is none of them."""


@pytest.mark.parametrize("name", MATRIX_STRATEGIES)
def test_truth_table_of_the_first_two_rounds(name: str) -> None:
    assert name in TRUTH, f"give {name} a row in TRUTH"
    player = MATRIX_STRATEGIES[name]()
    situations = [seen(), *(seen(joint) for joint in product((C, D), repeat=2))]
    table = [player.probabilities(situation, DILEMMA)[0] for situation in situations]
    assert table == pytest.approx(TRUTH[name])
    mirrored = [seen(), *(seen(joint[::-1], seat=1) for joint in product((C, D), repeat=2))]
    assert [player.cooperation(situation, DILEMMA) for situation in mirrored] == table


@pytest.mark.parametrize(
    ("player", "others", "table"),
    [
        # P(C) after the other's moves (oldest first), own moves all C
        (TitForTwoTats(), "CD", 1),
        (TitForTwoTats(), "DC", 1),
        (TitForTwoTats(), "DD", 0),
        (TitForTwoTats(), "DDC", 1),
        (TitForTwoTats(), "CDD", 0),
        (GrimTrigger(), "DCCC", 0),
        (GrimTrigger(), "CCCC", 1),
        (TitForTat(), "DDC", 1),
        (Alternator(), "CC", 1),
        (Alternator(), "CCC", 0),
    ],
)
def test_longer_memories(player: MatrixStrategy, others: str, table: float) -> None:
    situation = seen(*((C, "CD".index(move)) for move in others))
    assert player.cooperation(situation, DILEMMA) == table


@pytest.mark.parametrize("name", MATRIX_STRATEGIES)
def test_a_fictitious_joint_move_counts_as_the_last_round(name: str) -> None:
    player = MATRIX_STRATEGIES[name]()
    if name in COUNT_ROUNDS:
        first = player.cooperation(seen(), DILEMMA)
        assert player.cooperation(seen(prior=(C, C)), DILEMMA) == first
        return
    for joint in product((C, D), repeat=2):
        assert player.cooperation(seen(prior=joint), DILEMMA) == player.cooperation(
            seen(joint), DILEMMA
        )
        for last in product((C, D), repeat=2):
            assert player.cooperation(seen(last, prior=joint), DILEMMA) == player.cooperation(
                seen(joint, last), DILEMMA
            )


def test_no_move_is_not_cooperation() -> None:
    assert TitForTat().cooperation(seen((C, ILLEGAL)), DILEMMA) == 0
    assert SuspiciousTitForTat().cooperation(seen((C, ILLEGAL)), DILEMMA) == 0
    assert GrimTrigger().cooperation(seen((C, ILLEGAL), (C, C)), DILEMMA) == 0
    assert TitForTwoTats().cooperation(seen((C, ILLEGAL), (C, D)), DILEMMA) == 0
    assert WinStayLoseShift().cooperation(seen((ILLEGAL, ILLEGAL)), DILEMMA) == 1
    assert WinStayLoseShift().cooperation(seen((ILLEGAL, C)), DILEMMA) == 0


def test_with_more_seats_the_others_cooperate_when_all_do() -> None:
    game = make_game({"name": "public_goods", "seats": 3})
    one_defects, all_others_cooperate = seen((C, C, D), seats=3), seen((D, C, C), seats=3)
    assert TitForTat().cooperation(one_defects, game) == 0
    assert TitForTat().cooperation(all_others_cooperate, game) == 1
    assert WinStayLoseShift().cooperation(one_defects, game) == 0
    assert WinStayLoseShift().cooperation(all_others_cooperate, game) == 0
    assert TitForTat().cooperation(seen((C, C, D), seats=3, seat=2), game) == 1


def test_played_moves_count_and_not_intended_ones() -> None:
    trembled = Observation(0, 2, 1, (Round((C, C), (C, D), (0.0, 5.0)),))
    assert TitForTat().cooperation(trembled, DILEMMA) == 0


@pytest.mark.parametrize(
    ("name", "generosity"),
    [("prisoners_dilemma", 1 / 3), ("prisoners_dilemma_4310", 2 / 3)],
)
def test_generosity_follows_from_the_payoffs(name: str, generosity: float) -> None:
    game = make_game({"name": name})
    assert deterring_generosity(game) == pytest.approx(generosity)
    assert GenerousTitForTat(0.1).cooperation(seen((C, D)), game) == 0.1


@pytest.mark.parametrize("name", ["stag_hunt", "bach_or_stravinsky", "public_goods"])
def test_generosity_must_be_given_where_it_does_not_follow(name: str) -> None:
    game = make_game({"name": name})
    situation = seen((C, D)) if game.seats == 2 else seen((C, D, D, D), seats=4)
    with pytest.raises(ComityError, match="give generosity"):
        GenerousTitForTat().cooperation(situation, game)
    assert GenerousTitForTat(0.25).cooperation(situation, game) == 0.25


@pytest.mark.parametrize("name", MATRIX_STRATEGIES)
def test_games_of_more_moves_are_refused(name: str) -> None:
    game = make_game({"name": "matrix", "moves": ["a", "b", "c"], "payoffs": [[[0, 0]] * 3] * 3})
    with pytest.raises(ComityError, match="2 moves, not 3: a, b, c"):
        MATRIX_STRATEGIES[name]().choose(seen(), game, np.random.default_rng(0))


def test_choose_draws_from_the_probabilities() -> None:
    rng = np.random.default_rng(1)
    moves = [Random(0.2).choose(seen(), DILEMMA, rng) for _ in range(2000)]
    assert moves.count(C) == pytest.approx(400, abs=4 * (2000 * 0.16) ** 0.5)
    before = rng.bit_generator.state
    assert TitForTat().choose(seen((C, D)), DILEMMA, rng) == D
    assert Random(1.0).choose(seen(), DILEMMA, rng) == C
    assert Random(0.0).choose(seen(), DILEMMA, rng) == D
    assert rng.bit_generator.state == before


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"name": "random", "p": 1.5}, "p must lie between 0 and 1"),
        ({"name": "random", "p": float("nan")}, "p must be finite"),
        ({"name": "generous_tit_for_tat", "generosity": -0.1}, "generosity must lie"),
        ({"name": "tit_for_tat", "p": 0.5}, "unknown parameter 'p'"),
        ("tit_for_tatt", "did you mean tit_for_tat"),
    ],
)
def test_wrong_players_are_refused(config: object, complaint: str) -> None:
    with pytest.raises(ComityError, match=complaint):
        build("player", config, MATRIX_STRATEGIES)


def test_every_player_has_a_sentence_with_its_source() -> None:
    for sentence in sentences(MATRIX_STRATEGIES).values():
        assert sentence.endswith(".")
        assert re.search(r"\b\d{4}\b", sentence), f"name the source with its year: {sentence}"
