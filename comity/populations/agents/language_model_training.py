"""What a language model of a population learns from: its buffer, its advantages, its updates.

Every decision is rewarded once, by its own game, so returns are rewards. For decision i of an
agent, of the kind k (selection or dilemma), among its n_k decisions of that kind:

    A_i = r_i - mean of the rewards of its other decisions of kind k
    advantage_i = A_i / deviation of all A of the agent, both kinds together

The baseline does not depend on the decision itself, so it changes no expected gradient. Kinds have
baselines of their own, because a choice of partner and a move have other mean rewards where
popular agents play many games; the common scale keeps the weight of the two as the rewards have
it. Agents are normalized one by one: how many games an agent is chosen for changes nothing for
the others.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from comity.engines.local.scoring import Answers
from comity.errors import ComityError
from comity.games.randomness import generator
from comity.learning.learner import Learner
from comity.learning.training_batch import TrainedDecision, TrainingSequence

SELECTION, DILEMMA = "select", "choose"
"""Kinds of decisions, as in `comity.learning.loss.TURNS`."""
SMALLEST_DEVIATION = 1e-9


@dataclass(frozen=True)
class Decision:
    """A rewarded decision in a buffer."""

    kind: str
    """`SELECTION` or `DILEMMA`."""
    ids: tuple[int, ...]
    """Prompt and answer."""
    start: int
    """Index of the first sampled token in `ids`."""
    answers: Answers
    """Ids of the scored answers; () for free text."""
    behavior: tuple[float, ...]
    """Log-probability of every term when it was sampled."""
    reward: float


def centered_rewards(kinds: Sequence[str], rewards: Sequence[float]) -> np.ndarray:
    """float64 `[n]`: each reward less the mean of the agent's other rewards of the same kind.

    0 for a decision that is the only one of its kind, with which nothing can be compared.
    """
    of, found = np.asarray(kinds), np.asarray(rewards, dtype=np.float64)
    result = np.zeros(len(found))
    for kind in np.unique(of):
        mine = of == kind
        count = int(mine.sum())
        if count > 1 and np.ptp(found[mine]) > 0:  # Rounding would leave something of equal ones.
            others = (found[mine].sum() - found[mine]) / (count - 1)
            result[mine] = found[mine] - others
    return result


def decision_advantages(kinds: Sequence[str], rewards: Sequence[float]) -> np.ndarray:
    """The advantages of one agent's decisions, float64 `[n]` (see the module's docstring).

    All 0 if no two rewards of a kind differ.
    """
    centered = centered_rewards(kinds, rewards)
    if len(centered) < 2 or np.ptp(centered) == 0.0:
        return np.zeros(len(centered))
    return np.asarray(centered / (centered.std(ddof=1) + SMALLEST_DEVIATION))


class AgentTrainer:
    """A learner of one run with the decisions that it has not learned from yet."""

    def __init__(
        self,
        learner: Learner,
        temperature: float,
        min_decisions: int,
        stream: tuple[int | str, ...],
    ) -> None:
        """`min_decisions`: fewer of them defer an update. `temperature`: of the policy.

        `stream`: name of the agent's random streams, for the dropout of PPO's value model.
        """
        self.learner = learner
        self._stream = stream
        self.buffer: list[Decision] = []
        self._temperature = temperature
        self._min_decisions = min_decisions

    @property
    def ready(self) -> bool:
        """Whether there are enough decisions for an update."""
        return len(self.buffer) >= self._min_decisions

    def update(self) -> dict[str, Any]:
        """One update on the whole buffer, which is empty afterwards; returns the learner's metrics.

        If it is not `ready`, nothing happens: the decisions are kept for the next update.
        """
        if not self.ready:
            return {"decisions": 0}
        seed = generator(*self._stream, "update", self.learner.version).integers(2**62)
        with torch.random.fork_rng():
            torch.manual_seed(int(seed))
            row = self.learner.update(self.sequences())
        self.buffer = []
        return row

    def sequences(self) -> list[TrainingSequence]:
        """The buffer as training sequences, in the order of play.

        `advantage` is for REINFORCE. `reward` is for PPO, which has a value model and normalizes
        by itself: the reward less the kind's baseline.
        """
        kinds, rewards = [d.kind for d in self.buffer], [d.reward for d in self.buffer]
        centered = centered_rewards(kinds, rewards)
        advantages = decision_advantages(kinds, rewards)
        return [
            TrainingSequence(
                d.ids,
                (
                    TrainedDecision(
                        start=d.start,
                        tokens=d.ids[d.start :],
                        answers=d.answers,
                        behavior=d.behavior,
                        advantage=float(advantages[i]),
                        temperature=self._temperature,
                        reward=float(centered[i]),
                        source=i,
                        trajectory=(i, 0),
                        kind=d.kind,
                    ),
                ),
            )
            for i, d in enumerate(self.buffer)
        ]

    def state(self) -> dict[str, Any]:
        """Weights, optimizer, the learner's counters and the buffer (see `exact_state`)."""
        learner = self.learner
        return {
            "weights": {name: weight.data for name, weight in learner.parameters.items()},
            "optimizer": learner.optimizer.state_dict(),
            "learner": learner.state(),
            "version": learner.version,
            "buffer": [asdict(one) for one in self.buffer],
        }

    def restore_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned; raises `ComityError` if it is of another adapter."""
        learner = self.learner
        saved = state["weights"]
        if {name: weight.shape for name, weight in saved.items()} != {
            name: weight.shape for name, weight in learner.parameters.items()
        }:
            raise ComityError(
                f"the checkpoint's adapter of {learner.adapter!r} has other shapes; resume with "
                "the settings that the population began with"
            )
        for name, weight in learner.parameters.items():
            weight.data.copy_(saved[name])
        learner.optimizer.load_state_dict(state["optimizer"])
        learner.restore_state(state["learner"])
        learner.version = int(state["version"])
        self.buffer = [Decision(**one) for one in state["buffer"]]
