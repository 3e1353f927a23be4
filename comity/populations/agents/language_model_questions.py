"""The questions that language models of a population are asked, with the names of their streams."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from comity.games.base import Game, Observation, Turn
from comity.games.randomness import POPULATION
from comity.players.language_model.player import Policy
from comity.populations.agents.language_model_answers import Question, Stream
from comity.populations.agents.language_model_training import AgentTrainer
from comity.populations.base import COOPERATE, DEFECT, ILLEGAL
from comity.populations.streams import Owner
from comity.prompts.matrix.partner_choice import PartnerChoice


@dataclass(frozen=True)
class LanguageModelAgent:
    """One agent in one run."""

    policy: Policy
    trainer: AgentTrainer | None = None
    """None: frozen."""


@dataclass(frozen=True)
class SelectionQuestion:
    """A question for a partner."""

    question: Question
    candidates: np.ndarray
    """int `[N - 1]`: the agent that each label stands for."""


class Questions:
    """Makes the questions of a group of agents."""

    def __init__(
        self,
        agents: Sequence[int],
        owners: Sequence[Owner],
        size: int,
        game: Game,
        root: tuple[int, Sequence[int]],
        choice: PartnerChoice,
    ) -> None:
        """`agents`, `owners`, `[A]`; `size`: N; `root`: the master seed and the runs' numbers."""
        self._owners, self._game, self._choice = list(owners), game, choice
        self._seed, self._runs = root[0], list(root[1])
        self._others = [np.delete(np.arange(size), agent) for agent in agents]

    def stream(self, run: int, place: int, *decision: int | str) -> Stream:
        """The name of an agent's random stream for one decision."""
        return (self._seed, self._runs[run], POPULATION, *self._owners[place], *decision)

    def others(self, place: int) -> np.ndarray:
        """int `[N - 1]`: the indices of all but this agent, ascending."""
        return self._others[place]

    def selection(
        self, member: LanguageModelAgent, place: int, latest: np.ndarray, stream: Stream
    ) -> SelectionQuestion:
        """Which partner? `latest`, `[N]`: all latest moves; the agent's own one is not shown."""
        others = self._others[place]
        prompt = member.policy.backend.prompt.sample_variant(stream)
        moves = [None if move == ILLEGAL else int(move) for move in latest[others]]
        asked = self._choice.question(self._game, prompt.labels(self._game), moves, stream)
        return SelectionQuestion(
            Question(member.policy, asked.text, asked.labels, stream),
            others[list(asked.candidates)],
        )

    def dilemma(
        self, member: LanguageModelAgent, seat: int, latest: tuple[int, int], stream: Stream
    ) -> Question:
        """Which move? `latest`: own and partner's latest moves."""
        prompt = member.policy.backend.prompt.sample_variant(stream)
        prior = latest if seat == 0 else latest[::-1]
        turn = Turn(
            seat=seat,
            round=0,
            step=0,
            kind="choose",
            legal=(COOPERATE, DEFECT),
            observation=Observation(seat, 2, 0, (), prior=None if ILLEGAL in latest else prior),
        )
        text = prompt.opening(self._game, turn)
        return Question(member.policy, text, tuple(prompt.labels(self._game)), stream)
