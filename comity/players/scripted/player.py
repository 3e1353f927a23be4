"""Strategies as players."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comity.players.base import Controller, PlayerSession, Request, Response, Transcript
from comity.players.scripted.catalog import Strategy, reply_text


@dataclass(frozen=True)
class StrategyPlayer:
    """Plays a strategy; its own backend."""

    name: str
    strategy: Strategy
    adapter: None = None
    version: int = -1
    trained: bool = False
    controller: Controller = "scripted"

    @property
    def backend(self) -> "StrategyPlayer":
        return self

    def open(self) -> PlayerSession:
        return _StrategySession(self.strategy)

    def text(self, ids: Sequence[int]) -> str:
        return ""


class _StrategySession:
    def __init__(self, strategy: Strategy) -> None:
        self.transcripts: list[Transcript] = []
        self.recording = None
        self._strategy = strategy

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        answers = []
        for request in requests:
            reply: Any = self._strategy.reply(request.turn, request.game, request.rng())
            distribution = self._probabilities(request)
            answers.append(
                Response(reply, reply_text(reply, request.game), probabilities=distribution)
            )
        return answers

    def _probabilities(self, request: Request) -> tuple[float, ...]:
        """Probability of each move; () if the strategy does not define it."""
        distribution = getattr(self._strategy, "probabilities", None)
        if distribution is None or request.turn.kind != "choose":
            return ()
        return tuple(float(p) for p in distribution(request.turn.observation, request.game))

    def finish(self) -> dict[int, Response]:
        """Nothing: responses are always complete."""
        return {}

    def fork(self, source: int, target: int, answers: Mapping[int, int]) -> None:
        """Nothing: strategies have no transcripts."""
