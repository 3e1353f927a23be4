"""Exact best responses to strategies in iterated games, by backward induction.

The responder knows the strategies, the rules and all played moves; it maximizes its expected sum of
payoffs over the match. Since no legal move changes the length of a match, that also maximizes its
payoff per round. Illegal answers are no part of it.

States are joint histories of played moves (the game's chance outcomes, trembles and lengths, by
`Game.successors`), merged where all strategies declare their memory
(`comity.evaluation.reference_points.strategy_memory`): then the number of states grows linearly
with the rounds. Both give the same values; tests compare them. What has too many states raises, so
that every value here is exact.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from comity.errors import ComityError
from comity.evaluation.reference_points.strategy_memory import Memory, memory_of
from comity.games.base import Move, Observation
from comity.games.enumerate import Policy
from comity.games.matrix.iterated import Iterated, State

MAX_STATES = 200_000
"""Most states of the dynamic program."""

FIRST_MOVES = 10
"""Moves of the likeliest match that a result shows."""

FULL, MERGED = "full histories", "merged histories"


@dataclass(frozen=True)
class BestResponse:
    """The best response of a seat and what it earns."""

    value: float
    """Expected payoff per round: expected sum over a match by expected number of rounds."""
    total: float
    """Expected sum of payoffs over a match."""
    first_moves: tuple[Move, ...]
    """Its first moves in the likeliest match, at most `FIRST_MOVES`; of equally good moves the
    one with the least index (cooperation)."""
    exact: bool
    """Whether no other policy can earn more; True for everything that this module computes."""
    method: str
    """`FULL` or `MERGED`."""
    states: int
    """States of the dynamic program."""
    policy: Policy = field(repr=False, compare=False)
    """Probabilities of its moves given its observation, as `comity.games.enumerate` takes them."""

    def gap(self, payoff: float) -> float:
        """Best-response gap of a responder that earns `payoff` per round against the same."""
        return self.value - payoff


Strategies = Mapping[int, Any]
"""Strategies by seat, with `probabilities(observation, game)` (`MatrixStrategy`)."""


def best_response(
    game: Iterated,
    strategies: Strategies | Any,
    seat: int = 0,
    merge: bool | None = None,
    max_states: int = MAX_STATES,
) -> BestResponse:
    """The best response of `seat` to the strategies on all other seats.

    `strategies`: by seat, or one strategy for the other seat of a two-seat game. `merge`: use the
    declared memories; None: where every strategy has one. Raises `ComityError` for a game whose
    table is sampled per match, for strategies without probabilities or a wanted memory, and for
    more than `max_states` states.
    """
    others = _by_seat(game, strategies, seat)
    memories = {s: memory_of(strategy) for s, strategy in others.items()}
    complete = all(memory is not None for memory in memories.values())
    if merge and not complete:
        raise ComityError(
            "not every strategy declares its memory: give it a method memory(observation), or "
            "leave merge out"
        )
    merged = complete if merge is None else merge
    key = _memory_key(memories) if merged else _history_key
    solver = _Solver(game, others, seat, key, max_states)
    starts = game.initial_distribution(0)
    total = sum(p * solver.value(state) for p, state in starts)
    return BestResponse(
        value=total / game.length.expected,
        total=total,
        first_moves=solver.likeliest(max(starts, key=lambda one: one[0])[1]),
        exact=True,
        method=MERGED if merged else FULL,
        states=len(solver.values),
        policy=solver.policy,
    )


Key = Callable[[Any], Hashable]
"""From an observation of the responder to what its best move depends on, beside the round."""


def _history_key(known: Observation) -> Hashable:
    return known.prior, tuple(played.moves for played in known.history)


def _memory_key(memories: Mapping[int, Memory | None]) -> Key:
    def key(known: Observation) -> Hashable:
        return tuple(
            memory(_seen_by(known, seat)) for seat, memory in memories.items() if memory is not None
        )

    return key


def _seen_by(known: Observation, seat: int) -> Observation:
    """The observation of another seat at the same point; all seats see all played moves."""
    return Observation(seat, known.seats, known.round, known.history, known.prior)


class _Solver:
    """Backward induction over states by round and key, each with one example of its histories."""

    def __init__(
        self, game: Iterated, others: Strategies, seat: int, key: Key, max_states: int
    ) -> None:
        self.game, self.others, self.seat, self.key = game, others, seat, key
        self.max_states = max_states
        self.values: dict[Hashable, float] = {}
        self.moves: dict[Hashable, Move] = {}

    def value(self, start: State) -> float:
        """Expected sum of payoffs from here on.

        Forward, all states of a round after those of the round before; then backward. (Recursion
        would be as deep as the match is long.)
        """
        layers: list[dict[Hashable, State]] = [{self._place(start): start}]
        branches: list[dict[Hashable, list[list[tuple[float, float, Hashable]]]]] = []
        while layers[-1]:
            following: dict[Hashable, State] = {}
            branches.append({})
            for place, state in layers[-1].items():
                if place in self.values:
                    continue
                found = [self._outcomes(state, move) for move in range(len(self.game.moves))]
                kept: list[list[tuple[float, float, Hashable]]] = []
                for outcomes in found:
                    kept.append([])
                    for weight, paid, after in outcomes:
                        beyond = None if after.over else self._place(after)
                        if beyond is not None:
                            following.setdefault(beyond, after)
                        kept[-1].append((weight, paid, beyond))
                branches[-1][place] = kept
                if len(self.values) + sum(map(len, branches)) > self.max_states:
                    raise ComityError(
                        f"the best response has more than {self.max_states} states; shorten the "
                        "match, or give the strategies a method memory(observation) that merges "
                        "histories"
                    )
            layers.append(following)
        for layer in reversed(branches):
            for place, options in layer.items():
                worth = [
                    sum(
                        weight * (paid + (0.0 if beyond is None else self.values[beyond]))
                        for weight, paid, beyond in outcomes
                    )
                    for outcomes in options
                ]
                best = max(worth)
                slack = 1e-9 * max(1.0, abs(best))
                self.values[place] = best
                self.moves[place] = next(m for m, one in enumerate(worth) if one >= best - slack)
        return self.values[self._place(start)]

    def policy(self, known: Observation) -> Sequence[float]:
        """The best move for sure."""
        best = self.moves[(known.round, self.key(known))]
        return [float(move == best) for move in range(len(self.game.moves))]

    def likeliest(self, state: State) -> tuple[Move, ...]:
        """Its moves along the likeliest outcomes."""
        found: list[Move] = []
        while not state.over and len(found) < FIRST_MOVES:
            move = self.moves[self._place(state)]
            found.append(move)
            state = max(self._outcomes(state, move), key=lambda one: one[0])[2]
        return tuple(found)

    def _place(self, state: State) -> Hashable:
        known = self.game.turns(state)[self.seat].observation
        return known.round, self.key(known)

    def _outcomes(self, state: State, move: Move) -> list[tuple[float, float, State]]:
        """Probability, payoff and next state after a move; those of equal keys put together."""
        known = self.game.turns(state)[self.seat].observation
        laws = [
            [
                (p, other)
                for other, p in enumerate(strategy.probabilities(_seen_by(known, seat), self.game))
                if p > 0
            ]
            for seat, strategy in self.others.items()
        ]
        found: dict[Hashable, tuple[float, float, State]] = {}
        for joint in product(*laws):
            chosen = dict(zip(self.others, (other for _, other in joint), strict=True))
            chance = prod(p for p, _ in joint)
            for weight, after in self.game.successors(state, {**chosen, self.seat: move}):
                paid = after.history[-1].payoffs[self.seat]
                place = (after.over, paid, None if after.over else self._place(after))
                before = found[place][0] if place in found else 0.0
                found[place] = (before + chance * weight, paid, after)
        return list(found.values())


def _by_seat(game: Iterated, strategies: Strategies | Any, seat: int) -> dict[int, Any]:
    if not isinstance(game, Iterated) or game.sample_instance(0) is not game:
        raise ComityError(
            "exact best responses need an iterated game with one payoff table; of a game that "
            "samples its rules take `sample_instance(seed)`"
        )
    if not 0 <= seat < game.seats:
        raise ComityError(f"the game has seats 0 to {game.seats - 1}, not {seat}")
    if not isinstance(strategies, Mapping):
        if game.seats != 2:
            raise ComityError(f"give a strategy for each of the {game.seats - 1} other seats")
        strategies = {1 - seat: strategies}
    if set(strategies) != set(range(game.seats)) - {seat}:
        raise ComityError(f"give a strategy for each seat but {seat}, not {sorted(strategies)}")
    for strategy in strategies.values():
        if not hasattr(strategy, "probabilities"):
            raise ComityError(
                f"{type(strategy).__name__} does not say how likely its moves are "
                "(probabilities), so its best response is not exact"
            )
    return dict(sorted(strategies.items()))
