"""Forms of generated answers: one object for the prompt, the parser and the grammar.

- `Form`: the format in prompts (`format_text`), the accepted texts (`pattern`), the pattern for
  constrained decoding (`decoding_pattern`), and the parser (`read`).
- `MessageForm`, `ClaimForm`, `DivisionForm` (a claim with the shares of all seats), `ChoiceForm`.
  `MessageOrClaimForm`: a message, or a claim instead. `Thinking`: a block before any of them.
- `sanitize`: messages of other players as they are shown.

The grammars are those of the negotiation studies (arXiv 2511.19405), with delimiters as parameters.
Patterns are regular expressions of the whole answer; surrounding white space is ignored.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from comity.errors import ComityError
from comity.games.base import ILLEGAL, Illegal, Reply
from comity.prompts.answer_forms.claims import ClaimForm, DivisionForm
from comity.prompts.answer_forms.delimiters import Delimiters, between
from comity.prompts.answer_forms.patterns import BODY, SPACE, literal
from comity.prompts.answer_forms.sanitize import sanitize

THINK = Delimiters("<think>", "</think>")
"""Around a thinking block."""

__all__ = [
    "ChoiceForm",
    "ClaimForm",
    "DivisionForm",
    "Form",
    "MessageForm",
    "MessageOrClaimForm",
    "Thinking",
    "sanitize",
]


class Form(Protocol):
    """Implementations are frozen dataclasses."""

    @property
    def pattern(self) -> str:
        """A regular expression of all accepted answers."""
        ...

    @property
    def decoding_pattern(self) -> str:
        """A regular expression for constrained decoding: `pattern` in one layout, unless loose."""
        ...

    @property
    def closing(self) -> str:
        """The end of an answer whose free text is truncated; "" if truncation makes it illegal."""
        ...

    @property
    def longest(self) -> str:
        """The longest legal answer in the standard layout, not counting free text.

        It determines token budgets.
        """
        ...

    def format_text(self) -> str:
        """The format as prompts show it."""
        ...

    def read(self, text: str) -> Reply:
        """The reply of an answer; ILLEGAL if the stripped text does not match `pattern`."""
        ...


@dataclass(frozen=True)
class MessageForm:
    """A text of at most `limit` characters between delimiters."""

    delimiters: Delimiters
    limit: int

    def __post_init__(self) -> None:
        self.delimiters.bounds_text()
        if self.limit < 1:
            raise ComityError(f"the limit of a message must be at least 1, not {self.limit}")

    @property
    def pattern(self) -> str:
        """O BODY C."""
        opens, closes = literal(self.delimiters.opens), literal(self.delimiters.closes)
        return f"{opens}{BODY}{{0,{self.limit}}}{closes}"

    @property
    def decoding_pattern(self) -> str:
        """As the pattern: white space is part of the text."""
        return self.pattern

    @property
    def closing(self) -> str:
        """The closing delimiter."""
        return self.delimiters.closes

    @property
    def longest(self) -> str:
        """A message of one letter."""
        return f"{self.delimiters.opens}x{self.delimiters.closes}"

    def format_text(self) -> str:
        """With dots for the text."""
        return f"{self.delimiters.opens}...{self.delimiters.closes}"

    def read(self, text: str) -> str | Illegal:
        """The sanitized message."""
        found = text.strip()
        if not re.fullmatch(self.pattern, found):
            return ILLEGAL
        inner = found[len(self.delimiters.opens) : len(found) - len(self.delimiters.closes)]
        return sanitize(inner, self.limit)


@dataclass(frozen=True)
class MessageOrClaimForm:
    """A message, or a claim instead; their opening delimiters differ."""

    message: MessageForm
    claim: ClaimForm | DivisionForm
    spent: bool = False
    """No messages are left: constrained decoding allows claims only. A message is still parsed, as
    one too many."""

    def __post_init__(self) -> None:
        first, other = self.message.delimiters.opens, self.claim.delimiters.opens
        if first.startswith(other) or other.startswith(first):
            raise ComityError(
                f"the delimiters {first!r} of messages and {other!r} of claims begin alike; they "
                "must tell messages from claims"
            )

    @property
    def pattern(self) -> str:
        """message | claim."""
        return f"({self.message.pattern}|{self.claim.pattern})"

    @property
    def decoding_pattern(self) -> str:
        """The same with decoding patterns; only that of the claim if no messages are left."""
        return (
            self.claim.decoding_pattern
            if self.spent
            else f"({self.message.decoding_pattern}|{self.claim.decoding_pattern})"
        )

    @property
    def closing(self) -> str:
        """That of the message."""
        return "" if self.spent else self.message.closing

    @property
    def longest(self) -> str:
        """The longer of the two."""
        return max(self.message.longest, self.claim.longest, key=len)

    def format_text(self) -> str:
        """Both, or the claim alone."""
        if self.spent:
            return self.claim.format_text()
        return f"{self.message.format_text()} or {self.claim.format_text()}"

    def read(self, text: str) -> Reply:
        """A claim or a message."""
        claim = self.claim.read(text)
        return self.message.read(text) if isinstance(claim, Illegal) else claim


@dataclass(frozen=True)
class ChoiceForm:
    """One of the labels between delimiters, or bare."""

    delimiters: Delimiters
    labels: tuple[str, ...]
    loose: bool = False
    """Constrained decoding allows white space around the label."""

    def __post_init__(self) -> None:
        for label in self.labels:
            if not label or label != label.strip():
                raise ComityError(f"a label must be text without spaces around it, not {label!r}")
        if len(set(self.labels)) != len(self.labels):
            raise ComityError(f"labels must differ, not {', '.join(self.labels)}")
        self.delimiters.bounds_words()

    @property
    def pattern(self) -> str:
        """O WS (label | label ...) WS C."""
        return self._written(SPACE)

    @property
    def decoding_pattern(self) -> str:
        """With the gap of the delimiters."""
        return self.pattern if self.loose else self._written(literal(self.delimiters.gap))

    def _written(self, edge: str) -> str:
        opens, closes = literal(self.delimiters.opens), literal(self.delimiters.closes)
        ways = "|".join(map(literal, self.labels))
        first, last = (edge if mark else "" for mark in (opens, closes))
        return f"{opens}{first}({ways}){last}{closes}"

    @property
    def closing(self) -> str:
        """ "": a choice has no free text."""
        return ""

    @property
    def longest(self) -> str:
        """The answer with most characters."""
        return max(self.answers, key=len)

    @property
    def answers(self) -> tuple[str, ...]:
        """Every answer in the standard layout, by label."""
        return tuple(between(self.delimiters, label) for label in self.labels)

    def format_text(self) -> str:
        """All answers."""
        return " or ".join(self.answers)

    def read(self, text: str) -> int | Illegal:
        """The index of the label."""
        found = text.strip()
        if not re.fullmatch(self.pattern, found):
            return ILLEGAL
        inner = found[len(self.delimiters.opens) : len(found) - len(self.delimiters.closes)]
        return self.labels.index(inner.strip())


@dataclass(frozen=True)
class Thinking:
    """A thinking block of at most `limit` characters, before the answer."""

    limit: int
    delimiters: Delimiters = THINK

    def __post_init__(self) -> None:
        self.delimiters.bounds_text()
        if self.limit < 1:
            raise ComityError(f"the limit of a thought must be at least 1, not {self.limit}")

    @property
    def pattern(self) -> str:
        """<think> BODY </think>."""
        return MessageForm(self.delimiters, self.limit).pattern

    @property
    def decoding_pattern(self) -> str:
        """As the pattern."""
        return self.pattern

    @property
    def closing(self) -> str:
        """The closing delimiter."""
        return self.delimiters.closes

    @property
    def longest(self) -> str:
        """A block of one letter."""
        return MessageForm(self.delimiters, self.limit).longest

    def format_text(self) -> str:
        """With dots for the text."""
        return MessageForm(self.delimiters, self.limit).format_text()

    def format_request(self) -> str:
        """The sentence that is added to a prompt's request."""
        return f"Before that, think in at most {self.limit} characters: {self.format_text()}"

    def read(self, text: str) -> str | Illegal:
        """The text of the block."""
        found = text.strip()
        if not re.fullmatch(self.pattern, found):
            return ILLEGAL
        return found[len(self.delimiters.opens) : len(found) - len(self.delimiters.closes)]
