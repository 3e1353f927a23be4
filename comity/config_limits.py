"""Limits of the config's numbers: declared with the field, checked in one place."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from comity.errors import ComityError

LARGEST_SEED = 2**63 - 1
"""Seeds stand in records, which hold whole numbers of 64 bits with a sign."""

FITS = {
    "above": lambda value, limit: value > limit,
    "at_least": lambda value, limit: value >= limit,
    "below": lambda value, limit: value < limit,
    "at_most": lambda value, limit: value <= limit,
}
"""The kinds of limits. What is not finite fits none."""


def limited(default: Any, **limits: float) -> Any:
    """A dataclass field whose number has limits, by their names in `FITS`; null has none."""
    return dataclasses.field(default=default, metadata=limits)


def check_limits(block: Any, above: str = "") -> None:
    """Raises `ComityError` for the first number of a tree of dataclasses beyond its limit.

    `above`: what its keys begin with in the complaint.
    """
    for key, value, limits in _limited_fields(block, above):
        for kind, limit in limits.items():
            if not FITS[kind](value, limit):
                raise ComityError(f"{key}: {value} must be {kind.replace('_', ' ')} {limit}")
        if not math.isfinite(value):
            raise ComityError(f"{key}: {value} must be finite")


def _limited_fields(block: Any, above: str = "") -> Iterator[tuple[str, Any, Mapping[str, float]]]:
    """Dotted key, value and limits of every number that has limits."""
    for item in dataclasses.fields(block):
        value = getattr(block, item.name)
        if dataclasses.is_dataclass(value):
            yield from _limited_fields(value, f"{above}{item.name}.")
        elif item.metadata and value is not None:
            yield f"{above}{item.name}", value, item.metadata
