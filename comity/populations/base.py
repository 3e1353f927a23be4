"""What the agents of a population see, answer and learn from.

All R runs of a population advance together. Agents have the indices `0..N-1` of the composition,
the same in every run. The agents of one kind (all deep Q-learners, all fixed agents, all language
models) form a *group*, which answers for all its agents in all runs at once: the arrays of a group
with A agents are `[R, A]`, or `[K]` with one row per agent and game. Moves are 0 (cooperate) and 1
(defect); -1 is an illegal answer. The environment (`comity.populations.episode`) knows neither
texts nor networks, and a group computes no rewards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

COOPERATE, DEFECT, ILLEGAL = 0, 1, -1


@dataclass(frozen=True)
class SelectionView:
    """The state in which all agents choose a partner at the same time."""

    episode: int
    latest: np.ndarray
    """int8 `[R, N]`: every agent's latest move. An agent sees those of the others."""


@dataclass(frozen=True)
class GamesView:
    """The games of an episode from the sides of a group's agents: one row per agent and game.

    Rows are in the order in which games are played: by position, the selector's side first. All
    games of an episode are simultaneous: what agents see is from before the episode.
    """

    episode: int
    run: np.ndarray
    """int `[K]`."""
    position: np.ndarray
    """int `[K]`: the game's place in the order of its run's episode, `0..N-1`."""
    agent: np.ndarray
    """int `[K]`: index of the agent that acts."""
    partner: np.ndarray
    """int `[K]`: index of its partner."""
    selector: np.ndarray
    """bool `[K]`: the agent chose this partner, rather than being chosen."""
    own: np.ndarray
    """int8 `[K]`: the agent's latest move before the episode."""
    other: np.ndarray
    """int8 `[K]`: its partner's latest move before the episode."""


@dataclass(frozen=True)
class GameExperience:
    """What a group's agents learn from their games; rows as in `view`."""

    view: GamesView
    intended: np.ndarray
    """int8 `[K]`: the agent's answer; -1 illegal."""
    move: np.ndarray
    """int8 `[K]`: the move that was played for the agent; -1 if there was none."""
    partner_move: np.ndarray
    """int8 `[K]`: the partner's played move, which is the next state; -1 if there was none."""
    reward: np.ndarray
    """float64 `[K]`: the agent's reward of this game."""


@dataclass(frozen=True)
class SelectionExperience:
    """What a group's agents learn from their choices of a partner. Only selectors have one."""

    view: SelectionView
    intended: np.ndarray
    """int `[R, A]`: the agent's answer; -1 illegal."""
    partner: np.ndarray
    """int `[R, A]`: index of the partner that it met."""
    reward: np.ndarray
    """float64 `[R, A]`: the selector's reward of that very game; the reward of illegal answers
    if the selection was illegal."""
    latest_after: np.ndarray
    """int8 `[R, N]`: every agent's latest move after the episode."""


class AgentGroup(Protocol):
    """All agents of one kind in all runs.

    A group draws random numbers from named streams per run, agent and purpose
    (`comity.populations.streams`), so a run alone equals the same run among others.
    """

    agents: np.ndarray
    """int `[A]`: indices of its agents in the population, ascending."""

    def select(self, view: SelectionView) -> np.ndarray:
        """int `[R, A]`: the chosen partner of each agent, never itself; -1 illegal."""
        ...

    def act(self, view: GamesView, *, practice: bool = False) -> np.ndarray:
        """int8 `[K]`: the move of every row; -1 illegal.

        `practice`: games of a control that must not change the group (its streams and memories
        are as before afterwards; a control's draws have streams of their own).
        """
        ...

    def record(self, games: GameExperience, selections: SelectionExperience | None) -> None:
        """Store an episode's experience; no selections under random or fixed matching."""
        ...

    def update(self) -> Mapping[str, Any]:
        """Learn from what was recorded since the last update and forget it.

        Returns statistics of the update, arrays `[R, A]` by name; fixed agents return nothing.
        """
        ...

    def save(self) -> dict[str, np.ndarray]:
        """The whole state, from which `load` continues to identical numbers."""
        ...

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `save` returned."""
        ...
