"""Split games played by functions, with the records that a rollout would keep."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from comity.games.base import Illegal, Reply, Turn
from comity.games.split.game import Split
from comity.games.split.state import Instance
from comity.rollout.recording import exceeds_message_limit, kind_of
from comity.rollout.records import Decision

Agent = Callable[[Turn], Reply]


@dataclass(frozen=True)
class Listed:
    """Deals from a list, one after the other; the seed says where it begins."""

    table: tuple[Instance, ...]
    items: tuple[str, ...] = ("coins",)

    @property
    def seats(self) -> int:
        return len(self.table[0].values)

    @property
    def most(self) -> tuple[int, ...]:
        return tuple(max(column) for column in zip(*(d.stock for d in self.table), strict=True))

    def draw(self, seed: int, number: int) -> Instance:
        return self.table[(seed + number) % len(self.table)]


def greedy(turn: Turn) -> Reply:
    """Claims everything, accepts nothing, says so."""
    if turn.kind == "message":
        return "all mine"
    return 1 if turn.kind == "respond" else turn.observation.instance.stock  # type: ignore[attr-defined]


def cooperator(turn: Turn) -> Reply:
    """Claims what it values more, half of ties (seat 0 the larger half), accepts everything."""
    if turn.kind == "message":
        return "let us share"
    if turn.kind == "respond":
        return 0
    instance, seat = turn.observation.instance, turn.seat  # type: ignore[attr-defined]
    own, other = instance.values[seat], instance.values[1 - seat]
    return tuple(
        q if v > w else 0 if v < w else (q + 1 - seat) // 2
        for q, v, w in zip(instance.stock, own, other, strict=True)
    )


def saying(*replies: Reply) -> Agent:
    """Gives these replies one after the other, messages and claims alike."""
    left = iter(replies)
    return lambda turn: next(left)


def play(
    game: Split,
    agents: Sequence[Agent],
    seed: int = 0,
    match: int = 0,
    iteration: int = 0,
    **changes: Any,
) -> list[Decision]:
    """The decisions of one match; `changes` are fields that all of them get."""
    state, decisions = game.start(seed), []
    while turns := game.turns(state):
        replies = {turn.seat: agents[turn.seat](turn) for turn in turns}
        state = game.step(state, replies)
        for turn in turns:
            decisions.append(record(turn, replies[turn.seat], seed, match, iteration, changes))
    last = {(d.round, d.seat): d for d in decisions}
    for d in decisions:
        if d is last[d.round, d.seat]:
            settle(d, game.history(state)[d.round])
        if d.kind == "message" and d.move >= 0:
            d.message_as_read = d.text[: game.message_limit]
    return decisions


def record(
    turn: Turn, reply: Reply, seed: int, match: int, iteration: int, changes: dict[str, Any]
) -> Decision:
    """A decision whose round is not over yet."""
    beyond = exceeds_message_limit(turn.kind, reply)
    illegal = isinstance(reply, Illegal) or beyond
    plain: dict[str, Any] = {
        "iteration": iteration,
        "match": match,
        "group": match,
        "seed": seed,
        "seat": turn.seat,
        "round": turn.round,
        "step": turn.step,
        "kind": kind_of(turn.kind, reply),
        "player": "learner",
        "adapter": "main",
        "version": iteration,
        "trained": True,
        "conversation": -1,
        "start": -1,
        "tokens": [],
        "logprob": -1.0,
        "token_logprobs": [],
        "legal": [],
        "probabilities": [],
        "text": "??" if isinstance(reply, Illegal) else str(reply),
        "parse_status": "exceeded" if beyond else "",
        "move": -1 if illegal else reply if turn.kind == "respond" else 0,
        "move_name": "illegal" if illegal else turn.kind,
        "played": -1,
        "state": [],
        "payoff": 0.0,
        "controller": "live",
    }
    return Decision(**{**plain, **changes})


def settle(d: Decision, outcome: Any) -> None:
    """What is known of a claim or response when the round is over."""
    d.payoff = outcome.payoffs[d.seat]
    d.stock = list(outcome.instance.stock)
    d.values = list(outcome.instance.values[d.seat])
    d.allocation = list(outcome.allocation[d.seat])
    d.max_welfare = outcome.instance.max_welfare()
    if d.kind == "claim":
        d.claim = list(outcome.claims[d.seat] or ())
