"""Compositions of populations: `8xS_1xUT_1xDE`.

A composition is a list of items `COUNTxTYPE`, joined by `_`; agents take their indices in the
written order. A type is a learner of `comity.populations.types` (`UT`), a fixed strategy (`TFT`) or
the name of a reward (`anti_utilitarian`). A prefix chooses another kind of agent for a learner:
`tabular:UT`, `dqn:UT`, `LLM:UT`. Language models that do not learn: `LLM:run:FOLDER` (a trained
one), `LLM:adapter:FOLDER`, `LLM:model:ID` and `LLM:base` (untrained ones).
"""

import itertools
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from comity.errors import ComityError, nearest
from comity.populations.own_kinds import own_kinds
from comity.populations.types import FIXED_TYPES, LEARNER_TYPES
from comity.rewards import REWARDS

LANGUAGE_MODEL = "LLM:"
"""Prefix of agents that are language models."""

FROZEN = ("LLM:run:", "LLM:adapter:", "LLM:model:")
"""Prefixes of models that do not learn, before a folder or a model's name."""

BASE = "LLM:base"
"""The untrained model."""

KIND_PREFIXES = {"tabular:": "tabular", "dqn:": "dqn", LANGUAGE_MODEL: "language_model"}
"""Prefix of a learner type, and the kind of agent that it names."""

MOST_AGENTS = 10_000
"""Most agents of a population. Records have 16 bits for an agent's index."""

EXPECTED = "expected COUNTxTYPE items joined by _, such as 8xS_1xUT"

_SEPARATOR = re.compile(r"_(?=-?\d+x|$)")
"""An underscore before another item. Names of rewards and folders have underscores too."""


@dataclass(frozen=True)
class Composition:
    """The agents of a population, in the order of their indices."""

    text: str
    members: tuple[str, ...]
    """Type of every agent as it was written, with its prefix, `[N]`."""

    @property
    def size(self) -> int:
        """N."""
        return len(self.members)

    @cached_property
    def types(self) -> tuple[str, ...]:
        """Type of every agent without the prefix of its kind, `[N]`; a folder is kept."""
        return tuple(bare_type(member) for member in self.members)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Number of every agent among those that are written alike, from 0, `[N]`."""
        alike = {one: itertools.count() for one in self.members}
        return tuple(next(alike[one]) for one in self.members)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of all agents: type and number among its type ("UT 0"), `[N]`."""
        return tuple(f"{m} {n}" for m, n in zip(self.members, self.numbers, strict=True))


def is_frozen(member: str) -> bool:
    """Whether a member is a language model that does not learn."""
    return member == BASE or member.startswith(FROZEN)


def bare_type(member: str) -> str:
    """The type without the prefix of a kind: UT of `LLM:UT`; `LLM:run:FOLDER` stays."""
    if is_frozen(member):
        return member
    for prefix in kind_prefixes():
        if member.startswith(prefix):
            return member[len(prefix) :]
    return member


def kind_prefixes() -> dict[str, str]:
    """Every prefix of a learner type, and the kind that it names; also the user's own kinds."""
    return {**{f"{name}:": name for name in own_kinds()}, **KIND_PREFIXES}


def parse(text: str, more: Collection[str] = ()) -> Composition:
    """The composition that a text describes; `more`: further types (rewards of one's own).

    Raises `ComityError` with a caret under the place for a text that is no composition, an unknown
    type (with the nearest known ones), a count of 0 and fewer than two agents.
    """
    known = {**dict.fromkeys(LEARNER_TYPES), **dict.fromkeys(FIXED_TYPES)}
    known |= {**dict.fromkeys(REWARDS), **dict.fromkeys(more)}
    members: list[str] = []
    start = 0
    for item in _SEPARATOR.split(text):
        members += _members(text, item, start, list(known))
        start += len(item) + 1
    if len(members) < 2:
        raise _at(text, 0, "a population needs at least two agents, such as 1xUT_1xS")
    if len(members) > MOST_AGENTS:
        raise _at(text, 0, f"a population has at most {MOST_AGENTS} agents, not {len(members)}")
    return Composition(text, tuple(members))


def _members(text: str, item: str, start: int, known: list[str]) -> list[str]:
    """The agents of one item, which begins at `start`."""
    count, cross, kind = item.partition("x")
    if not cross or not count.strip().isdecimal():
        raise _at(text, start, EXPECTED)
    if int(count) == 0:
        raise _at(text, start, "the count must be at least 1")
    if int(count) > MOST_AGENTS:
        raise _at(text, start, f"a population has at most {MOST_AGENTS} agents")
    where = start + len(count) + 1
    if not kind:
        raise _at(text, where, "expected a type after x")
    bare = bare_type(kind)
    if is_frozen(kind):
        if kind in FROZEN:
            raise _at(text, where + len(kind), "expected a folder or a model after the colon")
    elif bare not in known:
        first = next((bare[:i] for i, c in enumerate(bare) if c == "_" and bare[:i] in known), None)
        if first is not None:  # S_UT: an item without a count, which no separator stands before.
            place = where + len(kind) - len(bare) + len(first) + 1
            raise _at(text, place, EXPECTED)
        alike = [one for one in known if one.casefold() == bare.casefold()]
        hint = f"did you mean {' or '.join(alike)}?" if alike else nearest(bare, known)
        raise _at(text, where + len(kind) - len(bare), f"unknown type {bare!r}; {hint}")
    elif bare in FIXED_TYPES and bare != kind:
        raise _at(text, where, f"{bare} is a fixed strategy and learns nothing: write {bare}")
    return [kind] * int(count)


def _at(text: str, place: int, problem: str) -> ComityError:
    """An error whose second and third line point at a place of the text."""
    return ComityError(f"composition: {problem}\n  {text}\n  {' ' * place}^")
