"""Checks of what groups of agents answer, so that a mistake in a kind is named as the kind's.

Groups can be the user's own (`comity.populations.own_kinds`).
"""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from comity.errors import ComityError

METHODS = ("select", "act", "record", "update", "save", "load")
"""The methods of `comity.populations.base.AgentGroup`."""


def check_group(kind: str, group: Any, agents: np.ndarray) -> None:
    """Raises `ComityError` unless a new group has all methods and answers for these agents."""
    missing = [name for name in METHODS if not callable(getattr(group, name, None))]
    if missing:
        raise ComityError(f"agent kind {kind!r} lacks {', '.join(missing)}")
    accepted = inspect.signature(group.act).parameters
    if "practice" not in accepted and all(one.kind != one.VAR_KEYWORD for one in accepted.values()):
        raise ComityError(f"agent kind {kind!r}: act needs the parameter `practice`")
    if not np.array_equal(np.asarray(getattr(group, "agents", None)), agents):
        raise ComityError(f"agent kind {kind!r}: its attribute `agents` must be members.agents")


def checked_partners(kind: str, partners: Any, shape: tuple[int, int]) -> np.ndarray:
    """The partners that a group chose, int `[R, A]`; `ComityError` for anything else."""
    found = np.asarray(partners)
    if found.shape != shape or found.dtype.kind not in "iu":
        _refuse(kind, "select", f"whole numbers of the shape {shape}", found)
    return found


def checked_moves(kind: str, moves: Any, rows: int) -> np.ndarray:
    """The answers of a group, int8 `[K]`; `ComityError` for anything else."""
    found = np.asarray(moves)
    if found.shape != (rows,) or found.dtype.kind not in "iub":
        _refuse(kind, "act", f"whole numbers of the shape {(rows,)}", found)
    if rows and not (found.min() >= -1 and found.max() <= 1):
        raise ComityError(f"agent kind {kind!r}: act must return 0, 1, or -1 for an illegal answer")
    return found.astype(np.int8, copy=False)


def checked_statistics(kind: str, found: Any, shape: tuple[int, int]) -> Mapping[str, Any]:
    """What a group's update returned: arrays `[R, A]` by name; `ComityError` otherwise."""
    if not isinstance(found, Mapping):
        raise ComityError(
            f"agent kind {kind!r}: update must return statistics by name, {{}} for none, not "
            f"{type(found).__name__}"
        )
    for name, values in found.items():
        if np.shape(values) != shape:
            _refuse(kind, f"update, statistic {name!r}", f"the shape {shape}", np.asarray(values))
    return found


def _refuse(kind: str, method: str, wanted: str, found: np.ndarray) -> None:
    raise ComityError(
        f"agent kind {kind!r}: {method} must return {wanted}, not {found.dtype} of the shape "
        f"{found.shape}"
    )
