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
    """Where a seat of a match speaks."""

    number: int
    """Of its talk."""
    conversation: Conversation
    ended: bool = False
    """Whether the model ended its last turn itself."""
    marks: list[tuple[int, bool]] = field(default_factory=list)
    """Length, and `ended`, before each time that the seat was told something."""


@dataclass(frozen=True)
class PendingResponse:
    """A free answer that is illegal however it goes on."""

    answering: SamplingState
    request: Request
    context: SeatContext
    start: int
    """Index in its conversation where it begins."""


class ConversationLog:
    """Every conversation that language models had in a rollout, and the engine session of it."""

    def __init__(self, setup: ModelSetup) -> None:
        self.transcripts: list[Transcript] = []
        self.setup = setup
        self.session = setup.engine.session(setup.record, setup.dropout_adapters)
        self.prefetched = False
        """The questions after all joint moves were computed ahead."""
        self.shown: dict[tuple[int, int], tuple[Action, ...]] = {}
        """By (match, seat): the joint move after which those of all later rounds were."""
        self.pending: list[PendingResponse] = []
        """Answers of which nothing but the action is known yet."""
        self._prompts: dict[int, tuple[Prompt, tuple[str, ...]]] = {}
        """By match: the prompt as told there, and its labels by move."""
        self._open: dict[tuple[int, int], SeatContext] = {}
        """By (match, seat)."""
        self._streams: dict[int, tuple[int | str, ...]] = {}
        """By match: where its instructions are drawn from; a fork's: the match's that it left."""

    @property
    def recording(self) -> Session:
        """The session, of which a first learning step may reuse the passes."""
        return self.session

    def fork(self, source: int, target: int, answers: Mapping[int, int]) -> None:
        """Begin match `target` with what `source` had when its seats had answered so often.

        A seat that had not answered yet is told the rules anew.
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
            length, ended = [*context.marks, now][count]
            transcript = self.transcripts[context.number]
            conversation = self.session.fork(context.conversation, length)
            pieces = [piece for piece in transcript.pieces if piece[2] <= length]
            self.transcripts.append(
                Transcript(target, seat, transcript.adapter, conversation.ids, pieces)
            )
            number = len(self.transcripts) - 1
            marks = context.marks[:count]
            self._open[target, seat] = SeatContext(number, conversation, ended, marks)

    def mark(self) -> tuple[int, int]:
        """How many conversations there are, and how many distinct tokens."""
        return len(self.transcripts), self.session.tokens

    def forget(self, mark: tuple[int, int]) -> None:
        """Back to a mark: conversations and tokens that came since are given up."""
        talks, tokens = mark
        del self.transcripts[talks:]
        self.session.rewind(tokens)
        known = {transcript.match for transcript in self.transcripts}
        self._open = {key: one for key, one in self._open.items() if one.number < talks}
        self.shown = {key: moves for key, moves in self.shown.items() if key[0] in known}
        self._prompts = {match: one for match, one in self._prompts.items() if match in known}
        self._streams = {match: one for match, one in self._streams.items() if match in known}

    def prompt(self, request: Request) -> tuple[Prompt, tuple[str, ...]]:
        """The prompt of the ask's match, and its labels by move."""
        if request.match not in self._prompts:
            prompt = self.setup.prompt.sample_variant(request.stream)
            self._prompts[request.match] = prompt, prompt.labels(request.game)
        return self._prompts[request.match]

    def legal(self, request: Request) -> tuple[str, ...]:
        """The legal answers as told."""
        _, labels = self.prompt(request)
        return tuple(labels[move] for move in request.turn.legal)

    def append(self, kind: str, context: SeatContext, ids: Sequence[int]) -> None:
        """Append ids to a conversation, of a kind of `comity.players.base.PIECES`."""
        if ids:
            first = len(context.conversation.ids)
            context.conversation.append(ids)
            self.transcripts[context.number].pieces.append(
                (kind, first, len(context.conversation.ids))
            )

    def record_piece(self, kind: str, context: SeatContext, start: int, end: int) -> None:
        """Say what kind of ids already stand in a conversation at `start .. end - 1`."""
        if end > start:
            self.transcripts[context.number].pieces.append((kind, start, end))

    def copy_transcript(self, context: SeatContext, start: int) -> int:
        """A conversation of its own for the answer from `start` on, and its number.

        What was answered before is told in it.
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
        """Shorten a conversation to what it was."""
        context.conversation.rewind(length)
        pieces = self.transcripts[context.number].pieces
        while pieces and pieces[-1][1] >= length:
            pieces.pop()
