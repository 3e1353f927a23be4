"""Answer formats: how an answer is given and how it is read.

A format says how the engine obtains an answer; `parse` says which move a text is.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from comity.errors import ComityError
from comity.games.base import ILLEGAL, Action, Illegal


class AnswerFormat(Protocol):
    """How answers are obtained; implementations are frozen dataclasses."""

    name: ClassVar[str]


@dataclass(frozen=True)
class Forced:
    """The legal answers are scored and one is drawn; no illegal answer can occur."""

    name: ClassVar[str] = "forced"


@dataclass(frozen=True)
class Free:
    """The answer is sampled token by token and read strictly; it may turn out illegal."""

    name: ClassVar[str] = "free"

    max_tokens: int | None = 8
    """The answer is cut after so many tokens; null: those of the longest label and 4 more."""

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ComityError(f"max_tokens must be at least 1, not {self.max_tokens}")


ANSWERS: dict[str, Callable[..., AnswerFormat]] = {"forced": Forced, "free": Free}
"""Every answer format by name."""


def parse(text: str, labels: Sequence[str]) -> Action:
    """The move whose label the text is, but for whitespace around it; else ILLEGAL."""
    answer = text.strip()
    return labels.index(answer) if answer in labels else ILLEGAL


READINGS: dict[str, str] = {
    "legal": "exactly one label, but for whitespace around it",
    "labels": "a label among other words, or several labels",
    "truncated": "cut at the limit before any label",
    "empty": "nothing but whitespace",
    "other": "ended without naming any label: a refusal, a question, other words",
}
"""What a freely given answer turned out to be."""


def reading(text: str, labels: Sequence[str], stopped: bool) -> str:
    """A key of `READINGS`; `stopped`: the answer ended before its limit."""
    if not isinstance(parse(text, labels), Illegal):
        return "legal"
    if any(_names(text, label) for label in labels):
        return "labels"
    if not stopped:
        return "truncated"
    return "other" if text.strip() else "empty"


def parse_lenient(text: str, labels: Sequence[str]) -> Action:
    """The move whose label is the only one that occurs in the text as a whole word."""
    found = [move for move, label in enumerate(labels) if _names(text, label)]
    return found[0] if len(found) == 1 else ILLEGAL


def _names(text: str, label: str) -> bool:
    """The label occurs in the text as a whole word."""
    return re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text) is not None
