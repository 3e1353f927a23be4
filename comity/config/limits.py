"""Limits of the config's numbers, declared with each field and checked here."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from comity.errors import ComityError

LARGEST_SEED = 2**63 - 1
"""Seeds are stored in records as signed 64-bit integers."""

FITS = {
    "above": lambda value, limit: value > limit,
    "at_least": lambda value, limit: value >= limit,
    "below": lambda value, limit: value < limit,
    "at_most": lambda value, limit: value <= limit,
}
"""The kinds of limits."""


NAME_BYTES = 100
"""Maximum length of names that become folder names: of an experiment, an arm, a learner."""

COUNTS = {
    "rounds": 100_000,
    "cap": 100_000,
    "memory": 100_000,
    "seats": 1000,
    "kinds": 1000,
    "units": 100_000,
    "total": 100_000,
    "messages": 1000,
    "message_limit": 1_000_000,
    "max_tokens": 1_000_000,
    "thinking_tokens": 1_000_000,
    "label_length": 100,
    "epochs": 100_000,
    "minibatches": 100_000,
    "alternatives": 10_000,
    "branch_depth": 100_000,
    "microbatch_tokens": 100_000_000,
}
"""Maximum of integer parameters that are counts, by name.

Far beyond any real run; a larger number is a mistake that would exhaust memory or never finish.
"""


def limited(default: Any, **limits: float) -> Any:
    """A dataclass field with limits, named as in `FITS`; null is not checked."""
    return dataclasses.field(default=default, metadata=limits)


def check_limits(block: Any, above: str = "") -> None:
    """Raises `ComityError` for the first number out of range in nested dataclasses.

    `above`: prefix of the keys in the error.
    """
    for key, value, limits in _limited_fields(block, above):
        for kind, limit in limits.items():
            if not FITS[kind](value, limit):
                raise ComityError(f"{key}: {value} must be {kind.replace('_', ' ')} {limit}")
        if not math.isfinite(value):
            raise ComityError(f"{key}: {value} must be finite")


def check_values(config: Any) -> None:
    """Raises `ComityError` for invalid numbers, names and texts of a config."""
    check_limits(config)
    tree = dataclasses.asdict(config)
    check_texts(tree)
    check_name("name", config.name)
    arms = list(config.study.arms) if config.study else []
    for arm in arms:
        check_name("study.arms", arm)
    check_distinct("study.arms", arms)
    for key in ("game", "prompt", "answer", "reward", "algorithm"):
        check_counts(tree[key], key)


def check_counts(block: Any, above: str) -> None:
    """Raises `ComityError` for the first count above its maximum (`COUNTS`), also nested."""
    for key, value in block.items() if isinstance(block, Mapping) else ():
        most = COUNTS.get(str(key))
        if most is not None and isinstance(value, int) and value > most:
            raise ComityError(f"{above}.{key}: {value} must be at most {most}")
        check_counts(value, f"{above}.{key}")


def check_texts(tree: Any, above: str = "") -> None:
    """Raises `ComityError` for texts and keys with NUL, which file systems refuse."""
    if isinstance(tree, str) and "\0" in tree:
        raise ComityError(f"{above}: contains a NUL character; remove it")
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            check_texts(str(key), above or "a key")
            check_texts(value, f"{above}.{key}" if above else str(key))
    elif isinstance(tree, list | tuple):
        for value in tree:
            check_texts(value, above)


def check_name(what: str, name: str) -> None:
    """Raises `ComityError` for a name that is too long for a folder name."""
    if len(name.encode(errors="surrogatepass")) > NAME_BYTES:
        raise ComityError(
            f"{what}: {name[:20]!r}... is too long; a name has at most {NAME_BYTES} bytes"
        )


def check_distinct(what: str, names: Iterable[str]) -> None:
    """Raises `ComityError` for names of folders that differ in case only, as macOS sees them."""
    known: dict[str, str] = {}
    for name in names:
        if known.setdefault(name.casefold(), name) != name:
            raise ComityError(
                f"{what}: {known[name.casefold()]!r} and {name!r} differ in case only, and would "
                "have one folder on some systems; choose another name"
            )


def _limited_fields(block: Any, above: str = "") -> Iterator[tuple[str, Any, Mapping[str, float]]]:
    """Dotted key, value and limits of every number that has limits."""
    for item in dataclasses.fields(block):
        value = getattr(block, item.name)
        if dataclasses.is_dataclass(value):
            yield from _limited_fields(value, f"{above}{item.name}.")
        elif item.metadata and value is not None:
            yield f"{above}{item.name}", value, item.metadata
