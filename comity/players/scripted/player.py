"""A scripted strategy as a player."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comity.players.base import Answer, Ask, Controller, Table, Talk
from comity.players.scripted.catalog import Script, written


@dataclass(frozen=True)
class ScriptedPlayer:
    """Plays a strategy; it is its own host."""

    name: str
    strategy: Script
    adapter: None = None
    version: int = -1
    trained: bool = False
    controller: Controller = "scripted"

    @property
    def host(self) -> "ScriptedPlayer":
        return self

    def open(self) -> Table:
        return _ScriptedTable(self.strategy)

    def text(self, ids: Sequence[int]) -> str:
        return ""


class _ScriptedTable:
    def __init__(self, strategy: Script) -> None:
        self.talks: list[Talk] = []
        self.recording = None
        self._strategy = strategy

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        answers = []
        for ask in asks:
            reply: Any = self._strategy.reply(ask.turn, ask.game, ask.rng())
            law = self._law(ask)
            answers.append(Answer(reply, written(reply, ask.game), probabilities=law))
        return answers

    def _law(self, ask: Ask) -> tuple[float, ...]:
        """Probability of each move; () of strategies that do not say it."""
        law = getattr(self._strategy, "probabilities", None)
        if law is None or ask.turn.kind != "choose":
            return ()
        return tuple(float(p) for p in law(ask.turn.observation, ask.game))

    def finish(self) -> dict[int, Answer]:
        """Nothing: answers are whole at once."""
        return {}

    def fork(self, source: int, target: int, answers: Mapping[int, int]) -> None:
        """Nothing: scripts hold no conversations."""
