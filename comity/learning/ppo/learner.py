"""A learner that takes proximal-policy-optimization steps, with a value head of its own.

One update, from one batch of decisions:

1. scores: the decisions' rewards, normalized by running moments and clipped, as settings say;
2. one reading of all terms: log-probabilities and values before the first step, without
   dropout. Where the update is a single step and nothing is dropped, that very reading is the
   one that is differentiated, so that nothing is computed twice. Until a step was taken every
   ratio is exactly 1;
3. term rewards: minus the KL coefficient times log(pi/ref), plus the score on the last term;
4. generalized advantages, returns, whitening (of the advantages alone);
5. epochs x minibatches optimizer steps on clipped policy and value losses;
6. the KL controller follows the divergence that was seen.

The value of a term is a linear function of the last hidden state that predicts it. Its
gradient goes into the adapter too, as in the published systems.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from comity.engines.local.session import Session
from comity.games.randomness import MINIBATCHES, generator
from comity.learning.credit.value_head import ValueHead
from comity.learning.learner import Learner, turn_shares
from comity.learning.ppo.batch import Batch, Old, Seen
from comity.learning.ppo.objective import (
    KlController,
    PpoSettings,
    RunningMoments,
    policy_losses,
    value_losses,
)
from comity.learning.training_batch import Lesson, TermReading


class PpoLearner(Learner):
    """See the module."""

    def __init__(
        self, *args: Any, ppo: PpoSettings, seed: int = 0, order: int = 0, **kwargs: Any
    ) -> None:
        """`seed`: of the value head's first weights; `order`: of the minibatches' order.

        The rest as for `Learner`.
        """
        self.ppo = ppo
        self._seed, self._order = seed, order
        self.moments = RunningMoments()
        self.kl = KlController(ppo.kl, ppo)
        self._moved = False
        """Since the present batch was played a step was taken."""
        self.credited: dict[int, float] = {}
        """Of the last update: each decision's advantage (its terms' mean), by its `source`."""
        engine = kwargs.get("engine") or args[0]
        width = engine.model.config.get_text_config().hidden_size
        self.value_head = ValueHead(width, ppo.value_dropout, seed).to(engine.device)
        super().__init__(*args, **kwargs)

    @property
    def entropy_weight(self) -> float:
        """Of PPO's own settings."""
        return self.ppo.entropy

    def _trained(self) -> list[torch.nn.Parameter]:
        return [*super()._trained(), *self.value_head.parameters()]

    def reset(self, parts: Any) -> None:
        """Start some of `RESETS` anew."""
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
        """Take over what `state` gave."""
        self.value_head.load_state_dict(state["value_head"])
        self.moments = RunningMoments(**state["moments"])
        self.kl = KlController(state["kl"], self.ppo)

    def update(self, lessons: Sequence[Lesson], recording: Session | None = None) -> dict[str, Any]:
        """All steps on one batch; what was seen, for the metrics."""
        self.credited = {}
        if not lessons:
            return super().update(lessons, recording)
        computed = self._computed()
        decisions = sum(len(lesson.decisions) for lesson in lessons)
        scores = self._scores(lessons)
        batch = Batch(self, lessons, scores)
        self._moved = False
        if self._dropout or self.ppo.epochs * self.ppo.minibatches > 1:
            self._take(batch, self.now(lessons, recording))
        seen = Seen()
        parts = [p for epoch in range(self.ppo.epochs) for p in self._parts(lessons, epoch)]
        for first in range(0, len(parts), self.ppo.accumulation):
            # Only the very first pass is on the policy that played.
            self._step(parts[first : first + self.ppo.accumulation], batch, seen, recording)
        divergence = batch.divergence
        coefficient = self.kl.coefficient
        if self.ppo.kl > 0:
            self.kl.update(divergence, decisions)
        rate = self.rate
        self.version += 1
        self.credited = batch.credited()
        return {
            **seen.summary(),
            "kl": divergence if self.ppo.kl > 0 else None,
            "kl_coefficient": coefficient,
            "score_mean": self.moments.mean,
            "score_deviation": self.moments.deviation,
            "value_mean": float(batch.values.mean()),
            "learning_rate": rate,
            "decisions": decisions,
            "tokens_learned": self._computed() - computed,
        }

    def _scores(self, lessons: Sequence[Lesson]) -> dict[int, float]:
        """The normalized and clipped reward of each decision, by its source."""
        found = [d for lesson in lessons for d in lesson.decisions]
        scores = np.array([d.reward for d in found], dtype=np.float64)
        if self.ppo.normalize_scores:
            self.moments.add(scores)
            scores = self.moments.normalized(scores)
        if self.ppo.score_clip is not None:
            scores = scores.clip(-self.ppo.score_clip, self.ppo.score_clip)
        return {d.source: float(score) for d, score in zip(found, scores, strict=True)}

    def _parts(self, lessons: Sequence[Lesson], epoch: int) -> list[list[Lesson]]:
        """The minibatches of an epoch, shuffled where there are several."""
        count = min(self.ppo.minibatches, len(lessons))
        if count == 1:
            return [list(lessons)]
        order = generator(self._order, MINIBATCHES, self.version, epoch).permutation(len(lessons))
        return [[lessons[i] for i in sorted(part)] for part in np.array_split(order, count)]

    def _step(
        self,
        parts: Sequence[Sequence[Lesson]],
        batch: Batch,
        seen: Seen,
        recording: Session | None = None,
    ) -> None:
        """One optimizer step on the mean of some minibatches' losses, unless ratios go too far."""
        total = ratio = 0.0
        for part in parts:
            one, ratios = self._pass(part, len(parts), batch, seen, recording)
            total, ratio = total + one, ratio + ratios / len(parts)
            if recording is not None:
                recording.release()
        if self.ppo.ratio_limit is not None and ratio > self.ppo.ratio_limit:
            self.optimizer.zero_grad(set_to_none=True)
            seen.skipped += 1
            return
        seen.loss += total
        seen.norm += self.descend(total)
        seen.steps += 1
        self._moved = True

    def _pass(
        self,
        part: Sequence[Lesson],
        passes: int,
        batch: Batch,
        seen: Seen,
        recording: Session | None,
    ) -> tuple[float, float]:
        """Add a minibatch's gradient over so many passes; its part of the loss, its mean ratio."""
        terms = sum(len(d.behavior) for lesson in part for d in lesson.decisions)
        total = ratios = 0.0
        self.value_head.train()

        def loss(run: Sequence[Lesson], reading: TermReading) -> torch.Tensor:
            nonlocal total, ratios
            if not batch.taken:
                # A single pass: its first reading is the batch's. All lessons are needed at
                # once for that, so they are read without gradients where they come in parts.
                whole = len(run) == len(part)
                first = reading if whole else self.now(batch.lessons)
                self._take(batch, first, run if whole else None)
            old = batch.of(run)
            change, entropy = self._change(run, reading, old)
            policy, ratio = policy_losses(
                reading.logprobs, reading.logprobs.detach() - change, old.advantages, self.ppo.clip
            )
            value = value_losses(
                self.value_head(reading.hidden), old.values, old.returns, self.ppo.value_clip
            )
            result = policy.sum() + self.ppo.value_weight * value.sum()
            if self.ppo.entropy > 0:
                shares = turn_shares(run, self.ppo.entropy_turns, reading.entropy.device)
                bonus = reading.entropy if shares is None else shares * reading.entropy
                result = result - self.ppo.entropy * bonus.sum()
            result = result / (terms * passes)
            total += float(result.detach())
            ratios += float(ratio.detach().sum())
            seen.add(policy, value, ratio, entropy, self.ppo.clip)
            return result

        self.backward(part, loss, recording)
        return total, ratios / terms

    def _take(
        self, batch: Batch, reading: TermReading, lessons: Sequence[Lesson] | None = None
    ) -> None:
        """Make a batch's constants of a reading without dropout, the value head's included."""
        training = self.value_head.training
        self.value_head.eval()
        batch.take(reading, lessons)
        self.value_head.train(training)

    def _change(
        self, run: Sequence[Lesson], reading: TermReading, old: Old
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """How far each log-probability went since the batch was played, and each entropy now.

        Both of the policy as it is: dropout changes what is differentiated, not what is compared.
        Before the first step nothing went anywhere, whatever the readings' last bits say.
        """
        if not self._moved:
            return torch.zeros_like(old.logprobs), old.entropy
        now = self.now(run) if self._dropout else reading
        return now.logprobs.detach() - old.logprobs, now.entropy.detach()
