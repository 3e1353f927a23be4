"""A scripted strategy as a player."""

from collections.abc import Sequence
from dataclasses import dataclass

from comity.games.base import Game
from comity.players.base import Answer, Ask, Table, Talk
from comity.players.scripted import Scripted


@dataclass(frozen=True)
class ScriptedPlayer:
    """Plays a strategy; it is its own host."""

    name: str
    strategy: Scripted
    adapter: None = None
    version: int = -1
    trained: bool = False

    @property
    def host(self) -> "ScriptedPlayer":
        return self

    def open(self, game: Game) -> Table:
        return _ScriptedTable(self.strategy, game)

    def text(self, ids: Sequence[int]) -> str:
        return ""


class _ScriptedTable:
    def __init__(self, strategy: Scripted, game: Game) -> None:
        self.talks: list[Talk] = []
        self._strategy = strategy
        self._game = game

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        answers = []
        for ask in asks:
            move = self._strategy.choose(ask.turn.observation, self._game, ask.rng())
            answers.append(Answer(move, self._game.moves[move]))
        return answers
