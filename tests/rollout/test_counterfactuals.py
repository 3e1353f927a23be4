"""Alternatives to decisions: what is held, what is drawn anew, and what comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from comity.games.base import Game, PlayedMatches
from comity.games.matrix.tables import prisoners_dilemma
from comity.players.base import Controller, PlayerSession, Request, Response, Transcript
from comity.rollout.counterfactuals import counterfactual_returns
from comity.rollout.play import Match, play

ROUNDS, DISCOUNT, P = 4, 0.9, 0.3


@dataclass(frozen=True)
class Coin:
    """Cooperates with probability `p`, and says who asked."""

    name: str
    p: float
    asked: list[tuple[int, tuple[int | str, ...], int, int]]
    trained: bool = True
    adapter: None = None
    version: int = -1
    controller: Controller = "live"

    def __hash__(self) -> int:
        return id(self)

    @property
    def backend(self) -> "Coin":
        return self

    def open(self) -> PlayerSession:
        return _Coins(self)

    def text(self, ids: Sequence[int]) -> str:
        return ""


class _Coins:
    def __init__(self, coin: Coin) -> None:
        self.transcripts: list[Transcript] = []
        self.recording = None
        self.coin = coin
        self.forks: list[tuple[int, int, dict[int, int]]] = []

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        found = []
        for request in requests:
            self.coin.asked.append(
                (request.match, request.stream, request.turn.seat, request.turn.round)
            )
            move = 0 if request.rng().random() < self.coin.p else 1
            found.append(Response(move, request.game.moves[move]))
        return found

    def finish(self) -> dict[int, Response]:
        return {}

    def fork(self, source: int, target: int, answers: Mapping[int, int]) -> None:
        self.forks.append((source, target, dict(answers)))


def game() -> Game:
    return prisoners_dilemma(length={"name": "fixed", "rounds": ROUNDS})


def matches(players: tuple[Coin, Coin], count: int = 3) -> list[Match]:
    return [Match(n, n, 100 + n, players, (7, 0, n)) for n in range(count)]


def payoffs(played: PlayedMatches) -> np.ndarray:
    return played.payoffs


def stage(own: float, other: float) -> float:
    """Expected payoff in 5/3/1/0 of cooperating with these probabilities."""
    return 3 * own * other + 5 * (1 - own) * other + 1 * (1 - own) * (1 - other)


def test_the_mean_of_many_alternatives_is_the_closed_form() -> None:
    players = (Coin("a", P, []), Coin("b", 0.6, []))
    rollout = play(game(), matches(players), keep=True)
    assert rollout.runner is not None
    found = counterfactual_returns(rollout.runner, payoffs, DISCOUNT, alternatives=400)
    assert found.shape == (3, 2, ROUNDS)
    moves = rollout.played.moves
    for m in range(3):
        for seat in range(2):
            for t in range(ROUNDS):
                # The other's answer of this round is held, everything later is drawn anew.
                held = float(moves[m, 1 - seat, t] == 0)
                own, other = players[seat].p, players[1 - seat].p
                later = sum(DISCOUNT**k * stage(own, other) for k in range(1, ROUNDS - t))
                assert found[m, seat, t] == pytest.approx(stage(own, held) + later, abs=0.5)


def test_depth_breaks_the_alternatives_off() -> None:
    players = (Coin("a", P, []), Coin("b", 1.0, []))
    rollout = play(game(), matches(players, 1), keep=True)
    assert rollout.runner is not None
    players[1].asked.clear()
    found = counterfactual_returns(rollout.runner, payoffs, 1.0, alternatives=300, depth=1)
    for t in range(ROUNDS):
        rounds = min(2, ROUNDS - t)
        assert found[0, 0, t] == pytest.approx(rounds * stage(P, 1.0), abs=0.4)
    # The other seat is asked in the rounds after the one that is held, and no further.
    asked = {(stream, t) for _, stream, _, t in players[1].asked if stream[4:6] == (0, 0)}
    assert {t for _, t in asked} == {1}


def test_the_match_itself_is_not_touched() -> None:
    players = (Coin("a", P, []), Coin("b", 0.6, []))
    plain = play(game(), matches(players))
    kept = play(game(), matches(players), keep=True)
    assert kept.runner is not None
    before = [vars(d).copy() for d in kept.decisions]
    counterfactual_returns(kept.runner, payoffs, DISCOUNT, alternatives=2)
    assert [vars(d) for d in kept.decisions] == before
    assert [d.move for d in plain.decisions] == [d.move for d in kept.decisions]
    streams = {stream for _, stream, _, _ in players[0].asked}
    own = {match.stream for match in matches(players)}
    assert own < streams
    assert all("branch" in stream for stream in streams - own)


def test_conversations_are_forked_where_the_seats_had_been_asked_so_often() -> None:
    players = (Coin("a", P, []), Coin("b", 0.6, []))
    rollout = play(game(), matches(players, 2), keep=True)
    assert rollout.runner is not None
    counterfactual_returns(rollout.runner, payoffs, DISCOUNT, alternatives=2)
    table = rollout.runner.sessions[players[0]]
    assert isinstance(table, _Coins)
    targets = [target for _, target, _ in table.forks]
    assert targets == list(range(2, 2 + 2 * ROUNDS * 2 * 2))
    # Whose answer is held has given it already.
    assert [answers for _, _, answers in table.forks[:8]] == [
        {seat: t, 1 - seat: t + 1} for t in range(2) for seat in range(2) for _ in range(2)
    ]


def test_only_learners_decisions_branch() -> None:
    players = (Coin("a", P, []), Coin("b", 0.6, [], trained=False))
    rollout = play(game(), matches(players, 2), keep=True)
    assert rollout.runner is not None
    found = counterfactual_returns(rollout.runner, payoffs, DISCOUNT, alternatives=2)
    assert np.isfinite(found[:, 0]).all()
    assert np.isnan(found[:, 1]).all()


def test_rollouts_keep_nothing_unless_asked() -> None:
    players = (Coin("a", P, []), Coin("b", 0.6, []))
    assert play(game(), matches(players)).runner is None
