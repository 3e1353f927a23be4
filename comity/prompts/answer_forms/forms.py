"""What a written answer must look like: one object for the prompt, the parser and the grammar.

- `Form`: what a prompt tells (`format_text`), which texts are read (`pattern`), which of them a
  grammar writes (`decoding_pattern`), and what an answer means (`read`).
- `MessageForm`, `ClaimForm`, `DivisionForm`, `ChoiceForm`: talk, claims, claims that state every
  seat's share, choices. `MessageOrClaimForm`: a message, or a claim instead. `Thinking` is a block
  of thought, which is written before any of them.
- `sanitize`: how what another player wrote is told.

The grammars are those of the negotiation studies (arXiv 2511.19405), delimiters being
parameters. Patterns are regular expressions of the whole answer; white space around an answer
is never read.
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
"""Around a block of thought."""

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
        """A regular expression of every answer that is read."""
        ...

    @property
    def decoding_pattern(self) -> str:
        """What a grammar writes: as `pattern`, in one fixed layout unless the form is loose."""
        ...

    @property
    def closing(self) -> str:
        """What ends the answer where a limit cuts its free text; "" where a cut ruins it."""
        ...

    @property
    def longest(self) -> str:
        """A legal answer as long as they get in the guide's layout, but for a free text's length.

        It sizes token budgets.
        """
        ...

    def format_text(self) -> str:
        """The format as prompts tell it."""
        ...

    def read(self, text: str) -> Reply:
        """What the answer means; ILLEGAL where the stripped text does not match `pattern`."""
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
        """As the pattern: white space belongs to the text."""
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
        """The message, normalized."""
        found = text.strip()
        if not re.fullmatch(self.pattern, found):
            return ILLEGAL
        inner = found[len(self.delimiters.opens) : len(found) - len(self.delimiters.closes)]
        return sanitize(inner, self.limit)


@dataclass(frozen=True)
class MessageOrClaimForm:
    """A message, or the claim that ends the talk; how they begin tells which."""

    message: MessageForm
    claim: ClaimForm | DivisionForm
    spent: bool = False
    """All messages are written: a grammar writes claims alone. A message is still read, as one
    too many."""

    def __post_init__(self) -> None:
        told, other = self.message.delimiters.opens, self.claim.delimiters.opens
        if told.startswith(other) or other.startswith(told):
            raise ComityError(
                f"the delimiters {told!r} of messages and {other!r} of claims begin alike; they "
                "must tell messages from claims"
            )

    @property
    def pattern(self) -> str:
        """message | claim."""
        return f"({self.message.pattern}|{self.claim.pattern})"

    @property
    def decoding_pattern(self) -> str:
        """The same with the guides; only the claim's where no message is left."""
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
    """The grammar writes white space around the label."""

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
        """With the delimiters' own gap."""
        return self.pattern if self.loose else self._written(literal(self.delimiters.gap))

    def _written(self, edge: str) -> str:
        opens, closes = literal(self.delimiters.opens), literal(self.delimiters.closes)
        ways = "|".join(map(literal, self.labels))
        first, last = (edge if mark else "" for mark in (opens, closes))
        return f"{opens}{first}({ways}){last}{closes}"

    @property
    def closing(self) -> str:
        """Nothing: a choice has no free text."""
        return ""

    @property
    def longest(self) -> str:
        """The answer of most characters."""
        return max(self.answers, key=len)

    @property
    def answers(self) -> tuple[str, ...]:
        """Every answer in the guide's layout, by label."""
        return tuple(between(self.delimiters, label) for label in self.labels)

    def format_text(self) -> str:
        """All answers."""
        return " or ".join(self.answers)

    def read(self, text: str) -> int | Illegal:
        """The label's place among the labels."""
        found = text.strip()
        if not re.fullmatch(self.pattern, found):
            return ILLEGAL
        inner = found[len(self.delimiters.opens) : len(found) - len(self.delimiters.closes)]
        return self.labels.index(inner.strip())


@dataclass(frozen=True)
class Thinking:
    """A block of thought of at most `limit` characters; it answers nothing."""

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
        """A thought of one letter."""
        return MessageForm(self.delimiters, self.limit).longest

    def format_text(self) -> str:
        """With dots for the thought."""
        return MessageForm(self.delimiters, self.limit).format_text()

    def format_request(self) -> str:
        """The sentence that a prompt adds to its request."""
        return f"Before that, think in at most {self.limit} characters: {self.format_text()}"

    def read(self, text: str) -> str | Illegal:
        """The thought as it was written."""
        found = text.strip()
        if not re.fullmatch(self.pattern, found):
            return ILLEGAL
        return found[len(self.delimiters.opens) : len(found) - len(self.delimiters.closes)]
