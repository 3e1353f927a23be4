"""A person at the terminal as a player.

They are told what a language model would be told (the same prompt), and type the bare answer
(`comity.players.human.input_parsing`). What cannot be read is asked for again with the reason;
`help` shows the rules once more, `quit` ends the match.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from comity.errors import ComityError
from comity.players.base import Answer, Ask, Controller, Table, Talk
from comity.players.human.input_parsing import UnreadableError, hint, read
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


class NobodyError(ComityError):
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
    def host(self) -> "HumanPlayer":
        return self

    def open(self) -> Table:
        return _Sitting(self)

    def text(self, ids: Sequence[int]) -> str:
        return ""


class _Sitting:
    """A person during one rollout."""

    def __init__(self, player: HumanPlayer) -> None:
        self.talks: list[Talk] = []
        self.recording = None
        self._player = player
        self._told: set[tuple[int, int]] = set()
        """(match, seat) whose rules were shown."""

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        return [self._ask(ask) for ask in asks]

    def finish(self) -> dict[int, Answer]:
        """Nothing: answers are whole at once."""
        return {}

    def fork(self, source: int, target: int, answers: Mapping[int, int]) -> None:
        """People are not asked what they would have done otherwise."""
        raise ComityError("matches with a person cannot branch off")

    def _ask(self, ask: Ask) -> Answer:
        player, turn = self._player, ask.turn
        prompt, screen, place = (
            player.prompt.varied(ask.stream),
            player.screen,
            (ask.match, turn.seat),
        )
        first = prompt.fresh or place not in self._told
        self._told.add(place)
        tell = prompt.opening if first else prompt.following
        if player.shared:
            screen.turn_of(player.name)
        who = f"{player.name}, round" if player.shared else "Round"
        screen.show(f"{who} {turn.round + 1}", tell(ask.game, turn))
        labels = prompt.labels(ask.game)
        while True:
            typed = self._read(hint(ask, labels))
            word = typed.strip().casefold()
            if word in HELP:
                screen.show("The rules, and what is asked", prompt.opening(ask.game, turn))
                screen.say("quit leaves; matches that are over stay recorded.")
                continue
            if word in QUIT:
                raise QuitError("you left")
            try:
                reply = read(typed, ask, prompt, labels)
            except UnreadableError as why:
                screen.complain(str(why))
                continue
            legal = tuple(labels[move] for move in turn.legal)
            return Answer(reply, typed.strip(), legal=legal, parse_status="legal" if legal else "")

    def _read(self, hint: str) -> str:
        try:
            return self._player.screen.read(hint)
        except EOFError:
            raise NobodyError(
                "the input ended before the match did: play needs somebody at a terminal"
            ) from None
