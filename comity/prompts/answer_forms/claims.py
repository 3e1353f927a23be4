"""Forms of claims: units between delimiters (see `comity.prompts.answer_forms.forms`)."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from comity.errors import ComityError
from comity.games.base import ILLEGAL, Illegal
from comity.prompts.answer_forms.delimiters import Delimiters, between
from comity.prompts.answer_forms.patterns import SPACE, item_words, literal, numbers_to

_LETTERS = "xyzuvwabcdefghijklmnopqrst"
"""Placeholders for numbers in formats, in this order."""
_NEVER = set('<>"\\{},')
"""Characters that names of items and players must not contain."""


@dataclass(frozen=True)
class ClaimForm:
    """The units that a seat claims: a number, or one before each item's name, in order."""

    delimiters: Delimiters
    items: tuple[str, ...]
    stock: tuple[int, ...]
    loose: bool = False
    """Constrained decoding allows every layout, singular and letter case that is parsed."""

    def __post_init__(self) -> None:
        self.delimiters.bounds_words()
        check_names("items", self.items)
        _check_stock(self.items, self.stock)

    @property
    def pattern(self) -> str:
        """O WS NAT (" " item)? ("," WS NAT " " item)* WS C."""
        words = [literal(" ") + item_words(item) for item in self.items]
        return self._written(words, SPACE, SPACE)

    @property
    def decoding_pattern(self) -> str:
        """With the listed names, a space after commas and the gap of the delimiters."""
        if self.loose:
            return self.pattern
        words = [literal(f" {item}") for item in self.items]
        return self._written(words, literal(self.delimiters.gap), " ")

    def _written(self, words: Sequence[str], edge: str, between: str) -> str:
        numbers = [numbers_to(most) for most in self.stock]
        parts = numbers
        if len(self.items) > 1:
            parts = [number + word for number, word in zip(numbers, words, strict=True)]
        last = edge if self.delimiters.closes else ""  # trailing space is stripped
        opens, closes = literal(self.delimiters.opens), literal(self.delimiters.closes)
        return f"{opens}{edge}{f',{between}'.join(parts)}{last}{closes}"

    @property
    def closing(self) -> str:
        """ "": a claim has no free text."""
        return ""

    @property
    def longest(self) -> str:
        """A claim of the whole stock."""
        return self._with([str(most) for most in self.stock])

    def format_text(self) -> str:
        """With letters for numbers."""
        return self._with(_LETTERS)

    def _with(self, numbers: Sequence[str]) -> str:
        parts = [f"{n} {item}" for n, item in zip(numbers, self.items, strict=False)]
        return between(self.delimiters, ", ".join(parts) if len(parts) > 1 else numbers[0])

    def read(self, text: str) -> tuple[int, ...] | Illegal:
        """Units by item."""
        found = text.strip()
        if not re.fullmatch(self.pattern, found):
            return ILLEGAL
        inner = found[len(self.delimiters.opens) : len(found) - len(self.delimiters.closes)]
        return tuple(int(part.split()[0]) for part in inner.split(","))


LISTED = 256
"""Most divisions that a grammar enumerates."""


@dataclass(frozen=True)
class DivisionForm:
    """A claim that states the shares of all seats by name, own share first."""

    delimiters: Delimiters
    names: tuple[str, ...]
    """Own name, then the others'."""
    items: tuple[str, ...]
    stock: tuple[int, ...]
    loose: bool = False
    """Constrained decoding allows white space inside the delimiters."""

    def __post_init__(self) -> None:
        self.delimiters.bounds_words()
        check_names("players", self.names)
        check_names("items", self.items)
        _check_stock(self.items, self.stock)

    @property
    def pattern(self) -> str:
        """O WS {"own": {"item": NAT, ...}, "other": {...}} WS C; the sum is checked in `read`."""
        return self._written(SPACE)

    @property
    def decoding_pattern(self) -> str:
        """With the gap of the delimiters; only numbers that add up if the divisions are few."""
        if self.loose:
            return self.pattern
        if len(self.names) == 2 and prod(q + 1 for q in self.stock) <= LISTED:
            ways = product(*(range(q + 1) for q in self.stock))
            return f"({'|'.join(literal(self._with(self._shares(own))) for own in ways)})"
        return self._written(literal(self.delimiters.gap))

    def _shares(self, own: Sequence[int]) -> list[str]:
        """Own numbers, then the rest for the other seat."""
        rest = (q - p for q, p in zip(self.stock, own, strict=True))
        return [str(number) for number in (*own, *rest)]

    def _written(self, edge: str) -> str:
        pairs = [
            literal(f'"{item}": ') + numbers_to(most)
            for item, most in zip(self.items, self.stock, strict=True)
        ]
        share = literal("{") + ", ".join(pairs) + literal("}")
        shares = ", ".join(literal(f'"{name}": ') + share for name in self.names)
        opens, closes = literal(self.delimiters.opens), literal(self.delimiters.closes)
        last = edge if self.delimiters.closes else ""
        return f"{opens}{edge}{literal('{')}{shares}{literal('}')}{last}{closes}"

    @property
    def closing(self) -> str:
        """ "": a claim has no free text."""
        return ""

    @property
    def longest(self) -> str:
        """With the shares of the first two seats that have most digits together."""
        own = [_widest(most) for most in self.stock]
        rest = [most - p for most, p in zip(self.stock, own, strict=True)]
        nothing = [[0] * len(self.items)] * (len(self.names) - 2)
        return self._with([str(n) for share in [own, rest, *nothing] for n in share])

    def format_text(self) -> str:
        """With letters for numbers."""
        return self._with(_LETTERS)

    def _with(self, numbers: Sequence[str]) -> str:
        count = len(self.items)
        shares = []
        for i, name in enumerate(self.names):
            own = zip(self.items, numbers[i * count : (i + 1) * count], strict=True)
            pairs = ", ".join(f'"{item}": {n}' for item, n in own)
            shares.append(f'"{name}": {{{pairs}}}')
        return between(self.delimiters, f"{{{', '.join(shares)}}}")

    def read(self, text: str) -> tuple[int, ...] | Illegal:
        """Own units by item; ILLEGAL also if the shares do not add up to the stock."""
        found = text.strip()
        if not re.fullmatch(self.pattern, found):
            return ILLEGAL
        inner = found[len(self.delimiters.opens) : len(found) - len(self.delimiters.closes)]
        shares = [list(share.values()) for share in json.loads(inner).values()]
        if tuple(map(sum, zip(*shares, strict=True))) != self.stock:
            return ILLEGAL
        return tuple(shares[0])


def check_names(what: str, names: Sequence[str]) -> None:
    """Raises `ComityError` unless names are distinct and need no escapes in answers."""
    for name in names:
        if not isinstance(name, str) or not name or name != name.strip() or not name.isprintable():
            raise ComityError(f"names of {what} must be words on one line, not {name!r}")
        if _NEVER & set(name):
            raise ComityError(f"the name {name!r} must be without commas, quotes and brackets")
    if len({name.lower() for name in names}) != len(names):
        raise ComityError(f"names of {what} must differ, not {', '.join(names)}")


def _check_stock(items: Sequence[str], stock: Sequence[int]) -> None:
    if not items or len(stock) != len(items) or min(stock) < 0:
        raise ValueError(f"the stock {stock} does not count the items {items}")


def _widest(stock: int) -> int:
    """The share of one seat for which both shares have most digits together."""
    return max(range(stock + 1), key=lambda own: len(str(own)) + len(str(stock - own)))
