"""Who plays with whom, and in which order."""

from collections.abc import Sequence

import numpy as np

from comity.errors import ComityError
from comity.populations.streams import Draws

ENVIRONMENT = "environment"
"""The owner of the streams that belong to no agent."""


class Order:
    """The order in which the games of an episode are played, new in every episode and run."""

    def __init__(self, seed: int, runs: Sequence[int], games: int, condition: str) -> None:
        owner = (ENVIRONMENT, condition)
        self.draws = Draws(seed, runs, [owner], "order of play", games)
        self._games = games

    def next(self) -> np.ndarray:
        """int `[R, games]`: a permutation per run."""
        return self.draws.many_each(self._games)[:, 0].argsort(axis=1, kind="stable")


class RandomPartners:
    """A uniformly random partner for every agent."""

    def __init__(
        self,
        seed: int,
        runs: Sequence[int],
        owners: Sequence[tuple[str | int, ...]],
        condition: str,
    ) -> None:
        """`owners`: the agents' names in random streams."""
        self.draws = Draws(seed, runs, owners, f"partner in {condition}", 1)
        self._agents = np.arange(len(owners))

    def next(self) -> np.ndarray:
        """int `[R, N]`."""
        others = (self.draws.one_each() * (len(self._agents) - 1)).astype(np.int64)
        return others + (others >= self._agents)


def fixed_pairs(size: int) -> np.ndarray:
    """int `[N / 2, 2]`: agents 0 and 1, 2 and 3 and so on."""
    if size % 2:
        raise ComityError(f"fixed pairs need an even number of agents, not {size}")
    return np.arange(size).reshape(-1, 2)
