"""Deep Q-learners (arXiv 2403.04202): a network for the dilemma and one for the selection.

The states of a dilemma are few (two for the partner's latest move), so its network is evaluated
once per episode on all of them. Games only look values up, and the gradient of a whole episode is
that of a table: the loss's derivative with respect to Q(s, a) is the sum over the experiences with
this state and move. The cost of learning therefore does not depend on the number of games.

The loss is the mean squared error of r + discount * max Q(s') over an agent's experiences of the
episode, Q(s') from the same network and without a gradient.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from comity.populations.agents.exploration import (
    Explorer,
    linear_decay,
    pair_policy,
    state_index,
    state_inputs,
)
from comity.populations.agents.networks import Networks
from comity.populations.base import GameExperience, GamesView, SelectionExperience, SelectionView
from comity.populations.members import Members, Rows


@dataclass(frozen=True)
class _Choice:
    """The selections of an episode as their networks saw them."""

    visible: np.ndarray
    """float32 `[B, 1, N - 1]`."""
    hidden: np.ndarray
    """`[B, 1, H]`."""
    values: np.ndarray
    """`[B, N - 1]`."""


class DeepQAgents:
    """All deep Q-learners of a population."""

    def __init__(self, members: Members) -> None:
        self.agents = members.agents
        self._shape = (members.runs, len(members.agents))
        self._settings = members.settings.deep_q
        self._state = members.settings.state
        self._size = members.size
        self._explorer = Explorer(members)
        self._inputs = state_inputs(self._state, members.size)
        hidden, rate = self._settings.hidden, self._settings.learning_rate
        batch, width = members.streams, self._inputs.shape[1]
        self.dilemma = Networks(batch, width, hidden, 2, rate)
        self.dilemma.initialize(members, "dilemma weights")
        self._chooses = members.settings.matching == "selection"
        self.selection: Networks | None = None
        if self._chooses:
            self.selection = Networks(batch, members.size - 1, hidden, members.size - 1, rate)
            self.selection.initialize(members, "selection weights")
            self._first_gradient = torch.from_numpy(self.selection.gradients.first)
        self._rows = np.arange(batch)
        self._chosen_before = np.zeros(batch, dtype=np.int64)
        self._values: tuple[np.ndarray, np.ndarray] | None = None
        self._choice: _Choice | None = None
        self._games: tuple[GameExperience, Rows] | None = None
        self._selections: SelectionExperience | None = None

    def select(self, view: SelectionView) -> np.ndarray:
        """int `[R, A]`: partners of the highest value, or random ones."""
        assert self.selection is not None
        visible = self._explorer.visible(view).astype(np.float32).reshape(len(self._rows), 1, -1)
        hidden = self.selection.hidden(visible)
        values = self.selection.outputs(hidden)[:, 0]
        self._choice = _Choice(visible, hidden, values)
        epsilon: float | np.ndarray = self._settings.selection_epsilon
        if over := self._settings.decay_selections:
            done = view.episode * self._size + self.agents
            epsilon = linear_decay(float(epsilon), done, over)
        return self._explorer.partners(values.argmax(axis=1).reshape(self._shape), epsilon)

    def q_values(self) -> np.ndarray:
        """Q of every state and move of the dilemma, float32 `[R, A, S, 2]`."""
        return self._evaluate()[1].reshape(*self._shape, -1, 2)

    def _evaluate(self) -> tuple[np.ndarray, np.ndarray]:
        """Hidden units and values of all states, until the next update."""
        if self._values is None:
            hidden = self.dilemma.hidden(self._inputs)
            self._values = hidden, self.dilemma.outputs(hidden)
        return self._values

    def act(self, view: GamesView, *, practice: bool = False) -> np.ndarray:
        """int8 `[K]`: moves of the highest value, or random ones."""
        rows = self._explorer.rows(view)
        state = state_index(self._state, view.other, view.own, view.partner)
        values = self._evaluate()[1]
        greedy = (values[..., 1] > values[..., 0])[rows.slot, state]
        epsilon = self._epsilon(view.episode, view.position)
        return self._explorer.moves(rows, greedy, epsilon, practice)

    def _epsilon(self, episode: int, position: np.ndarray) -> float | np.ndarray:
        """Probability of a random move in the games at some positions of an episode's order."""
        epsilon, over = self._settings.epsilon, self._settings.decay_games
        # Every agent plays one game as selector, so an episode has N games.
        return linear_decay(epsilon, episode * self._size + position, over) if over else epsilon

    def pair_policy(self, episode: int) -> np.ndarray:
        """P(C) in a fixed pair, exploration included, by own and partner's latest move; see
        `exploration.pair_policy`."""
        first, second = np.moveaxis(self.q_values(), -1, 0)
        epsilon = self._epsilon(episode, np.zeros(1))
        chances = np.where(second > first, 0.0, 1.0) * (1 - epsilon) + epsilon / 2
        return pair_policy(self._state, self.agents, chances)

    def record(self, games: GameExperience, selections: SelectionExperience | None) -> None:
        """Keep an episode's experience for the update."""
        assert self._games is None, "an update follows every episode"
        self._games = games, self._explorer.rows(games.view)
        self._selections = selections

    def update(self) -> Mapping[str, Any]:
        """One step per network with experience: losses "loss" and "selection_loss" `[R, A]`."""
        statistics = {}
        if self._games is not None:
            statistics["loss"] = self._update_dilemma(*self._games).reshape(self._shape)
        if self._selections is not None and self._choice is not None:
            loss = self._update_selection(self._selections, self._choice)
            statistics["selection_loss"] = loss.reshape(self._shape)
        self._games = self._selections = self._choice = self._values = None
        return statistics

    def _update_dilemma(self, games: GameExperience, rows: Rows) -> np.ndarray:
        """A step on the dilemma networks; the loss, NaN without experience, `[B]`."""
        view, move, reward = games.view, games.move, games.reward
        hidden, table = self._evaluate()
        batch, states = table.shape[:2]
        # A player without a move leaves on display what it had.
        illegal = (games.intended < 0).any() or (games.partner_move < 0).any()
        other = np.where(games.partner_move < 0, view.other, games.partner_move)
        own = np.where(move < 0, view.own, move)
        before = rows.slot * states
        after = before + state_index(self._state, other, own, view.partner)
        before += state_index(self._state, view.other, view.own, view.partner)
        slot, count = rows.slot, rows.counts
        if illegal or count.max(initial=0) > self._settings.capacity:
            kept = rows.rank >= count[slot] - self._settings.capacity
            kept &= move >= 0
            slot, before, after = slot[kept], before[kept], after[kept]
            move, reward = move[kept], reward[kept]
            count = np.bincount(slot, minlength=batch)
        best = np.maximum(table[..., 0], table[..., 1]).reshape(-1)
        cell = before * 2 + move
        target = reward + self._settings.discount * best[after]
        error = table.reshape(-1)[cell] - target
        size = np.maximum(count, 1)
        sums = np.bincount(cell, weights=2 * error / size[slot], minlength=table.size)
        slope = sums.astype(np.float32).reshape(table.shape)
        weights, gradients = self.dilemma.weights, self.dilemma.gradients
        np.matmul(slope.transpose(0, 2, 1), hidden, out=gradients.second)
        np.sum(slope, axis=1, keepdims=True, out=gradients.second_bias)
        back = np.matmul(slope, weights.second)
        back *= hidden > 0
        np.matmul(self._inputs.T, back, out=gradients.first)
        np.sum(back, axis=1, keepdims=True, out=gradients.first_bias)
        self.dilemma.step(count > 0)
        total = np.bincount(slot, weights=error**2, minlength=batch)
        return np.where(count > 0, total / size, np.nan)

    def _update_selection(self, experience: SelectionExperience, choice: _Choice) -> np.ndarray:
        """A step on the selection networks; the loss `[B]`."""
        assert self.selection is not None
        networks, rows = self.selection, self._rows
        weights, gradients = networks.weights, networks.gradients
        after = self._explorer.visible(experience.latest_after).astype(np.float32)
        best = networks.outputs(networks.hidden(after.reshape(len(rows), 1, -1)))
        # Places among the others, which leave the agent itself out.
        place = (experience.partner - (experience.partner > self.agents)).reshape(-1)
        target = experience.reward.reshape(-1) + self._settings.discount * best.max(axis=(1, 2))
        error = choice.values[rows, place] - target
        slope = (2 * error).astype(np.float32)[:, None]
        hidden = choice.hidden[:, 0]
        # Only the row of the chosen partner has a gradient in the last layer.
        for layer in (gradients.second, gradients.second_bias[:, 0]):
            layer[rows, self._chosen_before] = 0
        gradients.second[rows, place] = slope * hidden
        gradients.second_bias[rows, 0, place] = slope[:, 0]
        self._chosen_before = place
        back = weights.second[rows, place]
        back *= slope
        back *= hidden > 0
        gradients.first_bias[:, 0] = back
        # NumPy takes seven times as long for this product.
        seen, back_tensor = torch.from_numpy(choice.visible), torch.from_numpy(back)
        torch.mul(seen.transpose(1, 2), back_tensor[:, None], out=self._first_gradient)
        networks.step()
        return np.asarray(error**2)

    def save(self) -> dict[str, np.ndarray]:
        """Networks with the moments of Adam, and exploration."""
        state = self._explorer.save()
        for name, networks in self._named():
            state |= {f"{name}.{key}": value for key, value in networks.save().items()}
        return state

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `save` returned."""
        self._explorer.load(state)
        for name, networks in self._named():
            start = f"{name}."
            networks.load(
                {k.removeprefix(start): v for k, v in state.items() if k[: len(start)] == start}
            )
        self._chosen_before[:] = 0
        self._games = self._selections = self._choice = self._values = None

    def _named(self) -> list[tuple[str, Networks]]:
        both = (("dilemma", self.dilemma), ("selection", self.selection))
        return [(name, networks) for name, networks in both if networks is not None]
