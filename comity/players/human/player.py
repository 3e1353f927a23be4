"""A human at the terminal as a player.

Humans see the same prompts as language models and type the bare answer
(`comity.players.human.input_parsing`). Invalid input is rejected with the reason and asked for
again; `help` shows the rules, `quit` ends the match.
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
    """Where a human reads and types. Implementations must neutralize control characters."""

    def show(self, title: str, text: str) -> None:
        """Show a text with a title."""
        ...

    def say(self, text: str) -> None:
        """Show a line."""
        ...

    def complain(self, text: str) -> None:
        """Show why the last input was rejected."""
        ...

    def turn_of(self, name: str) -> None:
        """Announce whose turn it is, if several humans share the screen."""
        ...

    def read(self, hint: str) -> str:
        """One line of input; raises EOFError at its end."""
        ...


class QuitError(ComityError):
    """The human left."""

    exit_code = 130


class NoHumanSeatError(ComityError):
    """There is no human to give input."""


@dataclass(frozen=True)
class HumanPlayer:
    """A human; its own backend."""

    name: str
    prompt: Prompt
    screen: Screen
    shared: bool = False
    """Other humans use the same screen."""
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
    """A human during one rollout."""

    def __init__(self, player: HumanPlayer) -> None:
        self.transcripts: list[Transcript] = []
        self.recording = None
        self._player = player
        self._started: set[tuple[int, int]] = set()
        """(match, seat) whose rules have been shown."""

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        return [self._respond(request) for request in requests]

    def finish(self) -> dict[int, Response]:
        """Nothing: responses are always complete."""
        return {}

    def fork(self, source: int, target: int, answers: Mapping[int, int]) -> None:
        """Not supported: humans are not asked for counterfactual decisions."""
        raise ComityError("matches with a person cannot branch off")

    def _respond(self, request: Request) -> Response:
        player, turn = self._player, request.turn
        prompt, screen, place = (
            player.prompt.sample_variant(request.stream),
            player.screen,
            (request.match, turn.seat),
        )
        first = prompt.single_turn or place not in self._started
        self._started.add(place)
        tell = prompt.opening if first else prompt.following
        if player.shared:
            screen.turn_of(player.name)
        who = f"{player.name}, round" if player.shared else "Round"
        screen.show(f"{who} {turn.round + 1}", tell(request.game, turn))
        labels = prompt.labels(request.game)
        while True:
            text = self._read(hint(request, labels))
            word = text.strip().casefold()
            if word in HELP:
                screen.show("The rules, and what is asked", prompt.opening(request.game, turn))
                screen.say("quit leaves; matches that are over stay recorded.")
                continue
            if word in QUIT:
                raise QuitError("you left")
            try:
                reply = parse_input(text, request, prompt, labels)
            except InvalidInputError as why:
                screen.complain(str(why))
                continue
            legal = tuple(labels[move] for move in turn.legal)
            return Response(reply, text.strip(), legal=legal, parse_status="legal" if legal else "")

    def _read(self, hint: str) -> str:
        try:
            return self._player.screen.read(hint)
        except EOFError:
            raise NoHumanSeatError(
                "the input ended before the match did: play needs somebody at a terminal"
            ) from None
