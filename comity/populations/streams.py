"""Random numbers of all agents in all runs, from named streams that are read in blocks.

A stream is named by (seed, run, owner, purpose); its numbers come in blocks of `BLOCK`, and the
number of the block is part of the name. A run alone therefore draws what it draws among others, an
agent more or less moves no other stream, and the place in a stream is one integer.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from comity.games.randomness import POPULATION, generator

BLOCK = 512
"""Numbers per block."""

Owner = tuple[str | int, ...]
"""Whose stream it is: type and number of an agent, or the environment."""


def blocks(most: int) -> int:
    """Blocks of a stream that are in memory, if one call takes at most so many numbers."""
    return -(-most // BLOCK) + 1


class Draws:
    """Uniform numbers in [0, 1) for every run and owner, in order, for one purpose."""

    def __init__(
        self, seed: int, runs: Sequence[int], owners: Sequence[Owner], purpose: str, most: int
    ) -> None:
        """`runs`: the runs' numbers; `most`: the most numbers that one call takes per owner."""
        self._names = [(seed, run, POPULATION, *owner, purpose) for run in runs for owner in owners]
        self._shape = (len(runs), len(owners))
        self._most = most
        self._blocks = blocks(most)
        self._length = self._blocks * BLOCK
        self._ring = np.empty((len(self._names), self._length))
        self._position = np.zeros(len(self._names), dtype=np.int64)
        self._loaded = self._position
        self._rows = np.arange(len(self._names))
        self._fill_all()

    def _fill_all(self) -> None:
        """Read the blocks of the present positions."""
        self._loaded = self._position // BLOCK
        for stream, first in enumerate(self._loaded.tolist()):
            for block in range(first, first + self._blocks):
                self._fill(stream, block)
        self._calls_left = self._safe_calls()

    def _safe_calls(self) -> int:
        """How many calls surely need no further block."""
        ends = (self._loaded + self._blocks) * BLOCK
        return int((ends - self._position).min(initial=BLOCK)) // self._most

    def _fill(self, stream: int, block: int) -> None:
        start = block % self._blocks * BLOCK
        draws = generator(*self._names[stream], block).random(BLOCK)
        self._ring[stream, start : start + BLOCK] = draws

    def one_each(self) -> np.ndarray:
        """The next number of every stream, `[R, owners]`."""
        found = self._ring[self._rows, self._position % self._length]
        self._position += 1
        self._refill()
        return found.reshape(self._shape)

    def many_each(self, count: int) -> np.ndarray:
        """The next `count` numbers of every stream, `[R, owners, count]`."""
        place = (self._position[:, None] + np.arange(count)) % self._length
        found = self._ring[self._rows[:, None], place]
        self._position += count
        self._refill()
        return found.reshape(*self._shape, count)

    def rows(self, stream: np.ndarray, rank: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """One number per row: of stream `stream[k]` the one `rank[k]` after the present place.

        `stream` is run * owners + owner; `counts` `[R * owners]`: rows per stream, by which the
        places advance.
        """
        found = self._ring[stream, (self._position[stream] + rank) % self._length]
        self._position += counts
        self._refill()
        return found

    def _refill(self) -> None:
        """Read the blocks that come into reach of the next call."""
        self._calls_left -= 1
        if self._calls_left > 0:
            return
        first = self._position // BLOCK
        for stream in np.flatnonzero(first != self._loaded).tolist():
            for block in range(int(self._loaded[stream]), int(first[stream])):
                self._fill(stream, block + self._blocks)
        self._loaded = first
        self._calls_left = self._safe_calls()

    def save(self) -> np.ndarray:
        """Places of all streams, int64 `[R, owners]`."""
        return self._position.reshape(self._shape).copy()

    def load(self, positions: np.ndarray) -> None:
        """Go on from places that `save` returned."""
        self._position = positions.reshape(-1).astype(np.int64)
        self._fill_all()


def save_draws(draws: Mapping[str, Draws]) -> dict[str, np.ndarray]:
    """Places of several draws by name, for a group's `save`."""
    return {f"draws.{name}": one.save() for name, one in draws.items()}


def load_draws(draws: Mapping[str, Draws], state: Mapping[str, np.ndarray]) -> None:
    """Restore what `save_draws` returned."""
    for name, one in draws.items():
        one.load(state[f"draws.{name}"])


def ranks(key: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """How many earlier rows have the same key, `[K]`, and rows per key, `[size]`."""
    counts = np.bincount(key, minlength=size)
    order = np.argsort(key, kind="stable")
    rank = np.empty(len(key), dtype=np.int64)
    before = np.cumsum(counts) - counts
    rank[order] = np.arange(len(key)) - before[key[order]]
    return rank, counts
