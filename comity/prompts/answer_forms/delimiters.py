"""Delimiters around generated answers.

`Delimiters` are one pair; a `Protocol` has a pair for every kind of answer. `PROTOCOLS` are our own
set and the published ones (arXiv 2511.19405: the final release and an earlier version). Names in
{braces} are filled in with the goods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from comity.errors import ComityError, lookup

GOODS = "{goods}"
"""In a delimiter: the item's name where there is one item, else "items"."""


@dataclass(frozen=True)
class Delimiters:
    """The opening and the closing delimiter of an answer."""

    opens: str
    closes: str
    gap: str = ""
    """White space inside of both in the standard layout; parsing accepts other white space."""

    def __post_init__(self) -> None:
        for mark in (self.opens, self.closes):
            if not isinstance(mark, str) or mark != mark.strip() or not mark.isprintable():
                raise ComityError(f"a delimiter must be one line without spaces, not {mark!r}")
        if self.closes and not self.opens:
            raise ComityError(f"the delimiter {self.closes!r} closes what nothing opens")
        if self.opens and self.opens == self.closes:
            raise ComityError(f"both delimiters are {self.opens!r}: beginning and end are alike")

    def bounds_text(self) -> None:
        """Raises `ComityError` unless they can delimit any text without ambiguity."""
        if not self.closes:
            raise ComityError(f"a text after {self.opens!r} needs a delimiter that ends it")
        if not self.closes.startswith("<"):
            raise ComityError(
                f"the delimiter {self.closes!r} could be part of the text before it; "
                "what ends a text must begin with '<'"
            )

    def bounds_words(self) -> None:
        """Raises `ComityError` if words or numbers could merge with a delimiter."""
        if self.opens and self.opens[-1].isdigit():
            raise ComityError(f"the delimiter {self.opens!r} runs into the number after it")
        if self.opens and self.opens[-1].isalpha() and not self.gap:
            raise ComityError(f"the delimiter {self.opens!r} runs into the word after it")
        if self.closes and (self.closes[0].isalnum() or self.closes[0] in "_,"):
            raise ComityError(f"the delimiter {self.closes!r} could be part of what it ends")

    def of(self, items: Sequence[str]) -> "Delimiters":
        """With the goods filled in."""
        goods = items[0].replace(" ", "_") if len(items) == 1 else "items"
        opens, closes = (mark.replace(GOODS, goods) for mark in (self.opens, self.closes))
        return Delimiters(opens, closes, self.gap)


BARE = Delimiters("", "")
"""No delimiters."""


@dataclass(frozen=True)
class Protocol:
    """The delimiters of every kind of answer."""

    message: Delimiters = Delimiters("<message>", "</message>")
    claim: Delimiters = Delimiters("<claim>", "</claim>")
    response: Delimiters = Delimiters("<response>", "</response>")
    final: Delimiters = Delimiters("<finalize>", "</finalize>")
    """Around a claim that states the shares of all seats."""

    def __post_init__(self) -> None:
        self.message.bounds_text()
        for pair in (self.claim, self.response, self.final):
            pair.bounds_words()
            first, other = self.message.opens, pair.opens
            if first.startswith(other) or other.startswith(first):
                raise ComityError(
                    f"the delimiters {first!r} of messages and {other!r} of decisions begin alike; "
                    "they must tell talk from decisions"
                )


_RELEASE = Delimiters("<<proposal_start>>", "<<proposal_end>>", " ")
_EARLIER = Delimiters(f"<{GOODS}_to_self>", f"</{GOODS}_to_self>", " ")

PROTOCOLS: dict[str, Protocol] = {
    "tags": Protocol(),
    "final_release": Protocol(
        message=Delimiters("<<message_start>>", "<<message_end>>"),
        claim=_RELEASE,
        response=_RELEASE,
    ),
    "earlier": Protocol(claim=_EARLIER, response=_EARLIER),
    "no_press": Protocol(
        claim=Delimiters("Proposal:", "", " "), response=Delimiters("Response:", "", " ")
    ),
}
"""Sets of delimiters by name: our own, then the published ones."""


def protocol(given: str | Mapping[str, Sequence[str]]) -> Protocol:
    """A named set, or the default one with pairs `{kind: [opens, closes]}` replaced."""
    if isinstance(given, str):
        return lookup("set of delimiters", given, PROTOCOLS)
    sorts = {field.name: None for field in fields(Protocol)}
    pairs = {}
    for sort, pair in given.items():
        lookup("sort of answer", sort, sorts)
        if isinstance(pair, str) or len(pair) not in (2, 3):
            raise ComityError(f"delimiters.{sort} must be [opens, closes], not {pair!r}")
        pairs[sort] = Delimiters(*pair)
    return replace(Protocol(), **pairs)


def between(delimiters: Delimiters, inner: str) -> str:
    """An answer in the standard layout."""
    last = delimiters.gap if delimiters.closes else ""
    first = delimiters.gap if delimiters.opens else ""
    return f"{delimiters.opens}{first}{inner}{last}{delimiters.closes}"
