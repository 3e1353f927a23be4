"""A small population around a group of language models, for tests: others play a fixed move."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from comity.games.randomness import POPULATION
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.ppo.learner import PpoLearner
from comity.learning.ppo.objective import PpoSettings
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.populations.agents.language_model import LanguageModelAgents, LanguageModelSettings
from comity.populations.agents.language_model_questions import LanguageModelAgent
from comity.populations.agents.language_model_training import AgentTrainer
from comity.populations.base import (
    GameExperience,
    GamesView,
    SelectionExperience,
    SelectionView,
)
from tests.worlds import dilemma, tiny_models

SHORT = {"name": "structured", "framing": "action_game_state"}
"""Shows the partner's latest move alone, in few tokens."""
GAME = dilemma(1)
Reward = Callable[[int, int, int], float]
"""Of (agent, own move, partner's move)."""


def own_payoff(agent: int, own: int, other: int) -> float:
    return float(GAME.stage.payoff((own, other))[0])  # type: ignore[attr-defined]


def models_of(
    names: Sequence[str], answer: str = "constrained", prompt: dict[str, Any] = SHORT
) -> LanguageModelBackend:
    return tiny_models(prompt=prompt, answer={"name": answer}, adapters=tuple(names))


def group_of(
    runs: Sequence[int] = (0,),
    agents: Sequence[int] = (0, 1, 2),
    size: int = 4,
    frozen: Sequence[int] = (),
    algorithm: str = "reinforce",
    answer: str = "constrained",
    rate: float = 0.01,
    temperature: float = 1.0,
    prompt: dict[str, Any] = SHORT,
    **settings: Any,
) -> LanguageModelAgents:
    """Agents with random adapters, named by run and agent; the indices `frozen` learn nothing."""
    models = models_of((), answer, prompt)
    members = []
    for run in runs:
        members.append([])
        for agent in agents:
            name, stream = f"run{run}-{agent}", (7, run, POPULATION, "LLM:UT", agent)
            add_adapter(models, name, 100 * run + agent)
            policy = Policy(name, models, name, temperature)
            trainer = None
            if agent not in frozen:
                learner = learner_of(models, name, algorithm, rate)
                trainer = AgentTrainer(
                    learner, temperature, settings.get("min_decisions", 2), stream
                )
            members[-1].append(LanguageModelAgent(policy, trainer))
    given = LanguageModelSettings(**{"episodes_per_update": 2, "min_decisions": 2, **settings})
    owners = [("LLM:UT", agent) for agent in agents]
    return LanguageModelAgents(agents, owners, members, size, GAME, 7, runs, given)


def add_adapter(models: LanguageModelBackend, name: str, seed: int) -> None:
    import torch

    models.engine.adapters.add(name, rank=4, alpha=8, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in models.engine.adapters.parameters(name).values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2


def learner_of(models: LanguageModelBackend, name: str, algorithm: str, rate: float) -> Learner:
    optimizer = OptimizerSettings(learning_rate=rate)
    if algorithm == "ppo":
        settings = PpoSettings(epochs=2, minibatches=2, kl=0.1)
        return PpoLearner(models.engine, name, optimizer, LossSettings(), 100, 4096, ppo=settings)
    return Learner(models.engine, name, optimizer, LossSettings(kl=0.05), 100, 4096)


class Arena:
    """Episodes of a population whose other agents play `moves` and pick their neighbour."""

    def __init__(
        self,
        group: LanguageModelAgents,
        size: int = 4,
        moves: Mapping[int, int] | None = None,
        reward: Reward = own_payoff,
        selecting: bool = True,
        practice: bool = False,
    ) -> None:
        self.group, self.size, self.reward = group, size, reward
        self.moves = moves or {}
        self.selecting, self.practice = selecting, practice
        self.latest = np.zeros((group.runs, size), dtype=np.int8)
        self.latest[:, ::2] = 1
        self.episode = 0
        self.history: list[list[Any]] = []
        """Choices and moves of every episode."""

    def play(self, episodes: int) -> list[Mapping[str, Any]]:
        return [self._episode() for _ in range(episodes)]

    def _episode(self) -> Mapping[str, Any]:
        group, runs = self.group, self.group.runs
        before = self.latest.copy()
        partner = np.tile((np.arange(self.size) + 1) % self.size, (runs, 1))
        chosen = partner[:, group.agents]
        if self.selecting:
            chosen = group.select(SelectionView(self.episode, before))
            legal = np.where(chosen == -1, partner[:, group.agents], chosen)
            partner[:, group.agents] = legal
        rows = [
            (run, position, agent, other, side == 0)
            for run in range(runs)
            for position in range(self.size)
            for side, (agent, other) in enumerate(
                ((position, partner[run, position]), (partner[run, position], position))
            )
            if agent in group.agents
        ]
        run, position, agent, other, selector = (np.array(one) for one in zip(*rows, strict=True))
        view = GamesView(
            self.episode,
            *(run, position, agent, other, selector),
            before[run, agent],
            before[run, other],
        )
        if self.practice:
            group.act(view, practice=True)
        intended = group.act(view)
        if self.practice:
            group.act(view, practice=True)
        answered = dict(zip(zip(run, position, agent, strict=True), intended, strict=True))

        def move_of(r: int, p: int, a: int) -> int:
            found = int(answered[r, p, a]) if a in group.agents else self.moves.get(a, 0)
            return int(before[r, a]) if found == -1 else found

        own = np.array([move_of(*one) for one in zip(run, position, agent, strict=True)])
        theirs = np.array([move_of(*one) for one in zip(run, position, other, strict=True)])
        rewards = np.array([self.reward(*one) for one in zip(agent, own, theirs, strict=True)])
        rewards = np.where(intended == -1, -6.0, rewards)
        self.latest[run, agent], self.latest[run, other] = own, theirs
        games = GameExperience(view, intended, own.astype(np.int8), theirs.astype(np.int8), rewards)
        selections = None
        if self.selecting:
            gained = np.zeros((runs, len(group.agents)))
            for k in np.flatnonzero(selector):
                gained[run[k], list(group.agents).index(agent[k])] = rewards[k]
            selections = SelectionExperience(
                SelectionView(self.episode, before),
                *(chosen, partner[:, group.agents], np.where(chosen == -1, -6.0, gained)),
                self.latest.copy(),
            )
        group.record(games, selections)
        self.history.append([chosen.tolist(), intended.tolist()])
        self.episode += 1
        return group.update()
