"""Language models as agents of a population.

Every agent of every run is a policy: a base model and an adapter of its own. In each of the two
phases of an episode, the questions of all agents and runs are one batch of the engine. An agent is
asked for a partner by the prompt of `comity.prompts.matrix.partner_choice`, and for its move by a
game's prompt that shows its own and its partner's latest move. Learners are updated together every
few episodes; frozen agents never change.

Draws have streams named by run and agent, so other agents and runs change no draw. The last bits
of a probability depend on what else is in a batch, so that a run alone equals the same run among
others up to rounding; a resumed run has the same batches and equals itself exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from comity.errors import ComityError, lookup
from comity.games.base import Game
from comity.games.randomness import ANSWER, generator
from comity.learning.state.exact_state import from_arrays, to_arrays
from comity.populations.agents.language_model_answers import Answer, AnswerSampler
from comity.populations.agents.language_model_questions import (
    LanguageModelAgent,
    Questions,
    SelectionQuestion,
)
from comity.populations.agents.language_model_training import DILEMMA, SELECTION, Decision
from comity.populations.base import (
    COOPERATE,
    DEFECT,
    ILLEGAL,
    GameExperience,
    GamesView,
    SelectionExperience,
    SelectionView,
)
from comity.populations.streams import Owner
from comity.prompts.matrix.partner_choice import PartnerChoice

FROZEN_SELECTIONS = {
    "prompt": "the frozen policy is asked like a learner, a skill that it was not trained in",
    "uniform": "any partner, with the same probability",
}
"""How frozen language models choose partners."""

LEARNED = ("loss", "kl", "entropy", "gradient_norm")
"""The learners' metrics among the statistics."""


@dataclass(frozen=True)
class LanguageModelSettings:
    """How a population's language models are asked and trained."""

    episodes_per_update: int = 16
    """Episodes between updates. Prompts that repeat until then are computed once."""
    min_decisions: int = 16
    """With fewer decisions an agent's update is deferred to the next one."""
    frozen_selection: str = "prompt"
    """One of `FROZEN_SELECTIONS`."""
    selection_goal: str = "selfish"
    """The goal in the selection prompt (`comity.prompts.matrix.partner_choice.GOALS`)."""
    selection_labels: str = "random"
    """The candidates' labels in it (`comity.prompts.matrix.partner_choice.LABELS`)."""

    def __post_init__(self) -> None:
        for name in ("episodes_per_update", "min_decisions"):
            if getattr(self, name) < 1:
                raise ComityError(f"{name} must be at least 1, not {getattr(self, name)}")
        lookup("frozen_selection", self.frozen_selection, FROZEN_SELECTIONS)
        self.choice()

    def choice(self) -> PartnerChoice:
        """The selection prompt."""
        return PartnerChoice(self.selection_goal, self.selection_labels)


class LanguageModelAgents:
    """All language models of a population in all runs (`comity.populations.base.AgentGroup`)."""

    def __init__(
        self,
        agents: Sequence[int],
        owners: Sequence[Owner],
        members: Sequence[Sequence[LanguageModelAgent]],
        size: int,
        game: Game,
        seed: int,
        run_numbers: Sequence[int] | None = None,
        settings: LanguageModelSettings | None = None,
    ) -> None:
        """`agents`: their indices in a population of `size`; `owners`: of their random streams.

        Both `[A]`; `members`, `[R][A]`. `game`: as in the prompts, of two seats and two moves.
        `seed`: the master seed. `run_numbers`, `[R]`: the runs' numbers; None: 0 to R - 1.
        """
        self.agents = np.asarray(agents, dtype=np.int64)
        self.members = [list(run) for run in members]
        self.settings = settings or LanguageModelSettings()
        numbers = range(self.runs) if run_numbers is None else run_numbers
        root, choice = (seed, numbers), self.settings.choice()
        self.questions = Questions(agents, owners, size, game, root, choice)
        self._place = {int(agent): a for a, agent in enumerate(self.agents)}
        self._playing, self._practicing = AnswerSampler(), AnswerSampler()
        self._selected: dict[tuple[int, int], Answer] = {}
        """By (run, place of the agent): its choice in the current episode."""
        self._acted: dict[tuple[int, int, int], Answer] = {}
        """By (run, position, agent): its move in the current episode's game."""
        self._episodes = 0
        self._row: dict[str, np.ndarray] = {}
        """The current episode's statistics."""

    @property
    def runs(self) -> int:
        return len(self.members)

    def select(self, view: SelectionView) -> np.ndarray:
        """int `[R, A]`: every agent's partner."""
        chosen = np.full((self.runs, len(self.agents)), ILLEGAL, dtype=np.int64)
        places, asked = [], []
        for run, place, member in self.everyone():
            others = self.questions.others(place)
            stream = self.questions.stream(run, place, "select", view.episode)
            uniform = member.trainer is None and self.settings.frozen_selection == "uniform"
            if uniform or len(others) == 1:
                chosen[run, place] = others[generator(*stream, ANSWER).integers(len(others))]
                continue
            places.append((run, place))
            asked.append(self.questions.selection(member, place, view.latest[run], stream))
        answers = self._playing.ask([one.question for one in asked])
        self._selected = dict(zip(places, answers, strict=True))
        for (run, place), one, answer in zip(places, asked, answers, strict=True):
            if answer.choice != ILLEGAL:
                chosen[run, place] = one.candidates[answer.choice]
        self._note_selections(view, places, asked, answers)
        return chosen

    def act(self, view: GamesView, *, practice: bool = False) -> np.ndarray:
        """int8 `[K]`: the move of every row."""
        asked = []
        for run, position, agent, selector, own, other in _rows(view):
            place = self._place[agent]
            decision = "practice" if practice else "act"
            stream = self.questions.stream(run, place, decision, view.episode, position)
            member, seat = self.members[run][place], 0 if selector else 1
            asked.append(self.questions.dilemma(member, seat, (own, other), stream))
        answers = (self._practicing if practice else self._playing).ask(asked)
        if not practice:
            keys = [(run, position, agent) for run, position, agent, *_ in _rows(view)]
            self._acted = dict(zip(keys, answers, strict=True))
            self._note_moves(view, answers)
        return np.array([answer.choice for answer in answers], dtype=np.int8)

    def record(self, games: GameExperience, selections: SelectionExperience | None) -> None:
        """Add the learners' rewarded decisions to their buffers."""
        if selections is not None:
            for (run, place), answer in self._selected.items():
                reward = float(selections.reward[run, place])
                self._keep(self.members[run][place], SELECTION, answer, reward)
        for (run, position, agent, *_), reward in zip(
            _rows(games.view), games.reward.tolist(), strict=True
        ):
            member = self.members[run][self._place[agent]]
            self._keep(member, DILEMMA, self._acted[run, position, agent], reward)
        self._selected, self._acted = {}, {}

    def update(self) -> Mapping[str, Any]:
        """Update the learners where it is time to; returns the episode's statistics, `[R, A]`.

        - `selection_entropy` (nats), `p_select_cooperator` where a cooperator was available, and
          `p_select_cooperator_chance`, the same for uniform choices;
        - `p_cooperate_given_cooperate`, `p_cooperate_given_defect`: by the partner's latest move;
        - with an update: `decisions` (0: deferred), `loss`, `kl`, `entropy`, `gradient_norm`.

        Probabilities are exact, of the questions of this episode. NaN: there was none.
        """
        statistics, self._row = self._row, {}
        self._episodes += 1
        if self._episodes % self.settings.episodes_per_update == 0:
            learned = {name: self._empty() for name in ("decisions", *LEARNED)}
            for run, place, member in self.everyone():
                if member.trainer is None:
                    continue
                row = member.trainer.update()
                for name, values in learned.items():
                    if row.get(name) is not None:
                        values[run, place] = row[name]
            if np.nansum(learned["decisions"]) > 0:
                self._forget()
            statistics = {**statistics, **learned}
        return statistics

    def save(self) -> dict[str, np.ndarray]:
        """Adapters, optimizers, buffers and counters of all learners.

        Cached results of prompts are dropped, so that a run that goes on and one that is resumed
        compute the same batches from here on.
        """
        self._forget()
        trainers = [[one.trainer for one in run] for run in self.members]
        return to_arrays(
            {
                "agents": self.agents.tolist(),
                "episodes": self._episodes,
                "learners": [[t and t.state() for t in run] for run in trainers],
            }
        )

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `save` returned; `ComityError` if it is of other agents or runs."""
        tree = from_arrays(state)
        learning = [[one.trainer is not None for one in run] for run in self.members]
        saved = [[one is not None for one in run] for run in tree["learners"]]
        if tree["agents"] != self.agents.tolist() or saved != learning:
            raise ComityError(
                "the checkpoint is of other language models or another number of runs; resume "
                "with the composition and runs that the population began with"
            )
        self._forget()
        for run, place, member in self.everyone():
            if member.trainer is not None:
                member.trainer.restore_state(tree["learners"][run][place])
        self._episodes = int(tree["episodes"])
        self._selected, self._acted, self._row = {}, {}, {}

    def everyone(self) -> list[tuple[int, int, LanguageModelAgent]]:
        """(run, place, agent) of all, by run."""
        return [
            (run, place, member)
            for run, members in enumerate(self.members)
            for place, member in enumerate(members)
        ]

    def _empty(self) -> np.ndarray:
        return np.full((self.runs, len(self.agents)), np.nan)

    def _forget(self) -> None:
        self._playing.forget()
        self._practicing.forget()

    @staticmethod
    def _keep(member: LanguageModelAgent, kind: str, answer: Answer, reward: float) -> None:
        if member.trainer is not None:
            member.trainer.buffer.append(
                Decision(kind, answer.ids, answer.start, answer.answers, answer.behavior, reward)
            )

    def _note_selections(
        self,
        view: SelectionView,
        places: Sequence[tuple[int, int]],
        asked: Sequence[SelectionQuestion],
        answers: Sequence[Answer],
    ) -> None:
        """Statistics of an episode's choices of partners."""
        entropy, chosen, chance = self._empty(), self._empty(), self._empty()
        for (run, place), one, answer in zip(places, asked, answers, strict=True):
            p = answer.probabilities
            entropy[run, place] = -(p * np.log(np.maximum(p, 1e-300))).sum()
            cooperators = view.latest[run, one.candidates] == COOPERATE
            if cooperators.any():
                chosen[run, place] = p[cooperators].sum()
                chance[run, place] = cooperators.mean()
        self._row |= {
            "selection_entropy": entropy,
            "p_select_cooperator": chosen,
            "p_select_cooperator_chance": chance,
        }

    def _note_moves(self, view: GamesView, answers: Sequence[Answer]) -> None:
        """Statistics of an episode's moves, by the partner's latest one."""
        for move, name in ((COOPERATE, "cooperate"), (DEFECT, "defect")):
            total, count = (np.zeros((self.runs, len(self.agents))) for _ in range(2))
            for (run, _, agent, _, _, other), answer in zip(_rows(view), answers, strict=True):
                if other == move:
                    total[run, self._place[agent]] += answer.probabilities[COOPERATE]
                    count[run, self._place[agent]] += 1
            mean = np.divide(total, count, out=self._empty(), where=count > 0)
            self._row[f"p_cooperate_given_{name}"] = mean


def _rows(view: GamesView) -> list[tuple[int, int, int, bool, int, int]]:
    """Run, position, agent, selector, own and partner's latest move of every row."""
    columns = (view.run, view.position, view.agent, view.selector, view.own, view.other)
    return list(zip(*(column.tolist() for column in columns), strict=True))
