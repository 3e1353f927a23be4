"""Fast matches of two scripted players: what `comity.rollout.play.play` plays, without its records.

The moves are exactly those of `play` for the same environment seeds and streams. What is saved:

- No records, observations or texts. Our strategies are played as finite-state machines, those of
  the axelrod package by their own player objects.
- A generator is made only for a draw: where a strategy mixes, for trembles and random lengths.
  Trembles and lengths belong to the environment seed and are computed once for all pairs.
- If both strategies and the game are deterministic, one match is played and repeated, cut to each
  match's length. Nothing else is shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np

from comity.games.base import Game, Move, Observation, PlayedMatches, Round, Turn
from comity.games.lengths import Fixed, Length
from comity.games.matrix.iterated import Iterated
from comity.games.randomness import ANSWER, CONTINUE, TREMBLE, generator
from comity.players.base import Player
from comity.players.scripted.axelrod_package import actions, explained, stand_in
from comity.players.scripted.axelrod_players import AxelrodPlayer
from comity.players.scripted.axelrod_strategy import (
    AxelrodStrategy,
    SeatedStrategy,
    strategy_seed,
)
from comity.players.scripted.catalog import Strategy
from comity.players.scripted.player import StrategyPlayer
from comity.players.scripted.state_machines import StateMachine, state_machine

Stream = tuple[int | str, ...]
Flips = Sequence[tuple[bool, bool]]
"""Whether the move of each seat trembles, `[round][seat]`."""
Joint = tuple[int, ...]
"""The moves of both seats; -1: none."""
JointMoves = list[Joint]
Pool = dict[tuple[AxelrodStrategy, int], Any]
"""The package's player objects by strategy and seat; each match resets those that it needs."""


def play_scripted(
    game: Game,
    players: tuple[Player, ...],
    seeds: Sequence[int],
    streams: Sequence[Stream],
    pool: Pool | None = None,
) -> PlayedMatches | None:
    """One match of two scripted players for each environment seed and stream.

    Equal to `play(game, [Match(..., seed, players, stream), ...]).played`. None if the game or a
    player is of another kind: it needs an iterated game of two seats and two moves with one payoff
    table, and scripted players. `pool`: kept from call to call, it saves making player objects.
    """
    if (
        type(game) is not Iterated
        or game.seats != 2
        or len(game.moves) != 2
        or len(players) != 2
        or not all(type(player) in (StrategyPlayer, AxelrodPlayer) for player in players)
        or not seeds
    ):
        return None
    pool = {} if pool is None else pool
    one, two = (
        _side(player.strategy, game, seat, pool)  # type: ignore[attr-defined]
        for seat, player in enumerate(players)
    )
    rounds = [_rounds(seed, game.length) for seed in seeds]
    priors = [game.start(seed).prior for seed in seeds]
    fixed = game.noise == 0 and one.deterministic and two.deterministic
    repeated: dict[Any, np.ndarray] = {}
    intended, played = [], []
    for seed, stream, number, prior in zip(seeds, streams, rounds, priors, strict=True):
        if fixed:
            if prior not in repeated:
                chosen = _match(game, (one, two), stream, max(rounds), prior, None)
                if chosen is None:
                    return None
                repeated[prior] = np.array(chosen, dtype=np.int64)
            moves = repeated[prior][:number]
            intended.append(moves)
            played.append(moves)
            continue
        flips = _trembles(seed, game.noise, number) if game.noise else None
        chosen = _match(game, (one, two), stream, number, prior, flips)
        if chosen is None:
            return None
        moves = np.array(chosen, dtype=np.int64)
        intended.append(moves)
        played.append(moves if flips is None else moves ^ np.array(flips, dtype=np.int64))
    return _arrays(game, intended, played, priors)


def is_repeated(game: Game, players: tuple[Player, ...]) -> bool:
    """Whether all matches of two scripted players are identical, by the kinds of `play_scripted`.

    False where that is not known.
    """
    if type(game) is not Iterated or not isinstance(game.length, Fixed) or game.noise:
        return False
    if len(game.initial_distribution(0)) != 1 or len(game.moves) != 2:
        return False
    return all(
        type(player) in (StrategyPlayer, AxelrodPlayer)
        and _side(player.strategy, game, seat, {}).deterministic  # type: ignore[attr-defined]
        for seat, player in enumerate(players)
    )


class _Mover(Protocol):
    """A strategy in one match."""

    def choose(self) -> Move: ...

    def see(self, own: Move, other: Move) -> None: ...


@dataclass(frozen=True)
class _Side:
    """A strategy on its seat, before a match."""

    strategy: Strategy
    seat: int
    machine: StateMachine | None
    deterministic: bool
    pool: Pool

    def begin(
        self, game: Iterated, stream: Stream, prior: Joint | None, chosen: JointMoves
    ) -> _Mover:
        """The strategy in a match; `chosen` grows with it."""
        own = None if prior is None else (prior[self.seat], prior[1 - self.seat])
        if isinstance(self.strategy, AxelrodStrategy):
            seated = SeatedStrategy(self.player(game, stream, own is not None), stand_in())
            if own is not None:
                seated.choose()
                seated.see(*own)
            return seated
        if self.machine is not None:
            return _MachineMover(self.machine, self.machine.start(own), stream, self.seat)
        return _ObservingMover(self.strategy, game, stream, self.seat, prior, chosen)

    def player(self, game: Iterated, stream: Stream, prior: bool = False) -> Any:
        """The package's player object at the beginning of a match."""
        assert isinstance(self.strategy, AxelrodStrategy)
        key = self.strategy, self.seat
        if key in self.pool:
            self.pool[key].reset()
        else:
            self.pool[key] = self.strategy.unseated()
        seed = 0 if self.deterministic else strategy_seed(stream, self.seat)
        self.strategy.begin(self.pool[key], game, self.seat, seed, prior)
        return self.pool[key]


def _side(strategy: Strategy, game: Iterated, seat: int, pool: Pool) -> _Side:
    if isinstance(strategy, AxelrodStrategy):
        return _Side(strategy, seat, None, not strategy.stochastic, pool)
    machine = state_machine(strategy, game)
    return _Side(strategy, seat, machine, machine is not None and machine.deterministic, pool)


def _match(
    game: Iterated,
    sides: tuple[_Side, _Side],
    stream: Stream,
    rounds: int,
    prior: Joint | None,
    flips: Flips | None,
) -> JointMoves | None:
    """The chosen moves of one match, `[round][seat]`; None where one is no move."""
    one, two = sides
    axelrods = isinstance(one.strategy, AxelrodStrategy), isinstance(two.strategy, AxelrodStrategy)
    if all(axelrods) and prior is None:
        return _axelrod_match(game, sides, stream, rounds, flips)
    chosen: JointMoves = []
    first, second = (side.begin(game, stream, prior, chosen) for side in sides)
    for number in range(rounds):
        joint = first.choose(), second.choose()
        chosen.append(joint)
        if joint[0] not in (0, 1) or joint[1] not in (0, 1):
            return None
        if flips is not None:
            flip = flips[number]
            joint = joint[0] ^ flip[0], joint[1] ^ flip[1]
        first.see(joint[0], joint[1])
        second.see(joint[1], joint[0])
    return chosen


def _axelrod_match(
    game: Iterated,
    sides: tuple[_Side, _Side],
    stream: Stream,
    rounds: int,
    flips: Flips | None,
) -> JointMoves:
    """A match of two of the package's strategies, each of which sees the other's object."""
    one, two = (side.player(game, stream) for side in sides)
    c, d = actions()
    other = {c: d, d: c}
    chosen: JointMoves = []
    with explained(" or ".join(type(player).__name__ for player in (one, two))):
        for number in range(rounds):
            own, others = one.strategy(two), two.strategy(one)
            chosen.append((own is d, others is d))
            if flips is not None:
                flip = flips[number]
                own, others = other[own] if flip[0] else own, other[others] if flip[1] else others
            one.update_history(own, others)
            two.update_history(others, own)
    return chosen


class _MachineMover:
    """A finite-state machine in one match."""

    def __init__(self, machine: StateMachine, state: int, stream: Stream, seat: int) -> None:
        self._chances, self._successors = machine.cooperation, machine.successors
        self._state, self._round = state, 0
        self._draw = partial(_draw, stream, seat)

    def choose(self) -> Move:
        chance = self._chances[self._state]
        if chance in (0, 1):
            return 1 - int(chance)
        return int(self._draw(self._round) >= chance)

    def see(self, own: Move, other: Move) -> None:
        self._state = self._successors[self._state][2 * own + other]
        self._round += 1


class _ObservingMover:
    """A strategy without a machine in one match: it gets its observations."""

    def __init__(
        self,
        strategy: Strategy,
        game: Iterated,
        stream: Stream,
        seat: int,
        prior: Joint | None,
        chosen: JointMoves,
    ) -> None:
        self._strategy, self._game, self._stream = strategy, game, stream
        self._seat, self._prior, self._intended = seat, prior, chosen
        self._history: tuple[Round, ...] = ()

    def choose(self) -> Move:
        number = len(self._history)
        known = Observation(self._seat, 2, number, self._history, self._prior)
        turn = Turn(self._seat, number, 0, "choose", (0, 1), known)
        rng = generator(*self._stream, ANSWER, self._seat, number, 0, 0)
        reply = self._strategy.reply(turn, self._game, rng)
        return reply if isinstance(reply, int) else -1

    def see(self, own: Move, other: Move) -> None:
        moves = (own, other) if self._seat == 0 else (other, own)
        payoffs = self._game.stage.payoff(moves)
        self._history += (Round(self._intended[-1], moves, payoffs),)


def _draw(stream: Stream, seat: int, number: int) -> float:
    """The uniform number that a strategy draws in a round (`Request.rng`)."""
    return float(generator(*stream, ANSWER, seat, number, 0, 0).random())


@lru_cache(maxsize=4096)
def _trembles(seed: int, noise: float, rounds: int) -> Flips:
    """The trembles of a match (`Iterated.step`): of two moves, it is the other one."""
    return [
        (
            bool(generator(seed, TREMBLE, number, 0).random() < noise),
            bool(generator(seed, TREMBLE, number, 1).random() < noise),
        )
        for number in range(rounds)
    ]


def _rounds(seed: int, length: Length) -> int:
    """The number of rounds of a match (`Iterated.step`)."""
    if isinstance(length, Fixed):
        return length.rounds
    number = 1
    while (chance := length.continuation(number)) > 0:
        if chance < 1 and _coin(seed, number - 1) >= chance:
            break
        number += 1
    return number


@lru_cache(maxsize=65536)
def _coin(seed: int, number: int) -> float:
    """The uniform number that decides whether another round follows this one."""
    return float(generator(seed, CONTINUE, number).random())


def _arrays(
    game: Iterated,
    intended: Sequence[np.ndarray],
    played: Sequence[np.ndarray],
    priors: Sequence[Joint | None],
) -> PlayedMatches:
    """The arrays of matches whose moves are `[round, seat]`."""
    matches, rounds = len(played), max(len(one) for one in played)
    chosen = np.full((matches, 2, rounds), -1, dtype=np.int64)
    moves, shown = chosen.copy(), chosen.copy()
    payoffs, alive = np.zeros((matches, 2, rounds)), np.zeros((matches, rounds), dtype=bool)
    table = np.array([[game.stage.payoff((a, b)) for b in (0, 1)] for a in (0, 1)], dtype=float)
    for m, (intention, joint, prior) in enumerate(zip(intended, played, priors, strict=True)):
        number = len(joint)
        chosen[m, :, :number], moves[m, :, :number] = intention.T, joint.T
        payoffs[m, :, :number] = table[joint[:, 0], joint[:, 1]].T
        alive[m, :number] = True
        shown[m, :, 1:number] = joint[:-1].T
        if prior is not None:
            shown[m, :, 0] = prior
    return PlayedMatches(chosen, moves, payoffs, alive, shown)
