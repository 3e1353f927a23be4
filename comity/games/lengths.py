"""The number of rounds of a match.

- `Length`: the probability that another round follows.
- `Fixed`: a constant number of rounds.
- `Geometric`: another round with constant probability, up to a cap.
- `SampledLength`: any length with its number of rounds sampled beforehand, for matches that end
  together.

The number of rounds follows from the environment seed, so the matches of one group end together.
With `draw`, all matches of an iteration or of a run end together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from comity.errors import ComityError, lookup
from comity.registry import build

DRAWS = {
    "group": "the matches of a group: those with the same environment seed",
    "batch": "all matches of an iteration",
    "run": "all matches of a run's training",
}
"""Which matches share one sampled number of rounds."""


@runtime_checkable
class Length(Protocol):
    """A distribution of the number of rounds, at least one."""

    @property
    def longest(self) -> int:
        """The maximal number of rounds."""
        ...

    @property
    def expected(self) -> float:
        """The expected number of rounds."""
        ...

    def continuation(self, finished: int) -> float:
        """Probability of another round after `finished` (at least 1) rounds."""
        ...


@dataclass(frozen=True)
class Fixed:
    """Every match has the same number of rounds."""

    rounds: int = 10

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ComityError(f"rounds must be at least 1, not {self.rounds}")

    @property
    def longest(self) -> int:
        """`rounds`."""
        return self.rounds

    @property
    def expected(self) -> float:
        """`rounds`."""
        return float(self.rounds)

    def continuation(self, finished: int) -> float:
        """1 until the last round."""
        return 1.0 if finished < self.rounds else 0.0


@dataclass(frozen=True)
class Geometric:
    """Another round follows with a constant probability, up to a cap.

    L = min(G, cap) with G geometric on 1, 2, ...; E[L] = (1 - p^cap) / (1 - p). A
    probability of 1 means exactly `cap` rounds.
    """

    continue_probability: float = 0.85
    cap: int = 30
    draw: str = "group"
    """Which matches have the same number of rounds in training: one of `DRAWS`."""

    def __post_init__(self) -> None:
        lookup("draw of a length", self.draw, DRAWS)
        if not 0 <= self.continue_probability <= 1:
            raise ComityError(
                f"continue_probability must lie between 0 and 1, not {self.continue_probability}"
            )
        if self.cap < 1:
            raise ComityError(f"cap must be at least 1, not {self.cap}")

    @property
    def longest(self) -> int:
        """`cap`."""
        return self.cap

    @property
    def expected(self) -> float:
        """Sum over rounds of their probability."""
        p = self.continue_probability
        return float(self.cap) if p == 1 else (1 - p**self.cap) / (1 - p)

    def continuation(self, finished: int) -> float:
        """Constant until the cap."""
        return self.continue_probability if finished < self.cap else 0.0


@dataclass(frozen=True)
class SampledLength:
    """A sample of another length: matches end after `rounds`, which prompts do not show."""

    distribution: Length
    rounds: int

    @staticmethod
    def sample(distribution: Length, rng: np.random.Generator) -> "SampledLength":
        """The number of rounds, drawn from `distribution`."""
        rounds = 1
        while rng.random() < distribution.continuation(rounds):
            rounds += 1
        return SampledLength(distribution, rounds)

    @property
    def longest(self) -> int:
        """That of the distribution, which prompts describe."""
        return self.distribution.longest

    @property
    def expected(self) -> float:
        """That of the distribution."""
        return self.distribution.expected

    def continuation(self, finished: int) -> float:
        """1 until the last round."""
        return 1.0 if finished < self.rounds else 0.0


LENGTHS: dict[str, Callable[..., Length]] = {"fixed": Fixed, "geometric": Geometric}


def make_length(length: Length | Mapping[str, Any]) -> Length:
    """A length as it is, or that of a config block `{name: fixed|geometric, ...}`."""
    return length if isinstance(length, Length) else build("length", length, LENGTHS)


def length_of(game: object) -> Length | None:
    """The length of a game's matches; None where it has none of this kind."""
    length = getattr(game, "length", None)
    return length if isinstance(length, Length) else None
