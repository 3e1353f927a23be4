"""Errors for users, and name lookup with suggestions.

Every mistake that a user can make raises a `ComityError`: one line that says what is wrong
and what to do. The command line prints it and exits with code 2 (misuse) or 1 (the work itself
failed); a traceback appears only under `--debug`.
"""

import difflib
import warnings
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


class ComityError(Exception):
    """An error that the user can fix; `str()` of it is one line."""

    exit_code = 2
    shared = False
    """Whether all ranks of a run raise it, so that one on every machine prints it."""


class WorkError(ComityError):
    """The request was valid but the work failed (a full disk, NaN in a loss)."""

    exit_code = 1


class ComityWarning(RuntimeWarning):
    """A warning to the user; the work continues, and the command line shows one line."""


def warn(message: str) -> None:
    """Warns the user; the work continues."""
    warnings.warn(message, ComityWarning, stacklevel=3)


def printable(text: str) -> str:
    """`text` on one line, with control and invisible characters escaped (`\\x1b`).

    File names and contents of untrusted files end up in messages.
    """
    line = " ".join(text.split())
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in line
    )


POINTED = 60
"""Most characters of a pointed-at text that are shown on each side of its place."""


def pointed_at(text: str) -> list[str]:
    """A message, and where it ends with a text and a caret below it, these two lines.

    Of a long text only what is near the caret is shown.
    """
    lines = text.split("\n")
    if len(lines) < 3 or lines[-1].strip() != "^":
        return [text]
    *message, wrong, caret = lines
    place = caret.index("^")
    start = max(0, place - POINTED)
    shown = "".join(one if one.isprintable() else "?" for one in wrong)
    return [" ".join(message), shown[start : place + POINTED], f"{' ' * (place - start)}^"]


def close_names(name: str, known: Mapping[str, object] | list[str]) -> list[str]:
    """At most three of the known names that are spelled like `name`, nearest first."""
    return difflib.get_close_matches(str(name), sorted(known), n=3, cutoff=0.5)


def nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    """'Did you mean ...? Known: ...' for an unknown name, nearest spellings first."""
    names = sorted(known)
    close = close_names(name, names)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}known: {', '.join(names)}"


def lookup(kind: str, name: str, known: Mapping[str, Value]) -> Value:
    """`known[name]`, or a `ComityError` that lists the nearest known names."""
    if name not in known:
        raise ComityError(f"unknown {kind} {name!r}; {nearest(name, known)}")
    return known[name]


def one_line(error: BaseException) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__
