"""The interfaces of players.

- `Request`: one turn of one match, with everything that the response may depend on.
- `Response`: the player's response, with everything that the records keep.
- `Player`: the occupant of a seat.
- `PlayerBackend`: responds for players, in many matches at once. Players that share a model share
  a backend, so that one step of all matches is one batch with all its adapters.
- `PlayerSession`: a backend during one rollout.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

from comity.games.base import ILLEGAL, Action, Game, Reply, Turn
from comity.games.randomness import ANSWER, generator

if TYPE_CHECKING:  # Humans and strategies play without torch.
    from comity.engines.local.scoring import Answers
    from comity.engines.local.session import Session
    from comity.engines.token_masks import TokenMask

Controller = Literal["live", "frozen", "past", "scripted", "api", "human"]
"""The kind of player that made a decision."""

CONTROLLERS: dict[Controller, str] = {
    "live": "a learner in a trained seat",
    "frozen": "a learner's present policy that is not trained here, a folder's adapter or the base",
    "past": "a learner's earlier policy (`comity.players.opponent_pool`)",
    "scripted": "a scripted strategy",
    "api": "a language model behind an API",
    "human": "a person at the terminal",
}
"""Every kind of player with its meaning."""


@dataclass(frozen=True)
class Request:
    """A request to the player on a seat: one turn of one match."""

    player: "Player"
    match: int
    game: Game
    """The game of the match (`Game.sample_instance`)."""
    turn: Turn
    stream: tuple[int | str, ...]
    """Identity of the match's random numbers (run seed, iteration, match)."""

    def rng(self, attempt: int = 0, part: str = "") -> np.random.Generator:
        """The random stream of a response or a part of it, independent of all other draws.

        `attempt`: number of failed attempts before, also for the fallback, which must not reuse
        the random numbers of a failed attempt.
        """
        turn = self.turn
        place = (turn.seat, turn.round, turn.step, attempt)
        return generator(*self.stream, ANSWER, *place, *([part] if part else []))


def temperature(request: Request) -> float:
    """The sampling temperature of the request's player; 1 if it has none."""
    return float(getattr(request.player, "temperature", 1.0))


@dataclass(frozen=True)
class Response:
    """The response of a player."""

    action: Reply
    text: str
    conversation: int = -1
    """Index of its transcript in the session; -1: none."""
    start: int = -1
    """Index in the transcript from which `offsets` count; that of its first sampled token if ()."""
    tokens: tuple[int, ...] = ()
    """The sampled ids, without forced ones."""
    logprob: float = 0.0
    """Natural log of the probability of the whole answer under the sampling distribution."""
    token_logprobs: tuple[float, ...] = ()
    """Per sampled token, for generated answers."""
    legal: tuple[str, ...] = ()
    """The legal answers as shown in the prompt."""
    probabilities: tuple[float, ...] = ()
    """Probability of each legal answer, if they were scored."""
    answers: "Answers" = ()
    """Token ids of each legal answer after their common prefix, if they were scored."""
    lenient_move: Action = ILLEGAL
    """The move of the only label that occurs in a language model's answer."""
    parse_status: str = ""
    """What the answer turned out to be (`comity.prompts.answers.PARSE_STATUSES`); scripts: ""."""
    offsets: tuple[int, ...] = ()
    """Position of each sampled token, from `start`; (): consecutive."""
    masks: "tuple[TokenMask | None, ...]" = ()
    """The mask of each token under a grammar; (): the whole vocabulary."""
    grammar: str = ""
    """The regular expression of constrained decoding; "": none."""
    finish_reason: str = ""
    """Why sampling stopped (`comity.engines.local.sampling.Sample`); "": not sampled by token.
    """
    kind: str = ""
    """"think" or "attempt" for parts before the response that counts; "": it counts."""
    before: tuple["Response", ...] = ()
    """A thinking block and failed attempts before it, in order."""
    attempts: int = 1
    """Number of attempts, including this one."""
    constrained: bool = False
    """Written under a grammar."""
    trainable: bool = True
    failure: str = ""
    """Why there is no response (a server that cannot be reached); its match is then missing."""


PIECES = {
    "prompt": "in the prompt, or forced",
    "exploration": "an exploration instruction, removed before training",
    "answer": "sampled from the model",
}
"""Every kind of segment in a transcript."""


@dataclass
class Transcript:
    """One conversation of a session, as token ids."""

    match: int
    seat: int
    adapter: str | None
    ids: list[int]
    """Token ids; Unicode code points where the tokens are not known (models behind an API)."""
    pieces: list[tuple[str, int, int]] = field(default_factory=list)
    """(one of `PIECES`, start, end), covering `ids` in order."""


class PlayerSession(Protocol):
    """A backend during one rollout, with its transcripts."""

    transcripts: list[Transcript]

    @property
    def recording(self) -> "Session | None":
        """The engine session whose forward passes training may reuse; None: no engine."""
        ...

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        """One response per request, in order; `finish` completes some of them."""
        ...

    def finish(self) -> dict[int, Response]:
        """Complete versions of responses that had only their action, by transcript.

        Called when all matches are over.
        """
        ...

    def fork(self, source: int, target: int, answers: Mapping[int, int]) -> None:
        """Start match `target` with the transcripts of match `source` at an earlier point.

        `answers`: the number of responses of each seat at that point.
        """
        ...


@runtime_checkable
class RewindableSession(Protocol):
    """A session that can free the memory of forked matches."""

    def position(self) -> tuple[int, int]:
        """The current position."""
        ...

    def rewind(self, position: tuple[int, int]) -> None:
        """Discard everything since a position; matches forked since then are over."""
        ...


@runtime_checkable
class AsynchronousSession(Protocol):
    """A session whose responses can be awaited while other sessions respond."""

    def submit(self, requests: Sequence[Request]) -> Callable[[], list[Response]]:
        """Begin to respond; the result waits for the responses, which are those of `respond`."""
        ...


@runtime_checkable
class MeteredBackend(Protocol):
    """A backend whose answers cost money."""

    @property
    def has_budget(self) -> bool:
        """Whether it may stop because a budget is spent."""
        ...

    def check_budget(self) -> None:
        """Raises `ComityError` if the budget is spent; called before a batch of matches begins."""
        ...


class PlayerBackend(Protocol):
    """Responds for players."""

    def open(self) -> PlayerSession: ...

    def text(self, ids: Sequence[int]) -> str:
        """The text of token ids, for the records."""
        ...


class Player(Protocol):
    """The occupant of seats."""

    @property
    def name(self) -> str: ...

    @property
    def backend(self) -> PlayerBackend: ...

    @property
    def adapter(self) -> str | None:
        """Handle of its adapter; None for the base model and for strategies."""
        ...

    @property
    def version(self) -> int:
        """Number of updates of the adapter; -1 if there is none."""
        ...

    @property
    def trained(self) -> bool:
        """Its decisions are trained on."""
        ...

    @property
    def controller(self) -> Controller:
        """The kind of player."""
        ...
