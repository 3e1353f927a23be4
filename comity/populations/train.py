"""A population from its settings, and its training loop.

    population = build_population(settings)
    population.run(writer=RecordWriter(folder, population.settings.numbers))
    population.save(folder)

A population has up to three conditions: `selection` (or `fixed`, or `random`), the population
itself; `random_matching`, the same composition trained with random partners; `random_selection`,
the policies that selection trained, playing with random partners.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from comity.errors import ComityError
from comity.populations.agents.dqn import DeepQAgents
from comity.populations.agents.exploration import state_names
from comity.populations.agents.fixed import FixedAgents
from comity.populations.agents.tabular import TabularAgents
from comity.populations.base import AgentGroup
from comity.populations.composition import (
    Composition,
    bare_type,
    is_frozen,
    kind_prefixes,
    parse,
)
from comity.populations.episode import Agents, Environment, EpisodeGames
from comity.populations.group_checks import check_group, checked_statistics
from comity.populations.members import Members
from comity.populations.own_kinds import own_kinds
from comity.populations.payoffs import GameTables, check_game
from comity.populations.settings import PopulationSettings
from comity.populations.state import read_state, write_state
from comity.populations.types import FIXED_TYPES, type_reward

GROUPS: dict[str, Callable[[Members], AgentGroup]] = {
    "fixed": FixedAgents,
    "dqn": DeepQAgents,
    "tabular": TabularAgents,
}
"""The kinds of agents that need nothing but their members. Language models are injected."""

KNOWN_POLICY = FixedAgents | DeepQAgents | TabularAgents
"""Groups whose policy in a fixed pair is known as a table."""

LANGUAGE_MODELS = "language_model"

GroupFactory = Callable[[str, Members], AgentGroup]
"""Makes the group of another kind of agents ("language_model")."""

RANDOM_MATCHING, RANDOM_SELECTION = "random_matching", "random_selection"


class Writer(Protocol):
    """Where the games go."""

    def write(self, condition: str, games: EpisodeGames) -> None: ...

    def statistics(self, condition: str, episode: int, found: Mapping[str, Any]) -> None: ...

    def q_values(
        self, condition: str, episode: int, agents: np.ndarray, values: np.ndarray
    ) -> None: ...

    def policies(
        self, condition: str, episode: int, agents: np.ndarray, chances: np.ndarray
    ) -> None: ...


class Condition:
    """A population under one way of matching: its groups and its environment."""

    def __init__(
        self,
        settings: PopulationSettings,
        composition: Composition,
        tables: GameTables,
        make: GroupFactory,
    ) -> None:
        kinds = agent_kinds(settings, composition)
        owners = list(zip(composition.members, composition.numbers, strict=True))
        self.groups: dict[str, AgentGroup] = {}
        self._runs = len(settings.numbers)
        for kind in dict.fromkeys(kinds):
            indices = [index for index, one in enumerate(kinds) if one == kind]
            members = Members(
                settings=settings,
                agents=np.array(indices),
                types=tuple(composition.types[index] for index in indices),
                owners=[owners[index] for index in indices],
                size=composition.size,
            )
            self.groups[kind] = group = make(kind, members)
            check_group(kind, group, members.agents)
        agents = Agents(self.groups, owners, np.arange(composition.size))
        self.environment = Environment(settings, agents, tables, settings.matching)
        self.control: Environment | None = None
        if settings.random_selection and settings.matching == "selection":
            self.control = Environment(settings, agents, tables, "random", practice=True)

    def play(self, episode: int) -> tuple[EpisodeGames, EpisodeGames | None]:
        """An episode, and the control's with the same policies."""
        games = self.environment.play(episode)
        return games, self.control.play(episode) if self.control is not None else None

    def update(self) -> dict[str, Mapping[str, Any]]:
        """Let all groups learn from the episode; their statistics by kind."""
        return {
            kind: checked_statistics(kind, group.update(), (self._runs, len(group.agents)))
            for kind, group in self.groups.items()
        }

    def save(self) -> dict[str, dict[str, np.ndarray]]:
        """The state of every part."""
        state = {f"group.{kind}": group.save() for kind, group in self.groups.items()}
        state["environment"] = self.environment.save()
        if self.control is not None:
            state["control"] = self.control.save()
        return state

    def load(self, state: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Restore what `save` returned."""
        for kind, group in self.groups.items():
            group.load(state[f"group.{kind}"])
        self.environment.load(state["environment"])
        if self.control is not None:
            self.control.load(state["control"])


class Population:
    """All runs of a population with its baselines, between two episodes."""

    def __init__(self, settings: PopulationSettings, make: GroupFactory) -> None:
        self.settings = settings
        self.composition = parse(settings.composition, settings.rewards)
        check(settings, self.composition)
        rewards = [
            type_reward(kind, settings.game, settings.rewards, settings.xi, settings.beta)
            if not is_frozen(kind)
            else type_reward("S", settings.game)
            for kind in self.composition.types
        ]
        self.tables = GameTables(settings.game, rewards)
        """Payoffs, and the reward of every agent."""
        self.kinds = agent_kinds(settings, self.composition)
        """Kind of every agent, `[N]`."""
        self.episode = 0
        """Finished episodes."""
        self.conditions = {settings.matching: self._condition(settings, make)}
        """The trained conditions by name."""
        if settings.random_matching and settings.matching == "selection":
            other = replace(settings, matching="random")
            self.conditions[RANDOM_MATCHING] = self._condition(other, make)

    def _condition(self, settings: PopulationSettings, make: GroupFactory) -> Condition:
        return Condition(settings, self.composition, self.tables, make)

    @property
    def condition_names(self) -> tuple[str, ...]:
        """Names of all recorded conditions, the population itself first."""
        return condition_names(self.settings)

    def step(self) -> dict[str, EpisodeGames]:
        """Play and learn one episode in every condition; its games by condition."""
        found: dict[str, EpisodeGames] = {}
        self.statistics: dict[str, dict[str, Mapping[str, Any]]] = {}
        for name, condition in self.conditions.items():
            found[name], control = condition.play(self.episode)
            if control is not None:
                found[RANDOM_SELECTION] = control
            self.statistics[name] = condition.update()
        self.episode += 1
        return found

    def run(
        self,
        on_episode: Callable[[dict[str, EpisodeGames]], None] | None = None,
        writer: Writer | None = None,
        until: int | None = None,
        statistics_every: int = 100,
    ) -> None:
        """Train until `until` episodes are finished (default: all).

        `on_episode` is called with the games by condition after every episode, `writer` gets all
        games, and the statistics of the updates every few episodes and of the last one.
        """
        last = self.settings.iterations if until is None else min(until, self.settings.iterations)
        while self.episode < last:
            episode = self.episode
            games = self.step()
            if writer is not None:
                for condition, one in games.items():
                    writer.write(condition, one)
                if episode % statistics_every == 0 or self.episode == self.settings.iterations:
                    self._write_learning(writer, episode)
            if on_episode is not None:
                on_episode(games)

    def _write_learning(self, writer: Writer, episode: int) -> None:
        """Write the statistics of the updates, and the values that agents have learned."""
        for condition, found in self.statistics.items():
            writer.statistics(condition, episode, self._by_agent(condition, found))
            for group in self.conditions[condition].groups.values():
                if isinstance(group, TabularAgents | DeepQAgents):
                    writer.q_values(condition, episode, group.agents, group.q_values())
                if condition == "fixed" and isinstance(group, KNOWN_POLICY):
                    policy = group.pair_policy(episode)
                    writer.policies(condition, episode, group.agents, policy)

    def _by_agent(self, condition: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Statistics `[R, N]` by name, NaN where an agent has none."""
        merged: dict[str, np.ndarray] = {}
        shape = (len(self.settings.numbers), self.composition.size)
        for kind, group in self.conditions[condition].groups.items():
            for name, values in found[kind].items():
                merged.setdefault(name, np.full(shape, np.nan))[:, group.agents] = values
        return merged

    def about(self) -> dict[str, Any]:
        """What the records are about, for `agents.json`."""
        payoffs = self.tables.payoffs[0, 0, 0, :2, :2], self.tables.payoffs[1, 0, 0, :2, :2]
        parts = (self.composition.types, self.kinds, self.composition.labels)
        agents: list[dict[str, Any]] = [
            {"index": index, "type": kind, "kind": group, "label": label}
            for index, (kind, group, label) in enumerate(zip(*parts, strict=True))
        ]
        if self.settings.matching == "fixed":
            for index, member in enumerate(self.composition.members):
                if self.kinds[index] != "fixed" and not is_frozen(member):
                    # The players of a pair sit on seats 0 and 1.
                    table = self.tables.rewards[index, index % 2, :, :, :2, :2]
                    agents[index]["rewards"] = table.reshape(4, 4).tolist()
        return {
            "composition": self.composition.text,
            "agents": agents,
            "states": state_names(self.settings.state, self.composition.labels),
            "matching": self.settings.matching,
            "conditions": list(self.condition_names),
            "runs": list(self.settings.numbers),
            "iterations": self.settings.iterations,
            "game": {
                "title": self.settings.game.stage.title,
                "moves": list(self.settings.game.moves),
                "payoffs": [
                    [[float(payoffs[0][a, b]), float(payoffs[1][b, a])] for b in range(2)]
                    for a in range(2)
                ],
            },
        }

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        return {
            "composition": list(self.composition.members),
            "kinds": list(self.kinds),
            "matching": self.settings.matching,
            "state": self.settings.state,
            "seed": self.settings.seed,
            "runs": list(self.settings.numbers),
            "conditions": list(self.condition_names),
        }

    def save(self, folder: Path) -> None:
        """Write the whole state into an existing folder."""
        state = {name: condition.save() for name, condition in self.conditions.items()}
        write_state(folder, {**self.identity(), "episode": self.episode}, state)

    def load(self, folder: Path) -> None:
        """Go on from a saved state to identical numbers.

        Raises `ComityError` for a state of another population or a damaged one.
        """
        episode, state = read_state(folder, self.identity())
        try:
            for name, condition in self.conditions.items():
                condition.load(state[name])
        except (KeyError, ValueError, RuntimeError) as error:
            raise ComityError(
                f"checkpoint {folder} is damaged or incomplete ({error!r})"
            ) from error
        self.episode = episode


def build_population(
    settings: PopulationSettings, groups: GroupFactory | None = None
) -> Population:
    """The population of some settings; `groups` makes those of language models.

    Raises `ComityError` before anything heavy runs if the settings are invalid.
    """

    def make(kind: str, members: Members) -> AgentGroup:
        known = {**own_kinds(), **GROUPS}
        if kind in known:
            return known[kind](members)
        assert groups is not None
        return groups(kind, members)

    kinds = agent_kinds(settings, parse(settings.composition, settings.rewards))
    if groups is None and LANGUAGE_MODELS in kinds:
        raise ComityError("LLM: types need a model: give the population one (model=...)")
    return Population(settings, make)


def condition_names(settings: PopulationSettings) -> tuple[str, ...]:
    """Names of all recorded conditions, the population itself first."""
    chooses = settings.matching == "selection"
    controls = {
        RANDOM_MATCHING: settings.random_matching,
        RANDOM_SELECTION: settings.random_selection,
    }
    return (settings.matching, *(name for name, on in controls.items() if chooses and on))


def agent_kinds(settings: PopulationSettings, composition: Composition) -> tuple[str, ...]:
    """Kind of every agent: fixed, dqn, tabular or language_model, `[N]`."""
    found, prefixes = [], kind_prefixes()
    for member in composition.members:
        prefix = next((p for p in prefixes if member.startswith(p)), None)
        if prefix is not None:
            found.append(prefixes[prefix])
        else:
            found.append("fixed" if bare_type(member) in FIXED_TYPES else settings.learner)
    return tuple(found)


def check(settings: PopulationSettings, composition: Composition) -> None:
    """Raises `ComityError` if composition, game and matching do not fit each other."""
    check_game(settings.game)
    if settings.matching == "fixed" and composition.size % 2:
        raise ComityError(
            f"fixed pairs need an even number of agents, not {composition.size}; use "
            "matching=selection"
        )
