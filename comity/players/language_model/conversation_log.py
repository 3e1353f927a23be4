"""The conversations of one rollout as token ids.

Text becomes tokens once, when it is appended as a prompt. Sampled tokens are kept as ids and never
re-tokenized.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from comity.engines.local.conversation import Conversation
from comity.engines.local.sampling import SamplingState
from comity.engines.local.session import Session
from comity.games.base import Action
from comity.players.base import Request, Transcript
from comity.players.language_model.model_setup import ModelSetup
from comity.prompts.base import Prompt


@dataclass
class SeatContext:
    """The current conversation of one seat of a match."""

    number: int
    """Index of its transcript."""
    conversation: Conversation
    ended: bool = False
    """Whether the model ended its last answer with an end token."""
    turns: list[tuple[int, bool]] = field(default_factory=list)
    """Length and `ended` before each prompt."""


@dataclass(frozen=True)
class PendingResponse:
    """An unfinished free answer that can no longer become legal."""

    answering: SamplingState
    request: Request
    context: SeatContext
    start: int
    """Index in its conversation of its first token."""


class ConversationLog:
    """All conversations of language models in a rollout, in one engine session."""

    def __init__(self, setup: ModelSetup) -> None:
        self.transcripts: list[Transcript] = []
        self.setup = setup
        self.session = setup.engine.session(setup.record, setup.dropout_adapters)
        self.prefetched = False
        """The prompts after all joint moves have been prefetched."""
        self.shown: dict[tuple[int, int], tuple[Action, ...]] = {}
        """By (match, seat): the joint move for which prompts of later rounds were prefetched."""
        self.pending: list[PendingResponse] = []
        """Responses of which only the action is known yet."""
        self._prompts: dict[int, tuple[Prompt, tuple[str, ...]]] = {}
        """By match: its prompt variant and the labels by move."""
        self._open: dict[tuple[int, int], SeatContext] = {}
        """By (match, seat)."""
        self._streams: dict[int, tuple[int | str, ...]] = {}
        """By match: the stream of exploration instructions; a fork keeps that of its source."""

    @property
    def recording(self) -> Session:
        """The engine session whose forward passes training may reuse."""
        return self.session

    def fork(self, source: int, target: int, answers: Mapping[int, int]) -> None:
        """Start match `target` with the conversations of `source` at an earlier point.

        `answers`: the number of responses of each seat at that point. A seat without responses
        gets the opening prompt again.
        """
        if source in self._prompts:
            self._prompts[target] = self._prompts[source]
        if source in self._streams:
            self._streams[target] = self._streams[source]
        for seat, count in answers.items():
            self._open.pop((target, seat), None)
            context = self._open.get((source, seat))
            if context is None or count == 0 or self._prompts[source][0].single_turn:
                continue
            now = (len(context.conversation.ids), context.ended)
            length, ended = [*context.turns, now][count]
            transcript = self.transcripts[context.number]
            conversation = self.session.fork(context.conversation, length)
            pieces = [piece for piece in transcript.pieces if piece[2] <= length]
            self.transcripts.append(
                Transcript(target, seat, transcript.adapter, conversation.ids, pieces)
            )
            number = len(self.transcripts) - 1
            turns = context.turns[:count]
            self._open[target, seat] = SeatContext(number, conversation, ended, turns)

    def position(self) -> tuple[int, int]:
        """Number of transcripts and of distinct tokens in the engine session."""
        return len(self.transcripts), self.session.tokens

    def rewind(self, position: tuple[int, int]) -> None:
        """Discard transcripts and tokens since a position."""
        count, tokens = position
        del self.transcripts[count:]
        self.session.rewind(tokens)
        known = {transcript.match for transcript in self.transcripts}
        self._open = {key: one for key, one in self._open.items() if one.number < count}
        self.shown = {key: moves for key, moves in self.shown.items() if key[0] in known}
        self._prompts = {match: one for match, one in self._prompts.items() if match in known}
        self._streams = {match: one for match, one in self._streams.items() if match in known}

    def prompt(self, request: Request) -> tuple[Prompt, tuple[str, ...]]:
        """The prompt variant of the request's match, and its labels by move."""
        if request.match not in self._prompts:
            prompt = self.setup.prompt.sample_variant(request.stream)
            self._prompts[request.match] = prompt, prompt.labels(request.game)
        return self._prompts[request.match]

    def legal(self, request: Request) -> tuple[str, ...]:
        """The legal answers as shown in the prompt."""
        _, labels = self.prompt(request)
        return tuple(labels[move] for move in request.turn.legal)

    def append(self, kind: str, context: SeatContext, ids: Sequence[int]) -> None:
        """Append ids to a conversation as a piece of a kind in `comity.players.base.PIECES`."""
        if ids:
            first = len(context.conversation.ids)
            context.conversation.append(ids)
            self.transcripts[context.number].pieces.append(
                (kind, first, len(context.conversation.ids))
            )

    def record_piece(self, kind: str, context: SeatContext, start: int, end: int) -> None:
        """Record ids that are already in a conversation, `start .. end - 1`, as a piece."""
        if end > start:
            self.transcripts[context.number].pieces.append((kind, start, end))

    def copy_transcript(self, context: SeatContext, start: int) -> int:
        """Copy a transcript for the answer from `start` on; returns the index of the copy.

        Earlier answers become parts of the prompt in the copy.
        """
        transcript = self.transcripts[context.number]
        pieces = [
            ("prompt" if k == "answer" and e <= start else k, b, e) for k, b, e in transcript.pieces
        ]
        self.transcripts.append(
            Transcript(
                transcript.match, transcript.seat, transcript.adapter, list(transcript.ids), pieces
            )
        )
        return len(self.transcripts) - 1

    def revert(self, context: SeatContext, length: int) -> None:
        """Truncate a conversation."""
        context.conversation.rewind(length)
        pieces = self.transcripts[context.number].pieces
        while pieces and pieces[-1][1] >= length:
            pieces.pop()
