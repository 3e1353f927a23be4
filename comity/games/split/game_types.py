"""The game types of the split studies: values of 1 and 10, or 1 to 20, under constraints.

Uniform over the outcomes that satisfy the constraints (arXiv 2511.19405's splits). Sampling is
exact and without rejection: the constraints depend only on the differences between the two seats'
values, and the number of completions of a partial outcome is counted.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import ClassVar, Final

import numpy as np

from comity.errors import ComityError, lookup
from comity.games.split.quantities import Stock, listable
from comity.games.split.valuations import Values

Pair = tuple[int, int]
"""Values of one item for the two seats."""

_PAIRS: Final[dict[str, tuple[Pair, ...]]] = {
    "10-1-exclusive": ((10, 1), (1, 10)),
    "10-1-ties": tuple(product((10, 1), (10, 1))),
    "1-to-20": tuple(product(range(1, 21), range(1, 21))),
}


@dataclass(frozen=True)
class GameTypeValues:
    """Values of one of the game types, for two seats; see the module docstring."""

    kinds: int
    type: str = "10-1-ties"
    """One of `10-1-exclusive`, `10-1-ties`, `1-to-20`."""
    equal_sums: bool = True
    """Both seats have the same sum of values over items."""
    conflict: bool = False
    """At least one item has different values for the two seats."""

    needs_stock: ClassVar[bool] = False
    seats: ClassVar[int] = 2

    def __post_init__(self) -> None:
        lookup("game type", self.type, _PAIRS)
        if self.satisfying_count:
            return
        if self.type == "10-1-exclusive" and self.kinds % 2:
            reason = "equal_sums needs an even number of items, because one seat gets more tens"
        else:
            reason = "with one item of equal sums nothing can be in conflict"
        raise ComityError(f"no values of type {self.type} satisfy the constraints: {reason}")

    @property
    def kind(self) -> str:
        """The type."""
        return self.type

    @property
    def value_range(self) -> tuple[float, float]:
        """Of the type."""
        return 1.0, 20.0 if self.type == "1-to-20" else 10.0

    @property
    def satisfying_count(self) -> int:
        """Number of outcomes that satisfy the constraints."""
        return _ways(self._rules, self.kinds, 0, False)

    @property
    def unconstrained_count(self) -> int:
        """Number of outcomes without constraints."""
        return len(_PAIRS[self.type]) ** self.kinds

    @property
    def _rules(self) -> tuple[str, bool, bool]:
        return (self.type, self.equal_sums, self.conflict)

    def draw(self, rng: np.random.Generator, stock: Stock) -> Values:
        """Sampled item by item; a pair is weighted by its number of completions."""
        number = _below(rng, self.satisfying_count)
        chosen: list[Pair] = []
        total, differs = 0, False
        for left in reversed(range(self.kinds)):
            for step, pairs in _by_difference(self.type).items():
                ways = _ways(self._rules, left, total + step, differs or step != 0)
                if number < ways * len(pairs):
                    which, number = divmod(number, ways)
                    chosen.append(pairs[which])
                    total, differs = total + step, differs or step != 0
                    break
                number -= ways * len(pairs)
        first, second = zip(*chosen, strict=True)
        return tuple(map(float, first)), tuple(map(float, second))

    def outcomes(self, stock: Stock) -> tuple[np.ndarray, np.ndarray]:
        """Equally likely; whole numbers of 8 bits."""
        count = listable(self.satisfying_count)
        pairs = np.array(_PAIRS[self.type], dtype=np.int8)
        found = np.zeros((1, 2, 0), dtype=np.int8)
        for left in reversed(range(self.kinds)):
            found = self._extended(found, pairs, left)
        return found, np.full(count, 1 / count)

    def _extended(self, found: np.ndarray, pairs: np.ndarray, left: int) -> np.ndarray:
        """Partial outcomes `[K, 2, items]` with one more item, if they can be completed."""
        totals = np.subtract(*found.sum(axis=2, dtype=int).T)
        differ = (found[:, 0] != found[:, 1]).any(axis=1)
        steps = np.subtract(*pairs.T.astype(int))
        pieces = []
        for total, differs in sorted(set(zip(totals.tolist(), differ.tolist(), strict=True))):
            begun = found[(totals == total) & (differ == differs)]
            fits = [
                bool(_ways(self._rules, left, total + step, differs or step != 0))
                for step in steps.tolist()
            ]
            more = pairs[fits]
            if len(more):
                pieces.append(
                    np.concatenate(
                        [
                            np.repeat(begun, len(more), axis=0),
                            np.tile(more, (len(begun), 1))[:, :, None],
                        ],
                        axis=2,
                    )
                )
        return np.concatenate(pieces)


@lru_cache(maxsize=8)
def _by_difference(kind: str) -> dict[int, list[Pair]]:
    """The pairs of a type by the difference between seat 0's and seat 1's value."""
    found: dict[int, list[Pair]] = defaultdict(list)
    for first, second in _PAIRS[kind]:
        found[first - second].append((first, second))
    return dict(found)


@lru_cache(maxsize=65_536)
def _ways(rules: tuple[str, bool, bool], left: int, total: int, differs: bool) -> int:
    """Completions with `left` more items if seat 0's sum is larger by `total` so far."""
    kind, equal_sums, conflict = rules
    if not left:
        return int((total == 0 or not equal_sums) and (differs or not conflict))
    return sum(
        len(pairs)
        * _ways(
            rules, left - 1, total + step if equal_sums else 0, conflict and (differs or step != 0)
        )
        for step, pairs in _by_difference(kind).items()
    )


def _below(rng: np.random.Generator, count: int) -> int:
    """An integer below `count` of any size; uniform up to one part in 2^64."""
    size = count.bit_length() // 8 + 9
    return count * int.from_bytes(rng.bytes(size), "big") >> (8 * size)
