"""The terminal as the screen of a human.

Messages of other players may try to imitate other output or to control the terminal. Control and
invisible characters are replaced, and no text is interpreted as markup.
"""

import contextlib
import io
import sys
import unicodedata

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

STRANGE = "\N{REPLACEMENT CHARACTER}"
"""Replaces characters that are not shown."""


class Terminal:
    """Shows texts in boxes and reads lines from standard input."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._turn = ""
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")
        self._typing = sys.stdin is not None and sys.stdin.isatty()
        if self._typing:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 (arrow keys in `input`)

    def show(self, title: str, text: str) -> None:
        """Show a text in a box."""
        panel = Panel(self._text(text), title=self._text(title), title_align="left")
        self._console.print(panel)

    def say(self, text: str) -> None:
        """Show a line."""
        self._console.print(self._text(text))

    def complain(self, text: str) -> None:
        """Show why the last input was rejected."""
        self._console.print(self._text(text, "red"))

    def turn_of(self, name: str) -> None:
        """Announce whose turn it is; on a terminal, clear what the others entered."""
        if self._turn and name != self._turn and self._typing and self._console.is_terminal:
            self.say(f"It is {name}'s turn now.")
            with contextlib.suppress(EOFError):
                self.read("only they look; Enter")
            self._console.clear()
        else:
            self.say(f"It is {name}'s turn.")
        self._turn = name

    def read(self, hint: str) -> str:
        """One typed line; EOFError at the input's end."""
        if sys.stdin is None:
            raise EOFError
        try:
            line = input(str(self._text(f"{hint} > ")))
        except (EOFError, KeyboardInterrupt):
            self._console.print()  # start a new line
            raise
        if not self._typing:
            # Input from a pipe: echo it as a terminal would.
            self._console.print(self._text(line))
        return line

    def _text(self, text: str, style: str = "") -> Text:
        """The text without markup, in characters of the terminal's encoding."""
        encoding = self._console.encoding
        return Text(shown(text).encode(encoding, "replace").decode(encoding), style)


def shown(text: str) -> str:
    """The text without control and invisible characters, except line breaks.

    Unicode's control (Cc), invisible format (Cf), separating (Zl, Zp), surrogate (Cs), private
    (Co) and unassigned (Cn) characters become `STRANGE`.
    """
    hidden = ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")
    return "".join(
        STRANGE if character != "\n" and unicodedata.category(character) in hidden else character
        for character in text
    )
