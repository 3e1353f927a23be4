"""One batch of a PPO update: what is held constant during its steps, and what they reported.

- `Batch`: log-probabilities, values, advantages and returns from before the first step.
- `Seen`: sums over the steps, for the metrics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from comity.learning.credit.gae import gae
from comity.learning.ppo.objective import whitened
from comity.learning.training_batch import Lesson, TermReading, TrainedDecision

if TYPE_CHECKING:
    from comity.learning.ppo.learner import PpoLearner


@dataclass(frozen=True)
class Old:
    """What terms were before the first step; float32 `[n]` each."""

    logprobs: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    entropy: torch.Tensor


class Batch:
    """One batch with everything that is held constant during its steps."""

    def __init__(
        self, learner: "PpoLearner", lessons: Sequence[Lesson], scores: dict[int, float]
    ) -> None:
        self.lessons = lessons
        self._learner = learner
        self._scores = scores
        self._places: dict[int, tuple[int, int]] = {}
        """Of each decision, by source: its first term and the end of its terms."""
        self.taken = False
        self.divergence = 0.0
        """Mean over decisions of log pi - log ref of the whole answer, in nats."""
        self.values = np.zeros(0)

    def take(self, reading: TermReading, lessons: Sequence[Lesson] | None = None) -> None:
        """Make advantages and returns from a reading of all lessons (in this order)."""
        learner = self._learner
        lessons = self.lessons if lessons is None else lessons
        decisions = [d for lesson in lessons for d in lesson.decisions]
        place = 0
        for d in decisions:
            self._places[d.source] = (place, place + len(d.behavior))
            place += len(d.behavior)
        device = reading.logprobs.device
        logprobs = reading.logprobs.detach()
        with torch.no_grad():
            values = learner.value_head(reading.hidden.detach())
        rewards = np.zeros(place)
        if learner.ppo.kl > 0:
            gap = (logprobs - learner.reference.logprobs(lessons)).double().cpu().numpy()
            rewards -= learner.kl.coefficient * gap
            self.divergence = float(gap.sum()) / len(decisions)
        for d in self._paid(decisions):
            rewards[self._places[d.source][1] - 1] += self._scores[d.source]
        self.values = values.double().cpu().numpy()
        advantages = self._advantages(decisions, rewards)
        returns = advantages + self.values
        if learner.ppo.whiten:
            advantages = whitened(advantages)
        self._all = Old(
            logprobs=logprobs,
            values=values,
            advantages=torch.tensor(advantages, dtype=torch.float32, device=device),
            returns=torch.tensor(returns, dtype=torch.float32, device=device),
            entropy=reading.entropy.detach(),
        )
        self.taken = True

    def _paid(self, decisions: Sequence[TrainedDecision]) -> Sequence[TrainedDecision]:
        """Whose score counts: with the horizon "rounds" a round is paid once, at its last answer.

        A bandit of its own, every answer of a round has the round's score.
        """
        if self._learner.ppo.horizon != "rounds":
            return decisions
        last: dict[tuple[object, ...], TrainedDecision] = {}
        for d in sorted(decisions, key=lambda one: one.source):
            last[_round(d)] = d
        return list(last.values())

    def _advantages(self, decisions: Sequence[TrainedDecision], rewards: np.ndarray) -> np.ndarray:
        """Generalized advantages of all terms, trajectory by trajectory."""
        ppo = self._learner.ppo
        trajectories: dict[tuple[int, ...], list[TrainedDecision]] = {}
        for d in decisions:
            key = d.trajectory if ppo.horizon == "rounds" else (d.source,)
            trajectories.setdefault(key, []).append(d)
        advantages = np.zeros(len(rewards))
        for found in trajectories.values():
            terms: list[int] = []
            discounts: list[float] = []
            ordered = sorted(found, key=lambda one: one.source)
            for d, following in zip(ordered, [*ordered[1:], None], strict=True):
                first, end = self._places[d.source]
                terms += range(first, end)
                # With "rounds" the discount acts between rounds, not between the tokens of an
                # answer or the answers of a round.
                inside = 1.0 if ppo.horizon == "rounds" else ppo.discount
                same = following is not None and _round(following) == _round(d)
                discounts += [inside] * (end - first - 1) + [inside if same else ppo.discount]
            advantages[terms] = gae(
                list(rewards[terms]), list(self.values[terms]), discounts, ppo.gae_lambda
            )
        return advantages

    def of(self, lessons: Sequence[Lesson]) -> Old:
        """The constants of some lessons' terms, in the order of their reading."""
        index = torch.tensor(
            [
                term
                for lesson in lessons
                for d in lesson.decisions
                for term in range(*self._places[d.source])
            ],
            device=self._all.logprobs.device,
        )
        return Old(**{key: value[index] for key, value in vars(self._all).items()})

    def credited(self) -> dict[int, float]:
        """Mean advantage of each decision's terms, by source."""
        return {
            source: float(self._all.advantages[first:end].mean())
            for source, (first, end) in self._places.items()
        }


def _round(d: TrainedDecision) -> tuple[object, ...]:
    """Equal for decisions of one seat in one round of a match."""
    return (*d.trajectory, d.source if d.round is None else ("round", d.round))


class Seen:
    """What the steps of one update reported."""

    def __init__(self) -> None:
        self.loss = self.norm = self.policy = self.value = self.entropy = 0.0
        self.ratio = 0.0
        self.lowest, self.highest = float("inf"), float("-inf")
        self.clipped = 0.0
        self.terms = self.steps = self.skipped = 0

    def add(
        self,
        policy: torch.Tensor,
        value: torch.Tensor,
        ratio: torch.Tensor,
        entropy: torch.Tensor,
        clip: float | None,
    ) -> None:
        ratio = ratio.detach()
        self.policy += float(policy.detach().sum())
        self.value += float(value.detach().sum())
        self.entropy += float(entropy.detach().sum())
        self.ratio += float(ratio.sum())
        self.lowest = min(self.lowest, float(ratio.min()))
        self.highest = max(self.highest, float(ratio.max()))
        if clip is not None:
            self.clipped += float(((ratio - 1).abs() > clip).sum())
        self.terms += len(ratio)

    def summary(self) -> dict[str, Any]:
        steps, terms = max(1, self.steps), max(1, self.terms)
        return {
            "loss": self.loss / steps,
            "policy_loss": self.policy / terms,
            "value_loss": self.value / terms,
            "entropy": self.entropy / terms,
            "ratio_mean": self.ratio / terms,
            "ratio_min": self.lowest,
            "ratio_max": self.highest,
            "clipped": self.clipped / terms,
            "steps": self.steps,
            "steps_skipped": self.skipped,
            "gradient_norm": self.norm / steps,
        }
