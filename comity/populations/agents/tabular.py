"""Tabular Q-learners (arXiv 2301.08491), one table for the dilemma and one for the selection.

Q(s, a) moves by the learning rate towards r + discount * max Q(s'), experience after experience in
the order of play. While a row of the table is all 0 its move is random. A state of the selection is
the joint latest move of all others, so its table has 2^(N - 1) rows.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.populations.agents.exploration import (
    Explorer,
    pair_policy,
    state_index,
    state_inputs,
)
from comity.populations.base import GameExperience, GamesView, SelectionExperience, SelectionView
from comity.populations.members import Members, Rows
from comity.populations.settings import MOST_TABULAR


class TabularAgents:
    """All tabular Q-learners of a population."""

    def __init__(self, members: Members) -> None:
        self.agents = members.agents
        self._shape = (members.runs, len(members.agents))
        self._settings = members.settings.tabular
        self._state = members.settings.state
        self._iterations = members.settings.iterations
        self._explorer = Explorer(members)
        states = len(state_inputs(self._state, members.size))
        self.dilemma = np.zeros((members.streams, states, 2))
        """Q of states and moves, float64 `[R * A, S, 2]`."""
        self.selection: np.ndarray | None = None
        """Q of joint moves and partners, float64 `[R * A, 2^(N - 1), N - 1]`."""
        if members.settings.matching == "selection":
            if members.size > MOST_TABULAR:
                raise ComityError(
                    f"tabular agents choose among at most {MOST_TABULAR - 1} partners, not "
                    f"{members.size - 1} (2^(N - 1) states); use learner=dqn"
                )
            shape = (members.streams, 2 ** (members.size - 1), members.size - 1)
            self.selection = np.zeros(shape)
        self._bits = 1 << np.arange(members.size - 1)
        self._rows = np.arange(members.streams)
        self._games: tuple[GameExperience, Rows] | None = None
        self._selections: SelectionExperience | None = None

    def _epsilon(self, episode: int) -> float:
        """Probability of a random move."""
        first, last = self._settings.epsilon, self._settings.epsilon_last
        if last is None:
            return first
        return first + (last - first) * min(1.0, episode / max(1, self._iterations - 1))

    def _rate(self, episode: int) -> float:
        return self._settings.learning_rate / (1 + episode * self._settings.learning_rate_decay)

    def _joint(self, visible: np.ndarray) -> np.ndarray:
        """Index of the joint moves of the others `[R, A, N - 1]`, `[R * A]`."""
        return (visible.astype(np.int64) @ self._bits).reshape(-1)

    def select(self, view: SelectionView) -> np.ndarray:
        """int `[R, A]`: partners of the highest value, or random ones."""
        assert self.selection is not None
        values = self.selection[self._rows, self._joint(self._explorer.visible(view))]
        unknown = ~values.any(axis=1).reshape(self._shape)
        epsilon = np.where(unknown, 1.0, self._settings.selection_epsilon)
        return self._explorer.partners(values.argmax(axis=1).reshape(self._shape), epsilon)

    def act(self, view: GamesView, *, practice: bool = False) -> np.ndarray:
        """int8 `[K]`: moves of the highest value, or random ones."""
        rows = self._explorer.rows(view)
        state = state_index(self._state, view.other, view.own, view.partner)
        first, second = self.dilemma[rows.slot, state].T
        unknown = (first == 0) & (second == 0)
        epsilon = np.where(unknown, 1.0, self._epsilon(view.episode))
        return self._explorer.moves(rows, (second > first).astype(np.int8), epsilon, practice)

    def record(self, games: GameExperience, selections: SelectionExperience | None) -> None:
        """Keep an episode's experience for the update."""
        assert self._games is None, "an update follows every episode"
        self._games = games, self._explorer.rows(games.view)
        self._selections = selections

    def update(self) -> Mapping[str, Any]:
        """Learn from the episode: mean squared errors "loss" and "selection_loss" `[R, A]`."""
        statistics = {}
        if self._games is not None:
            statistics["loss"] = self._update_dilemma(*self._games).reshape(self._shape)
        if self._selections is not None:
            loss = self._update_selection(self._selections)
            statistics["selection_loss"] = loss.reshape(self._shape)
        self._games = self._selections = None
        return statistics

    def _update_dilemma(self, games: GameExperience, rows: Rows) -> np.ndarray:
        view, table = games.view, self.dilemma
        state = state_index(self._state, view.other, view.own, view.partner)
        other = np.where(games.partner_move < 0, view.other, games.partner_move)
        own = np.where(games.move < 0, view.own, games.move)
        after = state_index(self._state, other, own, view.partner)
        kept = (games.move >= 0) & (rows.rank >= rows.counts[rows.slot] - self._settings.capacity)
        rate, total = self._rate(view.episode), np.zeros(len(table))
        # Agents learn in parallel, each from its games one after another.
        for rank in range(int(rows.counts.max(initial=0))):
            now = kept & (rows.rank == rank)
            slot, move = rows.slot[now], games.move[now]
            best = table[slot, after[now]].max(axis=1)
            target = games.reward[now] + self._settings.discount * best
            error = target - table[slot, state[now], move]
            table[slot, state[now], move] += rate * error
            total[slot] += error**2
        return np.where(rows.counts > 0, total / np.maximum(rows.counts, 1), np.nan)

    def _update_selection(self, experience: SelectionExperience) -> np.ndarray:
        assert self.selection is not None
        table, rows = self.selection, self._rows
        before = self._joint(self._explorer.visible(experience.view))
        after = self._joint(self._explorer.visible(experience.latest_after))
        place = (experience.partner - (experience.partner > self.agents)).reshape(-1)
        best = table[rows, after].max(axis=1)
        target = experience.reward.reshape(-1) + self._settings.discount * best
        error = target - table[rows, before, place]
        table[rows, before, place] += self._rate(experience.view.episode) * error
        return np.asarray(error**2)

    def q_values(self) -> np.ndarray:
        """Q of every state and move of the dilemma, `[R, A, S, 2]`."""
        return self.dilemma.reshape(*self._shape, -1, 2)

    def pair_policy(self, episode: int) -> np.ndarray:
        """P(C) in a fixed pair, exploration included, by own and partner's latest move; see
        `exploration.pair_policy`."""
        first, second = np.moveaxis(self.q_values(), -1, 0)
        epsilon = np.where((first == 0) & (second == 0), 1.0, self._epsilon(episode))
        chances = np.where(second > first, 0.0, 1.0) * (1 - epsilon) + epsilon / 2
        return pair_policy(self._state, self.agents, chances)

    def save(self) -> dict[str, np.ndarray]:
        """Tables and exploration."""
        state = self._explorer.save() | {"dilemma": self.dilemma.copy()}
        if self.selection is not None:
            state["selection"] = self.selection.copy()
        return state

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `save` returned."""
        self._explorer.load(state)
        self.dilemma = np.array(state["dilemma"])
        if self.selection is not None:
            self.selection = np.array(state["selection"])
        self._games = self._selections = None
