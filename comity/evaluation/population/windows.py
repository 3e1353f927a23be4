"""Bins of a curve and windows of a matrix: stretches of episodes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

BINS = 100
"""Most points of a curve."""
EDGE = 100
"""Episodes of the first and the last window."""
TENTHS = 10


@dataclass(frozen=True)
class Window:
    """Episodes `start` (included) to `stop` (excluded)."""

    key: str
    label: str
    start: int
    stop: int


def bin_width(episodes: int, bins: int = BINS) -> int:
    """Episodes that a point of a curve is the mean of, so that there are at most `bins` points."""
    return max(1, math.ceil(episodes / bins))


def bin_ends(episodes: int, width: int) -> list[int]:
    """The last episode of every bin."""
    return [min(end, episodes) - 1 for end in range(width, episodes + width, width)]


def default_windows(episodes: int, tenths: bool = True) -> list[Window]:
    """First and last episodes, all of them, and tenths of the training."""
    edge = max(1, min(EDGE, episodes // 2))
    found = [
        Window("last", _edge("last", edge), episodes - edge, episodes),
        Window("first", _edge("first", edge), 0, edge),
        Window("all", "all episodes", 0, episodes),
    ]
    if tenths and episodes >= 2 * TENTHS:
        ends = [round(episodes * k / TENTHS) for k in range(TENTHS + 1)]
        found += [
            Window(f"tenth_{k}", f"episodes {a} to {b - 1}", a, b)
            for k, (a, b) in enumerate(pairwise(ends))
        ]
    return found


def given_windows(stretches: Sequence[tuple[int, int]], episodes: int) -> list[Window]:
    """Windows by first and last episode, both included; `ValueError` outside of the records."""
    found = []
    for first, last in stretches:
        if not 0 <= first <= last < episodes:
            raise ValueError(f"episodes {first} to {last} are not among 0 to {episodes - 1}")
        label = f"episodes {first} to {last}"
        found.append(Window(f"from_{first}_to_{last}", label, first, last + 1))
    return found


def _edge(which: str, count: int) -> str:
    return f"{which} episode" if count == 1 else f"{which} {count} episodes"
