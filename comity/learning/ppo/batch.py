"""One batch of a PPO update: its constants during the steps, and the steps' metrics.

- `PpoBatch`: log-probabilities, values, advantages and returns from before the first step.
- `UpdateStatistics`: sums over the steps, for the metrics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from comity.learning.credit.gae import gae
from comity.learning.ppo.objective import PpoSettings, whitened
from comity.learning.training_batch import TermOutputs, TrainedDecision, TrainingSequence


@dataclass(frozen=True)
class RolloutTerms:
    """Terms under the policy that played, before the first step; float32 `[n]` each."""

    logprobs: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    entropy: torch.Tensor


class PpoBatch:
    """One batch with its constants during the steps."""

    def __init__(
        self,
        settings: PpoSettings,
        sequences: Sequence[TrainingSequence],
        scores: dict[int, float],
    ) -> None:
        """`scores`: the normalized reward of each decision, by its source."""
        self.sequences = sequences
        self._settings = settings
        self._scores = scores
        self._term_ranges: dict[int, tuple[int, int]] = {}
        """(first term, end of terms) of each decision, by source."""
        self.prepared = False
        self.divergence = 0.0
        """Mean over decisions of log pi - log ref of the whole answer, in nats."""
        self.values = np.zeros(0)

    def prepare(
        self,
        outputs: TermOutputs,
        values: torch.Tensor,
        reference: torch.Tensor | None = None,
        kl_coefficient: float = 0.0,
        sequences: Sequence[TrainingSequence] | None = None,
    ) -> None:
        """Compute advantages and returns from the outputs of all sequences, in this order.

        `values`, float32 `[n]`: of every term. `reference`, float32 `[n]`: log-probabilities under
        the reference policy; None: no KL penalty.
        """
        sequences = self.sequences if sequences is None else sequences
        decisions = [d for sequence in sequences for d in sequence.decisions]
        place = 0
        for d in decisions:
            self._term_ranges[d.source] = (place, place + len(d.behavior))
            place += len(d.behavior)
        device = outputs.logprobs.device
        logprobs = outputs.logprobs.detach()
        rewards = np.zeros(place)
        if reference is not None:
            gap = (logprobs - reference).double().cpu().numpy()
            rewards -= kl_coefficient * gap
            self.divergence = float(gap.sum()) / len(decisions)
        for d in self._rewarded(decisions):
            rewards[self._term_ranges[d.source][1] - 1] += self._scores[d.source]
        self.values = values.double().cpu().numpy()
        advantages = self._advantages(decisions, rewards)
        returns = advantages + self.values
        if self._settings.whiten:
            advantages = whitened(advantages)
        self._all = RolloutTerms(
            logprobs=logprobs,
            values=values,
            advantages=torch.tensor(advantages, dtype=torch.float32, device=device),
            returns=torch.tensor(returns, dtype=torch.float32, device=device),
            entropy=outputs.entropy.detach(),
        )
        self.prepared = True

    def _rewarded(self, decisions: Sequence[TrainedDecision]) -> Sequence[TrainedDecision]:
        """Decisions that get their score: with the horizon "rounds", a round's last answer.

        With the horizon "answer", every answer of a round gets the round's score.
        """
        if self._settings.horizon != "rounds":
            return decisions
        last: dict[tuple[object, ...], TrainedDecision] = {}
        for d in sorted(decisions, key=lambda one: one.source):
            last[_round(d)] = d
        return list(last.values())

    def _advantages(self, decisions: Sequence[TrainedDecision], rewards: np.ndarray) -> np.ndarray:
        """Generalized advantages of all terms, trajectory by trajectory."""
        ppo = self._settings
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
                first, end = self._term_ranges[d.source]
                terms += range(first, end)
                # With "rounds", the discount applies between rounds, not between the tokens of an
                # answer or the answers of a round.
                inside = 1.0 if ppo.horizon == "rounds" else ppo.discount
                same = following is not None and _round(following) == _round(d)
                discounts += [inside] * (end - first - 1) + [inside if same else ppo.discount]
            advantages[terms] = gae(
                list(rewards[terms]), list(self.values[terms]), discounts, ppo.gae_lambda
            )
        return advantages

    def of(self, sequences: Sequence[TrainingSequence]) -> RolloutTerms:
        """The constants of some sequences' terms, in the order of `compute_terms`."""
        index = torch.tensor(
            [
                term
                for sequence in sequences
                for d in sequence.decisions
                for term in range(*self._term_ranges[d.source])
            ],
            device=self._all.logprobs.device,
        )
        return RolloutTerms(**{key: value[index] for key, value in vars(self._all).items()})

    def mean_advantages(self) -> dict[int, float]:
        """Mean advantage of each decision's terms, by source."""
        return {
            source: float(self._all.advantages[first:end].mean())
            for source, (first, end) in self._term_ranges.items()
        }


def _round(d: TrainedDecision) -> tuple[object, ...]:
    """Equal for decisions of one seat in one round of a match."""
    return (*d.trajectory, d.source if d.round is None else ("round", d.round))


class UpdateStatistics:
    """Metrics of one update, summed over its steps."""

    def __init__(self) -> None:
        self.loss = self.norm = self.policy = self.value = self.entropy = 0.0
        self.ratio = 0.0
        self.lowest, self.highest = float("inf"), float("-inf")
        self.clipped = 0.0
        self.terms = self.steps = self.skipped = 0

    @staticmethod
    def of(parts: "Sequence[UpdateStatistics]") -> "UpdateStatistics":
        """The statistics of all ranks; loss, norm and numbers of steps are the same on each."""
        together = UpdateStatistics()
        first = parts[0]
        together.loss, together.norm = first.loss, first.norm
        together.steps, together.skipped = first.steps, first.skipped
        for one in parts:
            together.policy += one.policy
            together.value += one.value
            together.entropy += one.entropy
            together.ratio += one.ratio
            together.lowest = min(together.lowest, one.lowest)
            together.highest = max(together.highest, one.highest)
            together.clipped += one.clipped
            together.terms += one.terms
        return together

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
