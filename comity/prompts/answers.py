"""Answer formats: how an answer is obtained and parsed.

A format says how the engine obtains an answer; `parse` gives the move of a text.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from comity.errors import ComityError, lookup
from comity.games.base import ILLEGAL, Action, Illegal


class AnswerFormat(Protocol):
    """How answers are obtained; implementations are frozen dataclasses."""

    name: ClassVar[str]

    @property
    def train_illegal(self) -> bool:
        """Train on an answer that is illegal after all attempts."""
        ...


@dataclass(frozen=True, kw_only=True)
class GenerationFormat:
    """Limits of generated answers: messages, claims and thinking blocks."""

    message_tokens: int = 120
    """Tokens after which a message is truncated and closed."""
    claim_tokens: int | None = None
    """Most tokens of a claim or response; null: those of the longest legal one."""
    thinking: int = 0
    """Most characters of a thinking block before every answer; 0: no thinking block."""
    train_thinking: bool = True
    """Train on thinking blocks as on answers."""
    train_illegal: bool = True
    """Train on an answer that is illegal after all attempts."""

    def __post_init__(self) -> None:
        for name in ("message_tokens", "claim_tokens"):
            tokens = getattr(self, name)
            if tokens is not None and tokens < 1:
                raise ComityError(f"{name} must be at least 1, not {tokens}")
        if self.thinking < 0:
            raise ComityError(f"thinking must be at least 0 characters, not {self.thinking}")


@dataclass(frozen=True, kw_only=True)
class Constrained(GenerationFormat):
    """Choices are scored and one is drawn, texts follow a grammar; no answer is illegal.

    But for a claim cut by `claim_tokens`, and shares of `DivisionForm` that do not add up.
    """

    name: ClassVar[str] = "constrained"


FALLBACKS = {
    "constrained": "decoded under the grammar, as with the format `constrained`",
    "illegal": "the last attempt stands, illegal as it is",
}
"""What follows when no attempt could be read."""

RETRY_FEEDBACK = {
    "none": "the next attempt is sampled in the same context, as if there had been none before",
    "append": "the failed answer stays in the prompt, followed by an error message",
}
"""What the prompt shows of an answer that could not be parsed."""


@dataclass(frozen=True, kw_only=True)
class Attempts(GenerationFormat):
    """Free answers until one can be parsed, up to a maximum; then the fallback."""

    name: ClassVar[str] = "attempts"
    complaint: ClassVar[str] = (
        "That answer cannot be read. Answer again, exactly in the format asked for."
    )
    """The text after a failed attempt with `retry_feedback=append`."""

    free_attempts: int = 1
    """Attempts without a grammar; -1: the fallback from the start."""
    fallback: str = "constrained"
    """One of `FALLBACKS`."""
    retry_feedback: str = "none"
    """One of `RETRY_FEEDBACK`."""
    train_attempts: bool = False
    """Train on failed attempts, with the advantage of the answer that followed.

    All attempts and the final answer are then one action with one gradient. Otherwise an accepted
    answer is trained on as if it had been the first attempt, which biases the gradient wherever
    attempts fail."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.free_attempts < 1 and self.free_attempts != -1:
            raise ComityError(
                "free_attempts must be at least 1, or -1 for the grammar from the start, "
                f"not {self.free_attempts}"
            )
        lookup("fallback", self.fallback, FALLBACKS)
        lookup("retry_feedback", self.retry_feedback, RETRY_FEEDBACK)
        constrained = self.fallback == "constrained"
        if self.free_attempts == -1 and not constrained:
            raise ComityError(
                "free_attempts=-1 leaves the fallback alone, which must be constrained"
            )
        if self.train_attempts and not self.train_illegal:
            raise ComityError(
                "train_attempts learns from the whole act of answering, and train_illegal=false "
                "leaves its end out; choose one of them"
            )
        if self.retry_feedback == "append" and self.free_attempts < (1 if constrained else 2):
            raise ComityError(
                "retry_feedback=append complains before another attempt, and there is none: "
                "give more free_attempts, or set retry_feedback=none"
            )


@dataclass(frozen=True)
class Free:
    """The answer is sampled token by token and read strictly; it may turn out illegal."""

    name: ClassVar[str] = "free"

    max_tokens: int | None = 8
    """The answer is cut after so many tokens; null: those of the longest legal one and 4 more."""
    train_illegal: bool = True
    """Train on illegal answers."""

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ComityError(f"max_tokens must be at least 1, not {self.max_tokens}")


ANSWERS: dict[str, Callable[..., AnswerFormat]] = {
    "constrained": Constrained,
    "attempts": Attempts,
    "free": Free,
}
"""Every answer format by name."""


def parse(text: str, labels: Sequence[str]) -> Action:
    """The move whose label is the stripped text; else ILLEGAL."""
    answer = text.strip()
    return labels.index(answer) if answer in labels else ILLEGAL


def cannot_become_legal(text: str, labels: Sequence[str]) -> bool:
    """Every continuation of this prefix is illegal for `parse`."""
    begun = text.lstrip()
    # A multi-token character may be incomplete.
    if begun.endswith("\N{REPLACEMENT CHARACTER}"):
        return False
    return begun.rstrip() not in labels and not any(label.startswith(begun) for label in labels)


PARSE_STATUSES: dict[str, str] = {
    "legal": "exactly one label, but for whitespace around it",
    "labels": "a label among other words, or several labels",
    "truncated": "cut at the limit before any label",
    "empty": "nothing but whitespace",
    "other": "ended without naming any label: a refusal, a question, other words",
    "exceeded": "a message where only a claim was left to give; it ended the round",
    "refused": "no answer: the model behind an API refused, or a content filter held it back",
    "cut_off": "no answer: the model behind an API reached its token limit before the answer ended",
}
"""The results of parsing."""

NOT_BEHAVIOR = ("refused", "cut_off")
"""Those that say nothing of how the player plays; they are not counted as illegal answers."""


def parse_status(text: str, labels: Sequence[str], stopped: bool) -> str:
    """A key of `PARSE_STATUSES`; `stopped`: the answer ended before its limit."""
    if not isinstance(parse(text, labels), Illegal):
        return "legal"
    if any(_names(text, label) for label in labels):
        return "labels"
    if not stopped:
        return "truncated"
    return "other" if text.strip() else "empty"


def parse_lenient(text: str, labels: Sequence[str]) -> Action:
    """The move of the only label in the text (as a whole word); else ILLEGAL."""
    found = [move for move, label in enumerate(labels) if _names(text, label)]
    return found[0] if len(found) == 1 else ILLEGAL


def _names(text: str, label: str) -> bool:
    """The text contains the label as a whole word."""
    return re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text) is not None
