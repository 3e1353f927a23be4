"""A person at the terminal as a player.

They are told what a language model would be told (the same prompt), and type the bare answer
(`comity.players.human.input_parsing`). What cannot be read is asked for again with the reason;
`help` shows the rules once more, `quit` ends the match.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from comity.errors import ComityError
from comity.players.base import Controller, PlayerSession, Request, Response, Transcript
from comity.players.human.input_parsing import InvalidInputError, hint, parse_input
from comity.prompts.base import Prompt

HELP = ("help", "?")
QUIT = ("quit", "exit")


class Screen(Protocol):
    """Where a person reads and types. Texts are shown as they are, and can do no harm."""

    def show(self, title: str, text: str) -> None:
        """A text with a title, set apart."""
        ...

    def say(self, text: str) -> None:
        """A line."""
        ...

    def complain(self, text: str) -> None:
        """Why the last line was not taken."""
        ...

    def turn_of(self, name: str) -> None:
        """It is this person's turn, where several share the screen."""
        ...

    def read(self, hint: str) -> str:
        """One line that was typed; raises EOFError where there is nobody any more."""
        ...


class QuitError(ComityError):
    """The person left."""

    exit_code = 130


class NoHumanSeatError(ComityError):
    """There is nobody who could type."""


@dataclass(frozen=True)
class HumanPlayer:
    """A person; it is its own host."""

    name: str
    prompt: Prompt
    screen: Screen
    shared: bool = False
    """Other persons sit at the same screen."""
    adapter: None = None
    version: int = -1
    trained: bool = False
    controller: Controller = "human"

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def backend(self) -> "HumanPlayer":
        return self

    def open(self) -> PlayerSession:
        return _HumanSession(self)

    def text(self, ids: Sequence[int]) -> str:
        return ""


class _HumanSession:
    """A person during one rollout."""

    def __init__(self, player: HumanPlayer) -> None:
        self.transcripts: list[Transcript] = []
        self.recording = None
        self._player = player
        self._told: set[tuple[int, int]] = set()
        """(match, seat) whose rules were shown."""

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        return [self._respond(request) for request in requests]

    def finish(self) -> dict[int, Response]:
        """Nothing: answers are whole at once."""
        return {}

    def fork(self, source: int, target: int, answers: Mapping[int, int]) -> None:
        """People are not asked what they would have done otherwise."""
        raise ComityError("matches with a person cannot branch off")

    def _respond(self, request: Request) -> Response:
        player, turn = self._player, request.turn
        prompt, screen, place = (
            player.prompt.sample_variant(request.stream),
            player.screen,
            (request.match, turn.seat),
        )
        first = prompt.single_turn or place not in self._told
        self._told.add(place)
        tell = prompt.opening if first else prompt.following
        if player.shared:
            screen.turn_of(player.name)
        who = f"{player.name}, round" if player.shared else "Round"
        screen.show(f"{who} {turn.round + 1}", tell(request.game, turn))
        labels = prompt.labels(request.game)
        while True:
            typed = self._read(hint(request, labels))
            word = typed.strip().casefold()
            if word in HELP:
                screen.show("The rules, and what is asked", prompt.opening(request.game, turn))
                screen.say("quit leaves; matches that are over stay recorded.")
                continue
            if word in QUIT:
                raise QuitError("you left")
            try:
                reply = parse_input(typed, request, prompt, labels)
            except InvalidInputError as why:
                screen.complain(str(why))
                continue
            legal = tuple(labels[move] for move in turn.legal)
            return Response(
                reply, typed.strip(), legal=legal, parse_status="legal" if legal else ""
            )

    def _read(self, hint: str) -> str:
        try:
            return self._player.screen.read(hint)
        except EOFError:
            raise NoHumanSeatError(
                "the input ended before the match did: play needs somebody at a terminal"
            ) from None
