"""Records and statistics of rounds whose talk was ended, by a claim or by a message too many."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comity.evaluation.metrics import iteration_metrics, rate
from comity.evaluation.negotiation.outcomes import negotiation_outcomes
from comity.evaluation.negotiation.statistics import STATISTICS, applicable, measure
from comity.games.base import ILLEGAL, Game, Reply, Turn
from comity.games.lengths import Fixed
from comity.games.split.game import Split
from comity.players.scripted.player import StrategyPlayer
from comity.prompts.answers import PARSE_STATUSES
from comity.rollout.play import Match, play
from comity.rollout.record_files import decision_table, read_decisions, write_table
from comity.rollout.recording import kind_of, settles_round
from comity.rollout.records import Decision
from tests.games.test_split import split


@dataclass(frozen=True)
class Saying:
    """Gives these replies one after the other, whatever is asked."""

    replies: Iterator[Reply]
    kinds: tuple[str, ...] = ("message", "talk", "claim", "respond")

    def reply(self, turn: Turn, game: Game, rng: np.random.Generator) -> Reply:
        return next(self.replies)


def played(game: Split, *replies: tuple[Reply, ...]) -> list[Decision]:
    """Decisions of a match in which each seat gives its replies."""
    players = tuple(StrategyPlayer(f"p{i}", Saying(iter(r))) for i, r in enumerate(replies))
    return play(game, [Match(0, 0, 0, players, (0, 0, 0))]).decisions


def value(name: str, decisions: list[Decision], **who: Any) -> float | None:
    return rate(measure(name, exact_claims=True, **who)(decisions))


RULES = {"payment": "exact", "messages": 2, "least_messages": 0, "finalization": "in_turn"}
GAME = split((2, 3), ((3.0, 1.0), (1.0, 2.0)), **RULES, length=Fixed(3))
# Round 0: a message each, then seat 0 claims and the claims fit: 6 and 6 points of 12.
# Round 1: two messages each, and seat 0 writes a third.
# Round 2: an illegal answer, a message; seat 0 claims everything, seat 1 illegally: 9 and 0.
BY_HAND = played(
    GAME,
    ("hello", (2, 0), "a", "b", "c", ILLEGAL, (2, 3)),
    ("hi", (0, 3), "d", "e", "f", ILLEGAL),
)


def by_round(number: int) -> list[Decision]:
    return [d for d in BY_HAND if d.round == number]


def test_an_answer_in_talk_is_recorded_as_what_it_was() -> None:
    first = [(d.seat, d.step, d.kind, d.move, d.move_name, d.message_as_read) for d in by_round(0)]
    assert first == [
        (0, 0, "message", 0, "message", "hello"),
        (1, 1, "message", 0, "message", "hi"),
        (0, 2, "claim", 0, "2 0", ""),
        (1, 3, "claim", 0, "0 3", ""),
    ]
    assert [d.payoff for d in by_round(0)] == [0, 0, 6, 6]
    assert [d.stock for d in by_round(0)] == [[], [], [2, 3], [2, 3]]
    assert [kind_of("talk", reply) for reply in ("", (1, 2), ILLEGAL)] == [
        *("message", "claim", "message")
    ]


def test_a_message_too_many_is_recorded_as_such() -> None:
    *talk, last = by_round(1)
    assert [(d.seat, d.kind, d.message_as_read) for d in talk] == [
        *((0, "message", "a"), (1, "message", "d"), (0, "message", "b"), (1, "message", "e"))
    ]
    assert (last.seat, last.kind, last.move, last.move_name) == (0, "claim", -1, "illegal")
    assert (last.parse_status, last.text, last.message_as_read) == ("exceeded", "c", "")
    assert last.parse_status in PARSE_STATUSES and not any(d.parse_status for d in talk)
    assert (last.claim, last.allocation, last.payoff, last.played) == ([], [0, 0], 0, -1)
    # Seat 1 could not claim: its last message stands for it.
    assert [settles_round(d) for d in by_round(1)] == [False, False, False, True, True]
    assert (talk[3].stock, talk[3].values, talk[3].allocation) == ([2, 3], [1, 2], [0, 0])
    assert (talk[3].claim, talk[3].max_welfare, talk[3].move) == ([], 12, 0)


def test_illegal_answers_of_talk_and_of_claims() -> None:
    assert [(d.seat, d.kind, d.move, d.message_as_read, d.parse_status) for d in by_round(2)] == [
        (0, "message", -1, "", ""),
        (1, "message", 0, "f", ""),
        (0, "claim", 0, "", ""),
        (1, "claim", -1, "", ""),
    ]


EXPECTED = {
    "messages": (2 + 4 + 2) / 6,
    "exceeded": 1 / 3,
    "payoff": (12 + 0 + 9) / 6,
    "agreement": 1 / 3,  # an illegal claim is no agreement
    "points_on_agreement": 6.0,
    "efficiency": (12 / 12 + 0 + 9 / 12) / 3,
    "illegal_messages": 1 / 8,
    "empty_messages": 1 / 8,
    "illegal_claims": 1 / 5,  # a message too many is counted by itself
    "stock_claimed": (2 + 3 + 5) / 15,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_three_rounds_by_hand(name: str) -> None:
    assert value(name, BY_HAND) == pytest.approx(EXPECTED[name])


def test_numbers_of_one_seat_and_of_an_iteration() -> None:
    assert value("messages", BY_HAND, seat=1) == 4 / 3
    assert value("exceeded", BY_HAND, seat=1) == 1 / 3, "it is about the round"
    assert set(applicable(negotiation_outcomes(BY_HAND, exact_claims=True))) == set(STATISTICS)
    found = iteration_metrics(BY_HAND, exact_claims=True)
    assert found["negotiation"]["seat_0"]["messages"] == 4 / 3
    plain = played(split((2,), ((1.0,), (1.0,)), messages=1), ("a", (1,)), ("b", (1,)))
    assert value("exceeded", plain) == 0


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    write_table(tmp_path / "d.parquet", decision_table(BY_HAND))
    again = read_decisions(tmp_path / "d.parquet")
    assert [value(name, again) for name in EXPECTED] == [value(n, BY_HAND) for n in EXPECTED]
