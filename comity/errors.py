"""The one exception that users see, and how names are looked up.

Every mistake that a user can make ends in a `ComityError`: one line that says what is
wrong and what to do. The command prints that line and exits with code 2 (misuse) or 1
(the work itself failed); a traceback appears only under `--debug`.
"""

import difflib
import warnings
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


class ComityError(Exception):
    """Something that the user can mend; `str()` of it is one line."""

    exit_code = 2


class WorkError(ComityError):
    """The request was fine but the work failed (a full disk, NaN in a loss)."""

    exit_code = 1


class ComityWarning(RuntimeWarning):
    """Something that the user should know while the work goes on; the command shows one line."""


def warn(message: str) -> None:
    """Warns the user of something that does not stop the work."""
    warnings.warn(message, ComityWarning, stacklevel=3)


def printable(text: str) -> str:
    """`text` in one line, what would steer a terminal (or hide in it) as its escape: `\\x1b`.

    Names of files and what other people's files hold end up in messages.
    """
    line = " ".join(text.split())
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in line
    )


def nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    """'Did you mean ...? Known: ...' for an unknown name, nearest spellings first."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}known: {', '.join(names)}"


def lookup(kind: str, name: str, known: Mapping[str, Value]) -> Value:
    """`known[name]`, or a `ComityError` that lists the nearest known names."""
    if name not in known:
        raise ComityError(f"unknown {kind} {name!r}; {nearest(name, known)}")
    return known[name]


def one_line(error: BaseException) -> str:
    """An error's text with its line breaks taken out."""
    return " ".join(str(error).split()) or type(error).__name__
