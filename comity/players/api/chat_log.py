"""The chats of one rollout with models behind an API, and their transcripts.

The tokens of such a model are not known. A transcript holds the Unicode code points of the text
instead, with every message under its role.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from comity.players.api.setup import ApiSetup
from comity.players.base import Request, Transcript
from comity.prompts.answer_forms.forms import Thinking
from comity.prompts.base import Prompt


def code_points(text: str) -> list[int]:
    """The text as numbers."""
    return [ord(one) for one in text]


def from_code_points(ids: Sequence[int]) -> str:
    """The text of such numbers."""
    return "".join(map(chr, ids))


@dataclass
class Chat:
    """The chat of one seat of a match."""

    number: int
    """Index of its transcript."""
    messages: list[dict[str, str]] = field(default_factory=list)
    turns: list[tuple[int, int]] = field(default_factory=list)
    """Number of messages and length of the transcript before each prompt."""


class ChatLog:
    """All chats of a rollout."""

    def __init__(self, setup: ApiSetup) -> None:
        self.transcripts: list[Transcript] = []
        self.setup = setup
        self._prompts: dict[int, tuple[Prompt, tuple[str, ...]]] = {}
        """By match: its prompt variant and the labels by move."""
        self._open: dict[tuple[int, int], Chat] = {}
        """By (match, seat)."""

    def prompt(self, request: Request) -> tuple[Prompt, tuple[str, ...]]:
        """The prompt variant of the request's match, and its labels by move."""
        if request.match not in self._prompts:
            prompt = self.setup.prompt.sample_variant(request.stream)
            self._prompts[request.match] = prompt, prompt.labels(request.game)
        return self._prompts[request.match]

    def append_prompt(self, request: Request) -> Chat:
        """Append the prompt of a request to its chat."""
        prompt, _ = self.prompt(request)
        turn, key = request.turn, (request.match, request.turn.seat)
        if prompt.single_turn or key not in self._open:
            text = prompt.opening(request.game, turn)
            self.transcripts.append(Transcript(request.match, turn.seat, None, []))
            chat = self._open[key] = Chat(len(self.transcripts) - 1)
            if self.setup.system is not None:
                self.say(chat, "system", self.setup.system)
        else:
            text = prompt.following(request.game, turn)
            chat = self._open[key]
        chat.turns.append((len(chat.messages), len(self.transcripts[chat.number].ids)))
        if self.setup.thinking:
            text += f"\n{Thinking(self.setup.thinking).format_request()}"
        self.say(chat, "user", text)
        return chat

    def say(self, chat: Chat, role: str, text: str) -> int:
        """Append a message; returns where its text begins in the transcript."""
        chat.messages.append({"role": role, "content": text})
        gap = "\n\n" if self.transcripts[chat.number].ids else ""
        start = self._record(chat, "prompt", f"{gap}[{role}]\n")
        if role != "assistant":
            self._record(chat, "prompt", text)
            return start
        self._record(chat, "answer", text)
        return start

    def _record(self, chat: Chat, kind: str, text: str) -> int:
        """Append text to the transcript as a piece; returns where it ends."""
        transcript = self.transcripts[chat.number]
        start = len(transcript.ids)
        transcript.ids.extend(code_points(text))
        if text:
            transcript.pieces.append((kind, start, len(transcript.ids)))
        return len(transcript.ids)

    def fork(self, source: int, target: int, answers: Mapping[int, int]) -> None:
        """Start match `target` with the chats of `source` at an earlier point.

        `answers`: the number of responses of each seat at that point. A seat without responses
        gets the opening prompt again.
        """
        if source in self._prompts:
            self._prompts[target] = self._prompts[source]
        for seat, count in answers.items():
            self._open.pop((target, seat), None)
            chat = self._open.get((source, seat))
            if chat is None or count == 0 or self._prompts[source][0].single_turn:
                continue
            transcript = self.transcripts[chat.number]
            now = (len(chat.messages), len(transcript.ids))
            messages, length = [*chat.turns, now][count]
            pieces = [piece for piece in transcript.pieces if piece[2] <= length]
            self.transcripts.append(Transcript(target, seat, None, transcript.ids[:length], pieces))
            self._open[target, seat] = Chat(
                len(self.transcripts) - 1, chat.messages[:messages], chat.turns[:count]
            )

    def position(self) -> tuple[int, int]:
        """Number of transcripts, and 0."""
        return len(self.transcripts), 0

    def rewind(self, position: tuple[int, int]) -> None:
        """Discard transcripts since a position."""
        del self.transcripts[position[0] :]
        known = {transcript.match for transcript in self.transcripts}
        self._open = {key: one for key, one in self._open.items() if one.number < position[0]}
        self._prompts = {match: one for match, one in self._prompts.items() if match in known}
