"""The textbook loop: one run, one agent, one network after another.

It computes the same as the groups of `comity.populations.agents`, for populations of deep
Q-learners, as plainly as possible: `torch.nn` modules, `torch.optim.Adam`, lists of experiences.
Tests compare the two, and `comity bench` measures it. It draws from the same named streams.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from comity.games.randomness import POPULATION, generator
from comity.populations.agents.networks import initial_weights
from comity.populations.composition import parse
from comity.populations.payoffs import GameTables
from comity.populations.settings import PopulationSettings
from comity.populations.streams import BLOCK
from comity.populations.types import type_reward

Experience = tuple[list[float], int, float, list[float]]
"""State, choice, reward, next state."""


class Stream:
    """The numbers of one named stream, one by one."""

    def __init__(self, *name: int | str) -> None:
        self._name, self._block = name, 0
        self._numbers: Iterator[float] = iter(())

    def next(self) -> float:
        """The next number in [0, 1)."""
        for number in self._numbers:
            return number
        self._numbers = iter(generator(*self._name, self._block).random(BLOCK).tolist())
        self._block += 1
        return self.next()


class Learner:
    """A deep Q-learner."""

    def __init__(self, settings: PopulationSettings, index: int, name: tuple[int | str, ...]):
        self._settings, self._q = settings, settings.deep_q
        self._index, self._size = index, parse(settings.composition, settings.rewards).size
        inputs = {"partner": 1, "pair": 2, "identity": 1 + self._size}[settings.state]
        self.dilemma = network((*name, "dilemma weights"), inputs, self._q.hidden, 2)
        others = self._size - 1
        self.selection = network((*name, "selection weights"), others, self._q.hidden, others)
        self._optimizers = [
            torch.optim.Adam(one.parameters(), lr=self._q.learning_rate)
            for one in (self.dilemma, self.selection)
        ]
        self._moves, self._selections = Stream(*name, "games moves"), Stream(*name, "selection")
        self._moved = self._selected = False
        self.games: list[Experience] = []
        self.choices: list[Experience] = []

    def state(self, other: int, own: int, partner: int) -> list[float]:
        """What the dilemma network sees."""
        if self._settings.state == "partner":
            return [other]
        if self._settings.state == "pair":
            return [other, own]
        return [other, *(float(agent == partner) for agent in range(self._size))]

    def visible(self, latest: list[int]) -> list[float]:
        """What the selection network sees."""
        return [move for agent, move in enumerate(latest) if agent != self._index]

    def select(self, latest: list[int], number: int) -> int:
        """A partner; `number`: selections of the population before this one."""
        epsilon = self._epsilon(self._q.selection_epsilon, number, self._q.decay_selections)
        epsilon, self._selected = (epsilon if self._selected else 1.0), True
        place = choose(self.selection, self.visible(latest), epsilon, self._selections.next())
        return place + (place >= self._index)

    def act(self, state: list[float], number: int) -> int:
        """A move; `number`: games of the population before this one."""
        epsilon = self._epsilon(self._q.epsilon, number, self._q.decay_games)
        epsilon, self._moved = (epsilon if self._moved else 1.0), True
        return choose(self.dilemma, state, epsilon, self._moves.next())

    def _epsilon(self, last: float, done: int, over: int) -> float:
        return max(last, 1 - (1 - last) * done / over) if over else last

    def learn(self) -> None:
        """One step per network on the whole episode."""
        memories = (self.games[-self._q.capacity :], self.choices[-self._q.capacity :])
        networks = (self.dilemma, self.selection)
        for net, optimizer, memory in zip(networks, self._optimizers, memories, strict=True):
            if memory:
                states, choices, rewards, after = zip(*memory, strict=True)
                values = net(torch.tensor(states, dtype=torch.float32))
                values = values.gather(1, torch.tensor(choices)[:, None])[:, 0]
                with torch.no_grad():
                    best = net(torch.tensor(after, dtype=torch.float32)).amax(1)
                    target = torch.tensor(rewards) + self._q.discount * best
                loss = nn.functional.mse_loss(values, target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.games, self.choices = [], []


def network(name: tuple[int | str, ...], inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A network with the initial weights of a named stream."""
    net = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    first, first_bias, second, second_bias = initial_weights(name, inputs, hidden, outputs)
    weights = (first.T, first_bias[0], second, second_bias[0])
    with torch.no_grad():
        for parameter, weight in zip(net.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
    return net


def choose(net: nn.Module, state: list[float], epsilon: float, draw: float) -> int:
    """The choice of the highest value, or a random one with probability `epsilon`."""
    with torch.no_grad():
        values = net(torch.tensor(state, dtype=torch.float32))
    return int(draw / epsilon * len(values)) if draw < epsilon else int(values.argmax())


class NaivePopulation:
    """One run of a population of deep Q-learners that choose their partners."""

    def __init__(self, settings: PopulationSettings, run: int) -> None:
        composition = parse(settings.composition, settings.rewards)
        start = (settings.seed, run, POPULATION)
        owners = list(zip(composition.members, composition.numbers, strict=True))
        self.learners = [
            Learner(settings, index, (*start, *owner)) for index, owner in enumerate(owners)
        ]
        rewards = [
            type_reward(kind, settings.game, settings.rewards, settings.xi, settings.beta)
            for kind in composition.types
        ]
        self._rewards = GameTables(settings.game, rewards).rewards
        self._order = Stream(*start, "environment", "games", "order of play")
        displays = [generator(*start, *owner, "first display of games", 0) for owner in owners]
        self.latest = [int(rng.random() >= 0.5) for rng in displays]
        self.episode = 0

    def step(self) -> list[tuple[int, int, int, int]]:
        """An episode; selector, selected and their moves, in order of play."""
        learners, latest, size = self.learners, list(self.latest), len(self.learners)
        first = self.episode * size
        partners = [one.select(latest, first + i) for i, one in enumerate(learners)]
        order = np.argsort([self._order.next() for _ in learners], kind="stable").tolist()
        played, credited = [], [0.0] * size
        for position, selector in enumerate(order):
            pair = selector, partners[selector]
            states = [
                learners[one].state(latest[other], latest[one], other)
                for one, other in (pair, pair[::-1])
            ]
            moves = [
                learners[one].act(state, first + position)
                for one, state in zip(pair, states, strict=True)
            ]
            for seat, one in enumerate(pair):
                other, own, others = pair[1 - seat], moves[seat], moves[1 - seat]
                reward = self._rewards[one, seat, latest[one], latest[other], own, others]
                after = learners[one].state(others, own, other)
                learners[one].games.append((states[seat], own, float(reward), after))
                self.latest[one] = own
                if seat == 0:
                    credited[one] = float(reward)
            played.append((*pair, *moves))
        for index, one in enumerate(learners):
            place = partners[index] - (partners[index] > index)
            before, after = one.visible(latest), one.visible(self.latest)
            one.choices.append((before, place, credited[index], after))
            one.learn()
        self.episode += 1
        return played
