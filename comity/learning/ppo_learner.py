"""A learner that takes proximal-policy-optimization steps, with a value head of its own.

One update, from one batch of decisions:

1. scores: the decisions' rewards, normalized by running moments and clipped, as settings say;
2. one reading of all terms: log-probabilities and values before the first step. Where the
   update is a single step, that very reading is the one that is differentiated, so that
   nothing is computed twice and every ratio is exactly 1;
3. term rewards: minus the KL coefficient times log(pi/ref), plus the score on the last term;
4. generalized advantages, returns, whitening (of the advantages alone);
5. epochs x minibatches optimizer steps on clipped policy and value losses;
6. the KL controller follows the divergence that was seen.

The value of a term is a linear function of the last hidden state that predicts it. Its
gradient goes into the adapter too, as in the published systems.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from comity.learning.learner import Learner
from comity.learning.lessons import Lesson, TermReading, TrainedDecision, read_terms
from comity.learning.ppo import (
    KlController,
    PpoSettings,
    RunningMoments,
    gae,
    policy_losses,
    value_losses,
    whitened,
)


class ValueHead(torch.nn.Module):
    """From a hidden state to a number; float32."""

    def __init__(self, width: int, dropout: float, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.linear = torch.nn.Linear(width, 1)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[N, H]` -> `[N]`."""
        values: torch.Tensor = self.linear(self.dropout(hidden.float())).squeeze(-1)
        return values


class PpoLearner(Learner):
    """See the module."""

    def __init__(self, *args: Any, ppo: PpoSettings, seed: int = 0, **kwargs: Any) -> None:
        """`seed`: of the value head's first weights. The rest as for `Learner`."""
        self.ppo = ppo
        self._seed = seed
        self.moments = RunningMoments()
        self.kl = KlController(ppo.kl, ppo)
        self.credited: dict[int, float] = {}
        """Of the last update: each decision's advantage (its terms' mean), by its `source`."""
        engine = kwargs.get("engine") or args[0]
        width = engine.model.config.get_text_config().hidden_size
        self.value_head = ValueHead(width, ppo.value_dropout, seed).to(engine.device)
        super().__init__(*args, **kwargs)

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

    def update(self, lessons: Sequence[Lesson]) -> dict[str, Any]:
        """All steps on one batch; what was seen, for the metrics."""
        self.credited = {}
        if not lessons:
            return super().update(lessons)
        computed = self._engine.tokens_computed
        decisions = sum(len(lesson.decisions) for lesson in lessons)
        scores = self._scores(lessons)
        single = self.ppo.epochs * self.ppo.minibatches == 1
        batch = _Batch(self, lessons, scores)
        if not single:
            self.value_head.eval()
            batch.take(read_terms(self._engine, lessons, self.adapter, gradients=False))
        seen = _Seen()
        for epoch in range(self.ppo.epochs):
            for part in self._parts(lessons, epoch):
                self._step(part, batch, seen)
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
            "tokens_learned": self._engine.tokens_computed - computed,
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
        order = np.random.default_rng([self.version, epoch]).permutation(len(lessons))
        return [[lessons[i] for i in sorted(part)] for part in np.array_split(order, count)]

    def _step(self, part: Sequence[Lesson], batch: "_Batch", seen: "_Seen") -> None:
        """One optimizer step on a minibatch, unless its ratios went too far."""
        terms = sum(len(d.behavior) for lesson in part for d in lesson.decisions)
        total = ratios = 0.0
        self.value_head.train()

        def loss(run: Sequence[Lesson], reading: TermReading) -> torch.Tensor:
            nonlocal total, ratios
            if not batch.taken:
                # A single step: its first reading is the batch's. All lessons are needed at
                # once for that, so they are read without gradients where they come in parts.
                whole = len(run) == len(part)
                self.value_head.eval()
                batch.take(
                    reading
                    if whole
                    else read_terms(self._engine, batch.lessons, self.adapter, gradients=False),
                    run if whole else batch.lessons,
                )
                self.value_head.train()
            old = batch.of(run)
            policy, ratio = policy_losses(
                reading.logprobs, old.logprobs, old.advantages, self.ppo.clip
            )
            value = value_losses(
                self.value_head(reading.hidden), old.values, old.returns, self.ppo.value_clip
            )
            result = (policy.sum() + self.ppo.value_weight * value.sum()) / terms
            if self.ppo.entropy > 0:
                result = result - self.ppo.entropy * reading.entropy.sum() / terms
            total += float(result.detach())
            ratios += float(ratio.detach().sum())
            seen.add(policy, value, ratio, reading.entropy, self.ppo.clip)
            return result

        self.backward(part, loss)
        if self.ppo.ratio_limit is not None and ratios / terms > self.ppo.ratio_limit:
            self.optimizer.zero_grad(set_to_none=True)
            seen.skipped += 1
            return
        seen.loss += total
        seen.norm += self.descend(total)
        seen.steps += 1


@dataclass(frozen=True)
class _Old:
    """What terms were before the first step; float32 `[n]` each."""

    logprobs: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor


class _Batch:
    """One batch with everything that is held constant during its steps."""

    def __init__(
        self, learner: PpoLearner, lessons: Sequence[Lesson], scores: dict[int, float]
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
            gap = (logprobs - learner._reference.logprobs(lessons)).double().cpu().numpy()
            rewards -= learner.kl.coefficient * gap
            self.divergence = float(gap.sum()) / len(decisions)
        for d in decisions:
            rewards[self._places[d.source][1] - 1] += self._scores[d.source]
        self.values = values.double().cpu().numpy()
        advantages = self._advantages(decisions, rewards)
        returns = advantages + self.values
        if learner.ppo.whiten:
            advantages = whitened(advantages)
        self._all = _Old(
            logprobs=logprobs,
            values=values,
            advantages=torch.tensor(advantages, dtype=torch.float32, device=device),
            returns=torch.tensor(returns, dtype=torch.float32, device=device),
        )
        self.taken = True

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
            for d in sorted(found, key=lambda one: one.source):
                first, end = self._places[d.source]
                terms += range(first, end)
                # With "rounds" the discount acts between rounds, not between an answer's tokens.
                inside = 1.0 if ppo.horizon == "rounds" else ppo.discount
                discounts += [inside] * (end - first - 1) + [ppo.discount]
            advantages[terms] = gae(
                list(rewards[terms]), list(self.values[terms]), discounts, ppo.gae_lambda
            )
        return advantages

    def of(self, lessons: Sequence[Lesson]) -> _Old:
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
        return _Old(**{key: value[index] for key, value in vars(self._all).items()})

    def credited(self) -> dict[int, float]:
        """Mean advantage of each decision's terms, by source."""
        return {
            source: float(self._all.advantages[first:end].mean())
            for source, (first, end) in self._places.items()
        }


class _Seen:
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
