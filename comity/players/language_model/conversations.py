"""The conversations of one rollout: what is told, and how the answers come about.

Text becomes tokens once, when it is told. What the model chose is kept as ids and never
re-tokenized. Answers come in two ways, both batched over all matches:

- *scored* (`comity.players.language_model.scored_answers`): the legal answers are a short list; one
  is drawn from their exact distribution;
- *written* (`comity.players.language_model.generation`): tokens are sampled, freely or under a
  grammar.

A thinking block and failed attempts are answers of their own that come before the one that
counts (`Response.before`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from comity.engines.local.session import Conversation, Session
from comity.games.base import Action, Illegal
from comity.players.base import Request, Response, Transcript
from comity.players.language_model import generation as writing
from comity.players.language_model import scored_answers as choosing
from comity.prompts.answer_forms.forms import Thinking
from comity.prompts.answers import AnswerFormat, Attempts, Free, GenerationFormat
from comity.prompts.base import Prompt
from comity.prompts.exploration import EXPLORATION, ExplorationPrompt

if TYPE_CHECKING:
    from comity.players.language_model.player import LanguageModelBackend


@dataclass
class Place:
    """Where a seat of a match speaks."""

    number: int
    """Of its talk."""
    conversation: Conversation
    ended: bool = False
    """Whether the model ended its last turn itself."""
    marks: list[tuple[int, bool]] = field(default_factory=list)
    """Length, and `ended`, before each time that the seat was told something."""


class Conversations:
    """A host's table (`comity.players.base.PlayerSession`)."""

    def __init__(self, models: "LanguageModelBackend") -> None:
        self.transcripts: list[Transcript] = []
        self.models = models
        self.session = models.engine.session(models.record, models.dropout_adapters)
        self.prefetched = False
        """The questions after all joint moves were computed ahead."""
        self.shown: dict[tuple[int, int], tuple[Action, ...]] = {}
        """By (match, seat): the joint move after which those of all later rounds were."""
        self.pending: list[writing.PendingResponse] = []
        """Answers of which nothing but the action is known yet."""
        self._prompts: dict[int, tuple[Prompt, tuple[str, ...]]] = {}
        """By match: the prompt as told there, and its labels by move."""
        self._open: dict[tuple[int, int], Place] = {}
        """By (match, seat)."""
        self._streams: dict[int, tuple[int | str, ...]] = {}
        """By match: where its instructions are drawn from; a fork's: the match's that it left."""

    @property
    def recording(self) -> Session:
        """The session, of which a first learning step may reuse the passes."""
        return self.session

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        """One answer per ask; all are one batch of the engine."""
        places = [self._tell(request) for request in requests]
        form = self.models.answer
        given: list[Response | None] = [None] * len(requests)
        before: list[list[Response]] = [[] for _ in requests]
        if isinstance(form, Free):
            given = list(writing.generate_free(self, requests, places))
        if isinstance(form, GenerationFormat) and form.thinking:
            for notes, thought in zip(
                before, writing.generate_thinking(self, requests, places), strict=True
            ):
                notes.append(thought)
        if isinstance(form, Attempts):
            given = list(writing.generate_attempts(self, requests, places, before))
        # Whoever has no answer yet gives one of the legal ones.
        scored = [
            i for i, request in enumerate(requests) if given[i] is None and request.turn.legal
        ]
        constrained = [
            i for i, request in enumerate(requests) if given[i] is None and not request.turn.legal
        ]
        for members, answered in (
            (scored, choosing.score_and_sample),
            (constrained, writing.generate_constrained),
        ):
            if members:
                found = answered(
                    self,
                    [requests[i] for i in members],
                    [places[i] for i in members],
                    [sum(one.kind == "attempt" for one in before[i]) for i in members],
                )
                for i, answer in zip(members, found, strict=True):
                    given[i] = answer
        return [
            _with_previous(_without_illegal_training(answer, form), notes)
            for answer, notes in zip(given, before, strict=True)
            if answer is not None
        ]

    def finish(self) -> dict[int, Response]:
        """Answers that waited for their rests, by their conversation."""
        return writing.finish(self)

    def _tell(self, request: Request) -> Place:
        """Append what the seat is told now."""
        models, turn = self.models, request.turn
        prompt, _ = self.prompt(request)
        key = (request.match, turn.seat)
        form = models.answer
        thinking = form.thinking if isinstance(form, GenerationFormat) else 0
        note = f"\n{Thinking(thinking).format_request()}" if thinking else ""
        ended: bool | None = None
        if prompt.single_turn or key not in self._open:
            text = prompt.opening(request.game, turn) + note
            conversation = self.session.conversation(request.player.adapter)
            self.transcripts.append(
                Transcript(request.match, turn.seat, request.player.adapter, conversation.ids)
            )
            self._open[key] = Place(len(self.transcripts) - 1, conversation)
        else:
            text = prompt.following(request.game, turn) + note
            ended = self._open[key].ended
        place = self._open[key]
        place.marks.append((len(place.conversation.ids), place.ended))
        place.ended = False
        instruction, ending = self._instruction(request, prompt)
        if instruction:
            at = len(text) - len(ending + note)
            told, aside, rest = models.chat.with_aside(text, at, instruction, ended)
            self.append("prompt", place, told)
            self.append(EXPLORATION, place, aside)
            self.append("prompt", place, rest)
        elif ended is None:
            self.append("prompt", place, models.opening_ids(text))
        else:
            self.append("prompt", place, models.chat.next(text, ended))
        return place

    def _instruction(self, request: Request, prompt: Prompt) -> tuple[str, str]:
        """What a learner is told for this round ("": nothing), and what the text goes on with.

        In a branch that is what the match itself was told: like the game's chances it does not
        follow from what anybody answers.
        """
        exploration = self.models.exploration
        if not (exploration and request.player.trained and isinstance(prompt, ExplorationPrompt)):
            return "", ""
        stream = self._streams.setdefault(request.match, request.stream)
        ending = prompt.ending(request.game, request.turn)
        if ending is None:
            return "", ""
        return exploration.sample_instruction(stream, request.turn.seat, request.turn.round), ending

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
            place = self._open.get((source, seat))
            if place is None or count == 0 or self._prompts[source][0].single_turn:
                continue
            now = (len(place.conversation.ids), place.ended)
            length, ended = [*place.marks, now][count]
            transcript = self.transcripts[place.number]
            conversation = self.session.fork(place.conversation, length)
            pieces = [piece for piece in transcript.pieces if piece[2] <= length]
            self.transcripts.append(
                Transcript(target, seat, transcript.adapter, conversation.ids, pieces)
            )
            number = len(self.transcripts) - 1
            marks = place.marks[:count]
            self._open[target, seat] = Place(number, conversation, ended, marks)

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
            prompt = self.models.prompt.sample_variant(request.stream)
            self._prompts[request.match] = prompt, prompt.labels(request.game)
        return self._prompts[request.match]

    def legal(self, request: Request) -> tuple[str, ...]:
        """The legal answers as told."""
        _, labels = self.prompt(request)
        return tuple(labels[move] for move in request.turn.legal)

    def append(self, kind: str, place: Place, ids: Sequence[int]) -> None:
        """Append ids to a conversation, of a kind of `comity.players.base.PIECES`."""
        if ids:
            first = len(place.conversation.ids)
            place.conversation.append(ids)
            self.transcripts[place.number].pieces.append((kind, first, len(place.conversation.ids)))

    def record_piece(self, kind: str, place: Place, start: int, end: int) -> None:
        """Say what kind of ids already stand in a conversation at `start .. end - 1`."""
        if end > start:
            self.transcripts[place.number].pieces.append((kind, start, end))

    def copy_transcript(self, place: Place, start: int) -> int:
        """A conversation of its own for the answer from `start` on, and its number.

        What was answered before is told in it.
        """
        transcript = self.transcripts[place.number]
        pieces = [
            ("prompt" if k == "answer" and e <= start else k, b, e) for k, b, e in transcript.pieces
        ]
        self.transcripts.append(
            Transcript(
                transcript.match, transcript.seat, transcript.adapter, list(transcript.ids), pieces
            )
        )
        return len(self.transcripts) - 1

    def revert(self, place: Place, length: int) -> None:
        """Shorten a conversation to what it was."""
        place.conversation.rewind(length)
        pieces = self.transcripts[place.number].pieces
        while pieces and pieces[-1][1] >= length:
            pieces.pop()


def _without_illegal_training(answer: Response, form: AnswerFormat) -> Response:
    """The answer, not to be learned from where it is illegal and the format says so."""
    if isinstance(answer.action, Illegal) and not form.train_illegal:
        return replace(answer, trainable=False)
    return answer


def _with_previous(answer: Response, before: Sequence[Response]) -> Response:
    """The answer with what came before it."""
    if not before:
        return answer
    failed = sum(one.kind == "attempt" for one in before)
    return replace(answer, before=tuple(before), attempts=1 + failed)
