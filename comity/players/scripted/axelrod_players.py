"""Strategies of the axelrod package as players.

A session keeps one player object of the package for each (match, seat), so that a match costs as
many calls as it has rounds. A forked match starts with none: its objects replay what was played,
with the random numbers that the original drew, and go on with those of their own stream.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from comity.games.base import Move
from comity.players.base import PlayerSession, Request, Response, Transcript
from comity.players.scripted.axelrod_strategy import (
    AxelrodStrategy,
    SeatedStrategy,
    strategy_seed,
)
from comity.players.scripted.catalog import Strategy, reply_text
from comity.players.scripted.player import StrategyPlayer

Place = tuple[int, int]
"""(number of the match in the session, seat)."""


@dataclass(frozen=True)
class AxelrodPlayer(StrategyPlayer):
    """Plays a strategy of the package; its own backend."""

    def open(self) -> PlayerSession:
        assert isinstance(self.strategy, AxelrodStrategy)
        return AxelrodSession(self.strategy)


def strategy_player(name: str, strategy: Strategy) -> StrategyPlayer:
    """The player of any strategy; one of the package's is called by its class's name."""
    if isinstance(strategy, AxelrodStrategy):
        return AxelrodPlayer(strategy.name, strategy)
    return StrategyPlayer(name, strategy)


@dataclass
class _Seeds:
    """The seeds of one (match, seat)."""

    at: dict[int, int] = field(default_factory=dict)
    """By the number of answers given before; that at 0 also holds for a fictitious round."""
    begins: int = 0
    """Number of answers that the match inherited from the one that it was forked from."""


class AxelrodSession:
    """The player objects of one strategy during one rollout."""

    def __init__(self, strategy: AxelrodStrategy) -> None:
        self.transcripts: list[Transcript] = []
        self.recording = None
        self._strategy = strategy
        self._seated: dict[Place, SeatedStrategy] = {}
        self._seeds: dict[Place, _Seeds] = {}
        self._forked: list[int] = []
        """Targets of forks in order."""

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        """The strategy's moves, after it saw what was played since its last one."""
        answers = []
        for request in requests:
            move = self._move(request)
            answers.append(Response(move, reply_text(move, request.game)))
        return answers

    def _move(self, request: Request) -> Move:
        known = request.turn.observation
        place = request.match, request.turn.seat
        fictitious = known.prior is not None
        seeds = self._seeds.setdefault(place, _Seeds())
        if place not in self._seated:
            seeds.at[seeds.begins] = strategy_seed(request.stream, request.turn.seat)
            self._seated[place] = self._strategy.seat(
                request.game, request.turn.seat, seeds.at[0], fictitious
            )
        later = {at + fictitious: seed for at, seed in seeds.at.items() if at}
        return self._seated[place].reply(known, later)

    def finish(self) -> dict[int, Response]:
        """Nothing: responses are always complete."""
        return {}

    def fork(self, source: int, target: int, answers: Mapping[int, int]) -> None:
        """The target's objects will replay the source's first `answers[seat]` choices."""
        self._forked.append(target)
        for (match, seat), seeds in list(self._seeds.items()):
            if match == source and (count := answers.get(seat, 0)):
                earlier = {at: seed for at, seed in seeds.at.items() if at < count}
                self._seeds[target, seat] = _Seeds(earlier, count)

    def position(self) -> tuple[int, int]:
        """The number of forks so far."""
        return len(self._forked), 0

    def rewind(self, position: tuple[int, int]) -> None:
        """Forget the matches that were forked since a position."""
        gone = set(self._forked[position[0] :])
        del self._forked[position[0] :]
        for kept in (self._seated, self._seeds):
            for place in [place for place in kept if place[0] in gone]:
                del kept[place]
