"""A learner with proximal policy optimization (PPO) and a value head.

One update, from one batch of decisions:

1. scores: the decisions' rewards, normalized by running moments and clipped, if configured;
2. log-probabilities and values of all terms before the first step, without dropout. If the
   update is a single step without dropout, the same forward pass is differentiated, so that
   nothing is computed twice. Until the first step every ratio is exactly 1;
3. term rewards: minus the KL coefficient times log(pi/ref), plus the score on the last term;
4. generalized advantages, returns, whitening (of the advantages only);
5. epochs x minibatches optimizer steps on clipped policy and value losses;
6. the KL controller adapts to the measured divergence.

The value of a term is a linear function of the last hidden state that predicts it. Its gradient
also trains the adapter, as in the published systems.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from comity.engines.local.session import Session
from comity.games.randomness import MINIBATCHES, generator
from comity.learning.learner import Learner, turn_mask
from comity.learning.ppo.batch import PpoBatch, RolloutTerms, UpdateStatistics
from comity.learning.ppo.objective import (
    KlController,
    PpoSettings,
    RunningMoments,
    policy_losses,
    value_losses,
)
from comity.learning.training_batch import TermOutputs, TrainingSequence, local_sequences
from comity.learning.value_head import ValueHead


class PpoLearner(Learner):
    """See the module's docstring."""

    def __init__(
        self, *args: Any, ppo: PpoSettings, seed: int = 0, order: int = 0, **kwargs: Any
    ) -> None:
        """`seed`: of the value head's initial weights; `order`: of the minibatches' order.

        Other arguments as for `Learner`.
        """
        self.ppo = ppo
        self._seed, self._order = seed, order
        self.moments = RunningMoments()
        self.kl = KlController(ppo.kl, ppo)
        self._has_stepped = False
        """Whether a step was taken since the current batch was played."""
        engine = kwargs.get("engine") or args[0]
        width = engine.model.config.get_text_config().hidden_size
        self.value_head = ValueHead(width, ppo.value_dropout, seed).to(engine.device)
        super().__init__(*args, **kwargs)

    @property
    def entropy_weight(self) -> float:
        """Weight of the entropy bonus, from PPO's settings."""
        return self.ppo.entropy

    def _trainable_parameters(self) -> list[torch.nn.Parameter]:
        return [*super()._trainable_parameters(), *self.value_head.parameters()]

    def reset(self, parts: Any) -> None:
        """Reset some of `RESETS`."""
        if "normalizer" in parts:
            self.moments = RunningMoments()
        if "kl" in parts:
            self.kl = KlController(self.ppo.kl, self.ppo)
        if "value_head" in parts:
            fresh = ValueHead(self.value_head.linear.in_features, 0.0, self._seed)
            self.value_head.load_state_dict(fresh.state_dict())
        super().reset(parts)

    def state(self) -> dict[str, Any]:
        """Value head, running moments and KL coefficient."""
        return {
            "value_head": dict(self.value_head.state_dict()),
            "moments": vars(self.moments).copy(),
            "kl": self.kl.coefficient,
        }

    def restore_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.value_head.load_state_dict(state["value_head"])
        self.moments = RunningMoments(**state["moments"])
        self.kl = KlController(state["kl"], self.ppo)

    def update(
        self, sequences: Sequence[TrainingSequence], recording: Session | None = None
    ) -> dict[str, Any]:
        """All steps on one batch; returns metrics."""
        self.mean_advantages = {}
        if not sequences:
            return super().update(sequences, recording)
        computed = self._tokens_computed()
        decisions = sum(len(sequence.decisions) for sequence in sequences)
        scores = self._scores(sequences)
        batch = PpoBatch(self.ppo, sequences, scores)
        self._has_stepped = False
        if self._dropout or self.ppo.epochs * self.ppo.minibatches > 1:
            self._prepare(batch, self._local_terms(batch, recording))
        statistics = UpdateStatistics()
        parts = [p for epoch in range(self.ppo.epochs) for p in self._minibatches(sequences, epoch)]
        for first in range(0, len(parts), self.ppo.accumulation):
            # Only the very first pass is under the policy that played.
            self._step(parts[first : first + self.ppo.accumulation], batch, statistics, recording)
        divergence = batch.divergence
        coefficient = self.kl.coefficient
        if self.ppo.kl > 0:
            self.kl.update(divergence, decisions)
        rate = self.rate
        self.version += 1
        self.mean_advantages = batch.mean_advantages()
        return {
            **UpdateStatistics.of(self.ranks.gather(statistics)).summary(),
            "kl": divergence if self.ppo.kl > 0 else None,
            "kl_coefficient": coefficient,
            "score_mean": self.moments.mean,
            "score_deviation": self.moments.deviation,
            "value_mean": float(batch.values.mean()),
            "learning_rate": rate,
            "decisions": decisions,
            "tokens_learned": self.ranks.total(self._tokens_computed() - computed),
        }

    def _scores(self, sequences: Sequence[TrainingSequence]) -> dict[int, float]:
        """The normalized and clipped reward of each decision, by its source."""
        found = [d for sequence in sequences for d in sequence.decisions]
        scores = np.array([d.reward for d in found], dtype=np.float64)
        if self.ppo.normalize_scores:
            self.moments.add(scores)
            scores = self.moments.normalized(scores)
        if self.ppo.score_clip is not None:
            scores = scores.clip(-self.ppo.score_clip, self.ppo.score_clip)
        return {d.source: float(score) for d, score in zip(found, scores, strict=True)}

    def _minibatches(
        self, sequences: Sequence[TrainingSequence], epoch: int
    ) -> list[list[TrainingSequence]]:
        """The minibatches of an epoch, shuffled where there are several."""
        count = min(self.ppo.minibatches, len(sequences))
        if count == 1:
            return [list(sequences)]
        order = generator(self._order, MINIBATCHES, self.version, epoch).permutation(len(sequences))
        return [[sequences[i] for i in sorted(part)] for part in np.array_split(order, count)]

    def _step(
        self,
        parts: Sequence[Sequence[TrainingSequence]],
        batch: PpoBatch,
        statistics: UpdateStatistics,
        recording: Session | None = None,
    ) -> None:
        """One optimizer step on minibatches' mean loss, unless the mean ratio is over the limit."""
        total = ratio = 0.0
        for part in parts:
            one, ratios = self._accumulate_minibatch(part, len(parts), batch, statistics, recording)
            total, ratio = total + one, ratio + ratios / len(parts)
            if recording is not None:
                recording.release()
        total, ratio = self.ranks.total(total), self.ranks.total(ratio)
        if self.ppo.ratio_limit is not None and ratio > self.ppo.ratio_limit:
            self.optimizer.zero_grad(set_to_none=True)
            statistics.skipped += 1
            return
        statistics.loss += total
        statistics.norm += self.optimizer_step(total)
        statistics.steps += 1
        self._has_stepped = True

    def _accumulate_minibatch(
        self,
        part: Sequence[TrainingSequence],
        passes: int,
        batch: PpoBatch,
        statistics: UpdateStatistics,
        recording: Session | None,
    ) -> tuple[float, float]:
        """Add a minibatch's gradient, divided by `passes`; its part of the loss, and mean ratio."""
        terms = sum(len(d.behavior) for sequence in part for d in sequence.decisions)
        total = ratios = 0.0
        self.value_head.train()

        def loss(run: Sequence[TrainingSequence], outputs: TermOutputs) -> torch.Tensor:
            nonlocal total, ratios
            if not batch.prepared:
                # A single pass: its outputs are the batch's. This needs all sequences at once,
                # so split batches are computed once more without gradients.
                whole = len(run) == len(local_sequences(part))
                first = outputs if whole else self._local_terms(batch)
                self._prepare(batch, first, run if whole else None)
            old = batch.of(run)
            change, entropy = self._logprob_change(run, outputs, old)
            policy, ratio = policy_losses(
                outputs.logprobs, outputs.logprobs.detach() - change, old.advantages, self.ppo.clip
            )
            value = value_losses(
                self.value_head(outputs.hidden), old.values, old.returns, self.ppo.value_clip
            )
            result = policy.sum() + self.ppo.value_weight * value.sum()
            if self.ppo.entropy > 0:
                shares = turn_mask(run, self.ppo.entropy_turns, outputs.entropy.device)
                bonus = outputs.entropy if shares is None else shares * outputs.entropy
                result = result - self.ppo.entropy * bonus.sum()
            result = result / (terms * passes)
            total += float(result.detach())
            ratios += float(ratio.detach().sum())
            statistics.add(policy, value, ratio, entropy, self.ppo.clip)
            return result

        self.backward(part, loss, recording)
        if not batch.prepared:  # Nothing to compute here, but other ranks wait.
            self._prepare(batch, self._local_terms(batch))
        return total, ratios / terms

    def _local_terms(self, batch: PpoBatch, recording: Session | None = None) -> TermOutputs:
        """The terms of this rank's sequences under the current policy."""
        local = local_sequences(batch.sequences)
        if local:
            return self.current_terms(local, recording)
        device, width = self._engine.device, self.value_head.linear.in_features
        nothing = torch.zeros(0, device=device)
        return TermOutputs(nothing, nothing, torch.zeros(0, width, device=device))

    def _prepare(
        self,
        batch: PpoBatch,
        outputs: TermOutputs,
        sequences: Sequence[TrainingSequence] | None = None,
    ) -> None:
        """Compute a batch's constants from outputs without dropout, also of the value head.

        `outputs`: of this rank's sequences, in the order of `sequences`.
        """
        training = self.value_head.training
        self.value_head.eval()
        with torch.no_grad():
            values = self.value_head(outputs.hidden.detach())
        self.value_head.train(training)
        sequences = local_sequences(batch.sequences) if sequences is None else sequences
        reference = None
        if self.ppo.kl > 0:
            reference = self.reference.logprobs(sequences) if sequences else values
        if self.ranks.size > 1:
            sequences, outputs, values, reference = self._gather_terms(
                batch, sequences, outputs, values, reference
            )
        batch.prepare(outputs, values, reference, self.kl.coefficient, sequences)

    def _gather_terms(
        self,
        batch: PpoBatch,
        sequences: Sequence[TrainingSequence],
        outputs: TermOutputs,
        values: torch.Tensor,
        reference: torch.Tensor | None,
    ) -> tuple[list[TrainingSequence], TermOutputs, torch.Tensor, torch.Tensor | None]:
        """The sequences of all ranks, rank by rank, and what `PpoBatch.prepare` needs of them."""
        place = {id(one): number for number, one in enumerate(batch.sequences)}
        columns = [outputs.logprobs, outputs.entropy, values]
        columns += [] if reference is None else [reference]
        own = torch.stack([one.detach().cpu() for one in columns])
        parts = self.ranks.gather(([place[id(one)] for one in sequences], own))
        every = [batch.sequences[number] for numbers, _ in parts for number in numbers]
        table = torch.cat([terms for _, terms in parts], dim=1).to(values.device)
        found = TermOutputs(table[0], table[1], outputs.hidden)
        return every, found, table[2], None if reference is None else table[3]

    def _logprob_change(
        self, run: Sequence[TrainingSequence], outputs: TermOutputs, old: RolloutTerms
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change of each log-probability since the batch was played, and current entropies.

        Both without dropout, which affects only what is differentiated. Before the first step the
        change is exactly 0, whatever the outputs' rounding errors.
        """
        if not self._has_stepped:
            return torch.zeros_like(old.logprobs), old.entropy
        now = self.current_terms(run) if self._dropout else outputs
        return now.logprobs.detach() - old.logprobs, now.entropy.detach()
