"""The agents of one kind, as the groups are given them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from comity.populations.base import GamesView
from comity.populations.settings import PopulationSettings
from comity.populations.streams import Draws, Owner, ranks


@dataclass(frozen=True)
class Members:
    """Some agents of a population, in all its runs."""

    settings: PopulationSettings
    agents: np.ndarray
    """int `[A]`: their indices, ascending."""
    types: tuple[str, ...]
    """Their types without the prefix of a kind, `[A]`."""
    owners: Sequence[Owner]
    """Their names in random streams: type as written and number among its type, `[A]`."""
    size: int
    """N, with all other agents of the population."""

    @property
    def runs(self) -> int:
        """R."""
        return len(self.settings.numbers)

    @property
    def streams(self) -> int:
        """R * A: one row per run and agent in the order of flat arrays `[R, A]`."""
        return self.runs * len(self.agents)

    def draws(self, purpose: str, most: int) -> Draws:
        """Random numbers of these agents for one purpose, at most `most` at once."""
        return Draws(self.settings.seed, self.settings.numbers, self.owners, purpose, most)

    def others(self) -> np.ndarray:
        """int `[A, N - 1]`: the indices of all other agents, ascending."""
        everyone = np.arange(self.size)
        return np.stack([everyone[everyone != agent] for agent in self.agents])

    def columns(self) -> np.ndarray:
        """int `[N]`: place of every agent among these; -1: it is none of them."""
        found = np.full(self.size, -1)
        found[self.agents] = np.arange(len(self.agents))
        return found


class Rows:
    """The rows of a view by run and agent of a group."""

    def __init__(self, view: GamesView, columns: np.ndarray, agents: int, runs: int) -> None:
        self.slot = view.run * agents + columns[view.agent]
        """int `[K]`: run * A + place of the agent in its group."""
        self.rank, self.counts = ranks(self.slot, runs * agents)
        """How many games the agent played before in this episode, `[K]`; games, `[R * A]`."""
