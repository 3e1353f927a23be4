"""Kinds of agents of the user's own: `bush:UT`, or `learner=bush` for all learners.

A kind is a class whose instances answer for all agents of the kind in all runs
(`comity.populations.base.AgentGroup`) and are made from their `Members`. It comes from the
dictionary `AGENTS` of a file in COMITY_PARTS, or from an entry point of the group `comity.agents`.
"""

import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from comity.errors import ComityError
from comity.populations.base import AgentGroup
from comity.registry import PARTS, own_parts

TAKEN = ("fixed", "dqn", "tabular", "language_model", "LLM")
"""Names of the kinds that exist already."""

Kind = Callable[[Any], AgentGroup]
"""Makes the group of some `comity.populations.members.Members`."""


def own_kinds() -> Mapping[str, Kind]:
    """The user's kinds by name; `ComityError` for a name that is taken or cannot be a prefix."""
    return _own_kinds(os.environ.get(PARTS, ""))


@cache
def _own_kinds(parts: str) -> Mapping[str, Kind]:
    """`parts` is only the key: compositions ask once for every agent."""
    found = own_parts("agent")
    for name in found:
        if name in TAKEN:
            raise ComityError(f"user-defined agent {name!r}: Comity has a kind of that name")
        if not re.fullmatch(r"[A-Za-z]\w*", name):
            raise ComityError(
                f"user-defined agent {name!r}: a name consists of letters, digits and _"
            )
    return found
