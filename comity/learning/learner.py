"""A learner: an adapter with an optimizer.

`update` takes one iteration's training sequences and makes one Adam step (`step`, for any
source of gradients). The sequences' common prefix is computed once; micro-batches bound the
memory without changing results (see `policy_loss`). Adapter weights and Adam's moments are
float32 whatever the base model's type.
"""

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file

from comity.distributed.process_group import ALONE, ProcessGroup
from comity.engines.local.engine import Engine, SharedPrefix
from comity.engines.local.session import Session
from comity.errors import ComityError, WorkError
from comity.learning.loss import LossSettings, LossSums, Terms, policy_loss
from comity.learning.normalization import Denominators
from comity.learning.optimizer import OptimizerSettings
from comity.learning.reference_policy import ReferencePolicy
from comity.learning.training_batch import (
    TermOutputs,
    TrainingSequence,
    common_prefix,
    compute_terms,
    evaluate_terms,
    local_sequences,
    micro_batches,
)


def turn_mask(
    sequences: Sequence[TrainingSequence], turns: Sequence[str] | None, device: torch.device
) -> torch.Tensor | None:
    """1 for every term of a kind of turn in `turns`, else 0, float32 `[N]`; None: all are 1."""
    if turns is None:
        return None
    found = [d for sequence in sequences for d in sequence.decisions]
    return torch.tensor([float(d.kind in turns) for d in found for _ in d.behavior], device=device)


RESETS = {
    "optimizer": "Adam's moments",
    "normalizer": "the running moments of the scores",
    "kl": "the weight of the divergence from the base model",
    "value_head": "the value head's weights",
}
"""What may be reset when a phase of a run begins; the adapter is always kept."""


class ValueModel(Protocol):
    """Predicts and learns the values of a learner's states (`comity.learning.critic.Critic`)."""

    adapter: str

    def values(self, sequences: Sequence[TrainingSequence]) -> dict[int, float]: ...

    def set_targets(self, sequences: Sequence[TrainingSequence]) -> None: ...

    def train_step(self) -> dict[str, Any]: ...

    def reset(self, parts: Collection[str]) -> None: ...

    def state(self) -> dict[str, Any]: ...

    def restore_state(self, state: dict[str, Any]) -> None: ...


class Learner:
    """One adapter, its optimizer, and its number of updates."""

    def __init__(
        self,
        engine: Engine,
        adapter: str,
        optimizer: OptimizerSettings,
        loss: LossSettings,
        updates: int,
        microbatch_tokens: int | None = None,
        dropout: bool = False,
        ranks: ProcessGroup = ALONE,
    ) -> None:
        """`updates`: their total number, for the schedule.

        `microbatch_tokens`: most distinct tokens with gradients at a time; None: all. `ranks`: the
        processes that train the same adapter. All get the whole batch, and each computes its
        part (`TrainingSequence.local`).
        """
        self.ranks = ranks
        self.adapter = adapter
        self.version = 0
        self._engine = engine
        self.settings = optimizer
        self._loss = loss
        self._updates = updates
        self._microbatch_tokens = microbatch_tokens
        self._dropout = dropout
        self.reference = ReferencePolicy(engine)
        self.parameters = engine.adapters.parameters(adapter)
        self.optimizer = self._new_optimizer()
        self.mean_advantages: dict[int, float] = {}
        """Advantages that the last update estimated itself, by `source`: of each decision the mean
        over its terms. Empty where advantages come from `comity.learning.advantages`."""
        self.critic: ValueModel | None = None
        """Predicts values for this learner's advantages, if the algorithm uses any."""

    def _trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The optimizer's parameters."""
        return list(self.parameters.values())

    def _new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self._trainable_parameters(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=True,  # One pass over the memory: three times as fast on two cores.
        )

    def reset(self, parts: Collection[str]) -> None:
        """Reset some of `RESETS`, if the learner has them."""
        if "optimizer" in parts:
            self.optimizer = self._new_optimizer()
        if self.critic is not None:
            self.critic.reset(parts)

    def state(self) -> dict[str, Any]:
        """State besides adapter and optimizer, for checkpoints (see `comity.learning.state`)."""
        return {} if self.critic is None else {"critic": self.critic.state()}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        if self.critic is not None:
            self.critic.restore_state(state["critic"])

    def update(
        self, sequences: Sequence[TrainingSequence], recording: Session | None = None
    ) -> dict[str, Any]:
        """One step on all sequences, or `epochs` of them; returns metrics.

        With a recording of the rollout, its forward passes are reused where possible.

        Raises `WorkError` before a step if the loss or the gradient is not finite, so that the
        weights are still valid.
        """
        if not sequences:
            rate = self.rate
            self.version += 1
            row: dict[str, Any] = {"learning_rate": rate, "decisions": 0}
        else:
            decisions = sum(len(sequence.decisions) for sequence in sequences)
            row = self.step(lambda: self.accumulate_gradients(sequences, recording), decisions)
        if self.critic is not None:
            seen = self.critic.train_step()
            tokens = seen.pop("tokens_learned", 0) + row.get("tokens_learned", 0)
            row |= {**seen, "tokens_learned": tokens}
        return row

    def step(self, accumulate_gradients: Callable[[], LossSums], decisions: int) -> dict[str, Any]:
        """Steps on the gradient that `accumulate_gradients` adds to the parameters' `.grad`.

        `decisions`: their number in the batch. Returns and raises what `update` does.
        """
        computed = self._tokens_computed()
        sums, norm, steps = LossSums(), 0.0, self._loss.epochs
        for _ in range(steps):
            seen = LossSums.of(self.ranks.gather(accumulate_gradients()))
            norm += self.optimizer_step(seen.loss)
            sums.add(seen)
        rate = self.rate
        self.version += 1
        terms = max(1, sums.terms)
        surrogate = {} if self._loss.ratio_clip is None else {"clipped": sums.clipped / terms}
        return {
            "loss": sums.loss / steps,
            "kl": sums.kl / terms if self._loss.kl > 0 else None,
            "entropy": sums.entropy / terms,
            "importance_mean": sums.importance / terms,
            "importance_max": sums.importance_max,
            **surrogate,
            "gradient_norm": norm / steps,
            "learning_rate": rate,
            "decisions": decisions,
            "tokens_learned": self.ranks.total(self._tokens_computed() - computed),
        }

    def current_terms(
        self, sequences: Sequence[TrainingSequence], recording: Session | None = None
    ) -> TermOutputs:
        """The terms under the current policy, without dropout and gradients."""
        top = self._loss.entropy_top_k
        return evaluate_terms(self._engine, sequences, self.adapter, recording, top)

    @property
    def entropy_weight(self) -> float:
        """Weight of the entropy bonus; if it is 0, the entropy's gradient is not computed."""
        return self._loss.at(self.version).entropy

    def _tokens_computed(self) -> int:
        """Tokens computed so far, without those that depend on the reference policy's cache."""
        return self._engine.tokens_computed - self.reference.tokens

    @property
    def rate(self) -> float:
        """Learning rate of the current update."""
        return self.settings.rate(self.version, self._updates)

    def optimizer_step(self, loss: float) -> float:
        """One optimizer step on the sum of all ranks' `.grad`; returns its norm before clipping.

        `loss`: of all ranks. Raises `WorkError` before the step if the loss or the gradient is not
        finite, and after it if a weight is not: diverged weights are never saved in a checkpoint.
        """
        if not math.isfinite(loss):
            raise WorkError(f"the loss of adapter {self.adapter!r} is {loss}")
        self.ranks.add_gradients(self._trainable_parameters())
        clip = self.settings.gradient_clip
        limit = math.inf if clip is None else clip
        norm = float(torch.nn.utils.clip_grad_norm_(self._trainable_parameters(), limit))
        if not math.isfinite(norm):
            raise WorkError(f"the gradient of adapter {self.adapter!r} has norm {norm}")
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # One number for all weights: a GPU is waited for once.
        finite = [torch.isfinite(weight).all() for weight in self._trainable_parameters()]
        if not torch.stack(finite).all():
            raise WorkError(
                f"weights of adapter {self.adapter!r} are not finite after a step at learning "
                f"rate {self.rate:g}; lower optimizer.learning_rate"
            )
        return norm

    def load(self, folder: Path) -> None:
        """Load saved weights from a folder (PEFT format), of the same base model."""
        self._engine.adapters.check_base(folder)
        saved = load_file(str(folder / "adapter_model.safetensors"))
        known = {f"base_model.model.{name}.weight" for name in self.parameters}
        if beyond := sorted(set(saved) - known):
            raise ComityError(f"the adapter in {folder} does not fit: it also has {beyond[0]}")
        for name, parameter in self.parameters.items():
            weights = saved.get(f"base_model.model.{name}.weight")
            if weights is None or weights.shape != parameter.shape:
                raise ComityError(f"the adapter in {folder} does not fit: it lacks {name}")
            parameter.data.copy_(weights)

    def accumulate_gradients(
        self, sequences: Sequence[TrainingSequence], recording: Session | None = None
    ) -> LossSums:
        """Add the gradient of the whole batch's loss to the parameters' `.grad`.

        Of several ranks each adds its part, with the whole batch's denominators.
        """
        settings = self._loss.at(self.version)
        denominators = Denominators(sequences, settings.normalization)
        sums = LossSums()

        def loss(run: Sequence[TrainingSequence], outputs: TermOutputs) -> torch.Tensor:
            device = outputs.logprobs.device
            found = [d for one in run for d in one.decisions]
            owner = torch.tensor(
                [n for n, d in enumerate(found) for _ in d.behavior], device=device
            )
            denominator, advantages = (
                torch.tensor(values, dtype=torch.float32, device=device)[owner]
                for values in (denominators.of(found), [d.advantage for d in found])
            )
            now = self.current_terms(run) if self._dropout else None
            terms = Terms(
                logprobs=outputs.logprobs,
                behavior=torch.tensor([b for d in found for b in d.behavior], device=device),
                advantages=advantages,
                entropy=outputs.entropy,
                reference=self.reference.logprobs(run) if settings.kl > 0 else None,
                decisions=owner,
                bonus=turn_mask(run, settings.entropy_turns, device),
                current_logprobs=None if now is None else now.logprobs,
                current_entropy=None if now is None else now.entropy,
            )
            return policy_loss(terms, settings, denominator, sums)

        self.backward(sequences, loss, recording)
        return sums

    def backward(
        self,
        sequences: Sequence[TrainingSequence],
        loss: Callable[[Sequence[TrainingSequence], TermOutputs], torch.Tensor],
        recording: Session | None = None,
    ) -> None:
        """Add the gradient of `loss`, summed over micro-batches, to the parameters' `.grad`.

        `loss(sequences, outputs)` returns these sequences' part of the whole loss. The common
        prefix of all sequences is computed once; recorded passes are not computed again. Only
        this rank's sequences are computed.
        """
        sequences = local_sequences(sequences)
        if not sequences:
            return
        if recording is not None and recording.has_recorded(self.adapter):
            outputs = self._compute_terms(sequences, recording=recording)
            self._engine.tokens_reused += recording.tokens
            loss(sequences, outputs).backward()
            recording.release()
            return
        shared = common_prefix(sequences)
        budget = math.inf if self._microbatch_tokens is None else self._microbatch_tokens
        runs = micro_batches(sequences, len(shared), budget)
        shared_prefix = None
        if len(runs) > 1 and shared:
            shared_prefix = self._engine.shared_prefix(shared, self.adapter, self._dropout)
        for run in runs:
            loss(run, self._compute_terms(run, shared_prefix)).backward()
        if shared_prefix is not None:
            shared_prefix.backward()

    def _compute_terms(
        self,
        run: Sequence[TrainingSequence],
        shared_prefix: SharedPrefix | None = None,
        recording: Session | None = None,
    ) -> TermOutputs:
        """The terms of some sequences, with gradients."""
        return compute_terms(
            self._engine,
            run,
            self.adapter,
            shared_prefix,
            dropout=self._dropout,
            recording=recording,
            entropy_top_k=self._loss.entropy_top_k,
            entropy_gradient=self.entropy_weight > 0,
        )
