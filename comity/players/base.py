"""Who answers a turn.

- `Request`: one turn of one match, with everything that the answer may depend on.
- `Response`: what came back, with all that the record keeps of it.
- `Player`: somebody with a name who sits on seats.
- `PlayerBackend`: answers for players, for many matches at once. Players that share a model share a
  host, so that one step of all matches is one batch, whichever adapters are in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

from comity.games.base import ILLEGAL, Action, Game, Reply, Turn
from comity.games.randomness import ANSWER, generator

if TYPE_CHECKING:  # People and scripts play without torch.
    from comity.engines.local.scoring import Answers
    from comity.engines.local.session import Session
    from comity.engines.token_masks import TokenMask

Controller = Literal["live", "frozen", "past", "scripted", "human"]
"""What kind of player decided."""

CONTROLLERS: dict[Controller, str] = {
    "live": "a learner in a seat that is trained",
    "frozen": "a learner's present policy that is not trained here, a folder's adapter or the base",
    "past": "a learner's earlier policy (`comity.players.opponent_pool`)",
    "scripted": "a scripted strategy",
    "human": "a person at the terminal",
}
"""Every kind of player with what it is."""


@dataclass(frozen=True)
class Request:
    """One turn of one match, put to the player on its seat."""

    player: "Player"
    match: int
    game: Game
    """As dealt to the match."""
    turn: Turn
    stream: tuple[int | str, ...]
    """Identity of the match's random numbers (run seed, iteration, match)."""

    def rng(self, attempt: int = 0, part: str = "") -> np.random.Generator:
        """The own stream of an answer or a part before it: what others draw never moves it.

        `attempt`: how many attempts failed before, also for what follows when the last of them
        failed: a fallback that took the numbers of the failed attempt would follow from it.
        """
        turn = self.turn
        place = (turn.seat, turn.round, turn.step, attempt)
        return generator(*self.stream, ANSWER, *place, *([part] if part else []))


def temperature(request: Request) -> float:
    """At which the ask's player answers; 1 where it has none."""
    return float(getattr(request.player, "temperature", 1.0))


@dataclass(frozen=True)
class Response:
    """What a player answered."""

    action: Reply
    text: str
    conversation: int = -1
    """Which of the host's conversations it stands in; -1: none."""
    start: int = -1
    """Index there that `offsets` count from: of its first chosen token, if they are ()."""
    tokens: tuple[int, ...] = ()
    """The ids that were chosen, and nothing that was forced."""
    logprob: float = 0.0
    """Natural log of the whole answer's probability under the distribution sampled from."""
    token_logprobs: tuple[float, ...] = ()
    """Per chosen token, for freely sampled answers."""
    legal: tuple[str, ...] = ()
    """The legal answers as told."""
    probabilities: tuple[float, ...] = ()
    """Probability of each legal answer, where they were scored."""
    answers: "Answers" = ()
    """Token ids of each legal answer after their common part, where they were scored."""
    lenient_move: Action = ILLEGAL
    """The move of the only label that occurs in a language model's answer."""
    parse_status: str = ""
    """What the answer turned out to be (`comity.prompts.answers.PARSE_STATUSES`); scripts: ""."""
    offsets: tuple[int, ...] = ()
    """Place of each chosen token, from `start`; (): they follow one another."""
    masks: "tuple[TokenMask | None, ...]" = ()
    """What each token was chosen from, under a grammar; (): the whole vocabulary."""
    grammar: str = ""
    """The regular expression that it was sampled under; "": none."""
    finish_reason: str = ""
    """Why sampling stopped (`comity.engines.local.sampling.Sample`); "": not sampled by token.
    """
    kind: str = ""
    """"think" or "attempt" for what came before the answer that counts; else "": it counts."""
    before: tuple["Response", ...] = ()
    """A thinking block and failed attempts, in order."""
    attempts: int = 1
    """How often was answered until this one counted."""
    constrained: bool = False
    """Written under a grammar."""
    trainable: bool = True


PIECES = {
    "prompt": "told to the model, or forced",
    "exploration": "told for exploration, and not learned from (`comity.prompts.exploration`)",
    "answer": "chosen by the model",
}
"""Every kind of stretch in a conversation."""


@dataclass
class Transcript:
    """One conversation that a host held."""

    match: int
    seat: int
    adapter: str | None
    ids: list[int]
    pieces: list[tuple[str, int, int]] = field(default_factory=list)
    """(one of `PIECES`, first index, end index), covering `ids` in order."""


class PlayerSession(Protocol):
    """A host during one rollout; it remembers the conversations."""

    transcripts: list[Transcript]

    @property
    def recording(self) -> "Session | None":
        """Where its tokens are computed, and may be found again; None: nobody computes any."""
        ...

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        """One answer per ask, same order; some are without what `finish` gives."""
        ...

    def finish(self) -> dict[int, Response]:
        """Answers of which only the action was known, complete, by their conversation.

        Asked for when all matches are over.
        """
        ...

    def fork(self, source: int, target: int, answers: Mapping[int, int]) -> None:
        """Begin match `target` with the conversations that match `source` had.

        `answers`: how often each seat had answered then.
        """
        ...


@runtime_checkable
class RewindableSession(Protocol):
    """A table that can give back the memory of matches that were begun on it with `fork`."""

    def mark(self) -> tuple[int, int]:
        """Where it stands now."""
        ...

    def forget(self, mark: tuple[int, int]) -> None:
        """Back to a mark: what was begun since is over, and is not asked for again."""
        ...


class PlayerBackend(Protocol):
    """Somebody who can answer for players."""

    def open(self) -> PlayerSession: ...

    def text(self, ids: Sequence[int]) -> str:
        """The text of token ids, for the records."""
        ...


class Player(Protocol):
    """Somebody who sits on seats."""

    @property
    def name(self) -> str: ...

    @property
    def backend(self) -> PlayerBackend: ...

    @property
    def adapter(self) -> str | None:
        """Handle of the adapter that answers; None for the base model and for scripts."""
        ...

    @property
    def version(self) -> int:
        """Updates that the adapter has seen; -1 where there is none."""
        ...

    @property
    def trained(self) -> bool:
        """Its decisions are used for learning."""
        ...

    @property
    def controller(self) -> Controller:
        """What kind of player it is."""
        ...
