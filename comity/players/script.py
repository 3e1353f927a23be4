"""A scripted strategy as a player."""

from collections.abc import Sequence
from dataclasses import dataclass

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

    def open(self) -> Table:
        return _ScriptedTable(self.strategy)

    def text(self, ids: Sequence[int]) -> str:
        return ""


class _ScriptedTable:
    def __init__(self, strategy: Scripted) -> None:
        self.talks: list[Talk] = []
        self.recording = None
        self._strategy = strategy

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        answers = []
        for ask in asks:
            move = self._strategy.choose(ask.turn.observation, ask.game, ask.rng())
            answers.append(Answer(move, ask.game.moves[move]))
        return answers
