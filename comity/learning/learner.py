"""A learner: an adapter with an optimizer.

`update` takes one iteration's lessons and makes one Adam step (`step`, whatever the gradient
comes from). What the conversations share
is computed once; micro-batches bound the memory and change nothing (see `policy_loss`).
Adapter weights and Adam's moments are float32 whatever the base model's type.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from comity.engines.engine import Engine
from comity.errors import ComityError, WorkError, lookup
from comity.learning.lessons import Lesson, common_beginning, micro_batches, read_terms
from comity.learning.loss import LossSettings, Sums, Terms, policy_loss

SCHEDULES = {
    "constant": "stays at the learning rate",
    "linear": "falls in a line to 0 at the end of the run",
    "cosine": "falls along half a cosine to 0 at the end of the run",
}
"""How the learning rate goes on after its warmup."""


@dataclass(frozen=True)
class OptimizerSettings:
    """Adam's settings."""

    learning_rate: float = 3e-4
    schedule: str = "constant"
    """A name in `SCHEDULES`."""
    warmup: int = 0
    """Updates over which the learning rate rises from 0."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        lookup("schedule", self.schedule, SCHEDULES)

    def rate(self, update: int, updates: int) -> float:
        """Learning rate of the update with this number (from 0) out of so many."""
        if update < self.warmup:
            return self.learning_rate * (update + 1) / self.warmup
        done = (update - self.warmup) / max(1, updates - self.warmup)
        factor = {
            "constant": 1.0,
            "linear": 1.0 - done,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
        }[self.schedule]
        return self.learning_rate * max(0.0, factor)


class Learner:
    """One adapter, its optimizer, and the number of updates it has seen."""

    def __init__(
        self,
        engine: Engine,
        adapter: str,
        optimizer: OptimizerSettings,
        loss: LossSettings,
        updates: int,
        microbatch_tokens: int | None = None,
        dropout: bool = False,
    ) -> None:
        """`updates`: how many there will be in all, for the schedule.

        `microbatch_tokens`: most distinct tokens with gradients at a time; None: all.
        """
        self.adapter = adapter
        self.version = 0
        self._engine = engine
        self._settings = optimizer
        self._loss = loss
        self._updates = updates
        self._microbatch_tokens = microbatch_tokens
        self._dropout = dropout
        self.parameters = engine.adapters.parameters(adapter)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=optimizer.learning_rate,
            weight_decay=optimizer.weight_decay,
            fused=True,  # One pass over the memory: three times as quick on two cores.
        )

    def update(self, lessons: Sequence[Lesson]) -> dict[str, Any]:
        """One step on all lessons; what it saw, for the metrics.

        Raises `WorkError` before the step if the loss or the gradient is not finite: the
        weights then are still the last good ones.
        """
        if not lessons:
            rate = self._settings.rate(self.version, self._updates)
            self.version += 1
            return {"learning_rate": rate, "decisions": 0}
        decisions = sum(len(lesson.decisions) for lesson in lessons)
        return self.step(lambda: self.accumulate(lessons), decisions)

    def step(self, accumulate: Callable[[], Sums], decisions: int) -> dict[str, Any]:
        """One step on the gradient that `accumulate` adds to the parameters' `.grad`.

        `decisions`: how many it is made of. Returns and raises what `update` does.
        """
        rate = self._settings.rate(self.version, self._updates)
        computed = self._engine.tokens_computed
        sums = accumulate()
        if not math.isfinite(sums.loss):
            raise WorkError(f"the loss of adapter {self.adapter!r} is {sums.loss}")
        norm = float(
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self._settings.gradient_clip)
        )
        if not math.isfinite(norm):
            raise WorkError(f"the gradient of adapter {self.adapter!r} has norm {norm}")
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.version += 1
        terms = max(1, sums.terms)
        return {
            "loss": sums.loss,
            "kl": sums.kl / terms if self._loss.kl > 0 else None,
            "entropy": sums.entropy / terms,
            "importance_mean": sums.importance / terms,
            "importance_max": sums.importance_max,
            "gradient_norm": norm,
            "learning_rate": rate,
            "decisions": decisions,
            "tokens_learned": self._engine.tokens_computed - computed,
        }

    def load(self, folder: Path) -> None:
        """Take over the weights that are saved in a folder (PEFT format)."""
        saved = load_file(str(folder / "adapter_model.safetensors"))
        for name, parameter in self.parameters.items():
            weights = saved.get(f"base_model.model.{name}.weight")
            if weights is None or weights.shape != parameter.shape:
                raise ComityError(f"the adapter in {folder} does not fit: it lacks {name}")
            parameter.data.copy_(weights)

    def accumulate(self, lessons: Sequence[Lesson]) -> Sums:
        """Add the gradient of the whole batch's loss to the parameters' `.grad`."""
        decisions = [d for lesson in lessons for d in lesson.decisions]
        if self._loss.normalization == "tokens":
            z = float(sum(len(d.tokens) for d in decisions))
        else:
            z = float(len(decisions))
        shared = common_beginning(lessons)
        budget = math.inf if self._microbatch_tokens is None else self._microbatch_tokens
        runs = micro_batches(lessons, len(shared), budget)
        trunk = None
        if len(runs) > 1 and shared:
            trunk = self._engine.trunk(shared, self.adapter, self._dropout)
        sums = Sums()
        for run in runs:
            logprobs, entropy = read_terms(
                self._engine, run, self.adapter, trunk, dropout=self._dropout
            )
            reference = None
            if self._loss.kl > 0:
                reference, _ = read_terms(self._engine, run, None, gradients=False)
            device = logprobs.device
            terms = Terms(
                logprobs=logprobs,
                behavior=torch.tensor(
                    [b for one in run for d in one.decisions for b in d.behavior], device=device
                ),
                advantages=torch.tensor(
                    [d.advantage for one in run for d in one.decisions for _ in d.behavior],
                    dtype=torch.float32,
                    device=device,
                ),
                entropy=entropy,
                reference=reference,
            )
            loss = policy_loss(terms, self._loss, z, sums)
            loss.backward()
        if trunk is not None:
            trunk.backward()
        return sums
