"""A learner: an adapter with an optimizer.

`update` takes one iteration's lessons and makes one Adam step (`step`, whatever the gradient
comes from). What the conversations share
is computed once; micro-batches bound the memory and change nothing (see `policy_loss`).
Adapter weights and Adam's moments are float32 whatever the base model's type.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from comity.engines.local.engine import Engine, TrunkReading
from comity.engines.local.session import Session
from comity.errors import ComityError, WorkError, lookup
from comity.learning.loss import LossSettings, Sums, Terms, policy_loss
from comity.learning.normalization import Denominators
from comity.learning.reference_policy import Reference
from comity.learning.training_batch import (
    Lesson,
    TermReading,
    common_beginning,
    measure,
    micro_batches,
    read_terms,
)

if TYPE_CHECKING:
    from comity.learning.credit.critic import Critic


def turn_shares(
    lessons: Sequence[Lesson], turns: Sequence[str] | None, device: torch.device
) -> torch.Tensor | None:
    """1 for every term of the kinds of turns in `turns`, else 0, float32 `[N]`; None: all."""
    if turns is None:
        return None
    found = [d for lesson in lessons for d in lesson.decisions]
    return torch.tensor([float(d.kind in turns) for d in found for _ in d.behavior], device=device)


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
    gradient_clip: float | None = 1.0
    """Largest norm of the gradient; null: never scaled down."""
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


RESETS = {
    "optimizer": "Adam's moments",
    "normalizer": "the running moments of the scores",
    "kl": "the weight of the divergence from the base model",
    "value_head": "the value head's weights",
}
"""What may start anew when a phase of a run begins; the adapter is always handed over."""


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
        self.settings = optimizer
        self._loss = loss
        self._updates = updates
        self._microbatch_tokens = microbatch_tokens
        self._dropout = dropout
        self.reference = Reference(engine)
        self.parameters = engine.adapters.parameters(adapter)
        self.optimizer = self._new_optimizer()
        self.critic: Critic | None = None
        """Values for this learner's advantages, where the algorithm wants any."""

    def _trained(self) -> list[torch.nn.Parameter]:
        """Everything that the optimizer changes."""
        return list(self.parameters.values())

    def _new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self._trained(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=True,  # One pass over the memory: three times as quick on two cores.
        )

    def reset(self, parts: Collection[str]) -> None:
        """Start some of `RESETS` anew, where it has them."""
        if "optimizer" in parts:
            self.optimizer = self._new_optimizer()
        if self.critic is not None:
            self.critic.reset(parts)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds besides adapter and optimizer (see `learning.states`)."""
        return {} if self.critic is None else {"critic": self.critic.state()}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        if self.critic is not None:
            self.critic.restore_state(state["critic"])

    def update(self, lessons: Sequence[Lesson], recording: Session | None = None) -> dict[str, Any]:
        """One step on all lessons, or `epochs` of them; what they saw, for the metrics.

        With a recording of the rollout, the passes of playing are reused where it has them.

        Raises `WorkError` before a step if the loss or the gradient is not finite: the
        weights then are still the last good ones.
        """
        if not lessons:
            rate = self.rate
            self.version += 1
            row: dict[str, Any] = {"learning_rate": rate, "decisions": 0}
        else:
            decisions = sum(len(lesson.decisions) for lesson in lessons)
            row = self.step(lambda: self.accumulate(lessons, recording), decisions)
        if self.critic is not None:
            seen = self.critic.learn()
            tokens = seen.pop("tokens_learned", 0) + row.get("tokens_learned", 0)
            row |= {**seen, "tokens_learned": tokens}
        return row

    def step(self, accumulate: Callable[[], Sums], decisions: int) -> dict[str, Any]:
        """Steps on the gradient that `accumulate` adds to the parameters' `.grad`.

        `decisions`: how many it is made of. Returns and raises what `update` does.
        """
        computed = self._computed()
        sums, norm, steps = Sums(), 0.0, self._loss.epochs
        for _ in range(steps):
            seen = accumulate()
            norm += self.descend(seen.loss)
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
            "tokens_learned": self._computed() - computed,
        }

    def now(self, lessons: Sequence[Lesson], recording: Session | None = None) -> TermReading:
        """The present policy's terms as they are: without dropout, without gradients."""
        top = self._loss.entropy_top_k
        return measure(self._engine, lessons, self.adapter, recording, top)

    @property
    def entropy_weight(self) -> float:
        """Of the entropy bonus; without any, its gradient is not computed."""
        return self._loss.entropy

    def _computed(self) -> int:
        """Tokens computed so far, but for those that depend on what is remembered already."""
        return self._engine.tokens_computed - self.reference.tokens

    @property
    def rate(self) -> float:
        """Learning rate of the present update."""
        return self.settings.rate(self.version, self._updates)

    def descend(self, loss: float) -> float:
        """One optimizer step on what lies in `.grad`; the gradient's norm before clipping.

        Raises `WorkError` before the step if the loss or the gradient is not finite, and after it
        if a weight is not: what has diverged is never kept as a checkpoint.
        """
        if not math.isfinite(loss):
            raise WorkError(f"the loss of adapter {self.adapter!r} is {loss}")
        clip = self.settings.gradient_clip
        limit = math.inf if clip is None else clip
        norm = float(torch.nn.utils.clip_grad_norm_(self._trained(), limit))
        if not math.isfinite(norm):
            raise WorkError(f"the gradient of adapter {self.adapter!r} has norm {norm}")
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if not all(torch.isfinite(weight).all() for weight in self._trained()):
            raise WorkError(
                f"weights of adapter {self.adapter!r} are not finite after a step at learning "
                f"rate {self.rate:g}; lower optimizer.learning_rate"
            )
        return norm

    def load(self, folder: Path) -> None:
        """Take over the weights that are saved in a folder (PEFT format), of the same base."""
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

    def accumulate(self, lessons: Sequence[Lesson], recording: Session | None = None) -> Sums:
        """Add the gradient of the whole batch's loss to the parameters' `.grad`."""
        denominators = Denominators(lessons, self._loss.normalization)
        sums = Sums()

        def loss(run: Sequence[Lesson], reading: TermReading) -> torch.Tensor:
            device = reading.logprobs.device
            found = [d for one in run for d in one.decisions]
            owner = torch.tensor(
                [n for n, d in enumerate(found) for _ in d.behavior], device=device
            )
            z, advantages = (
                torch.tensor(values, dtype=torch.float32, device=device)[owner]
                for values in (denominators.of(found), [d.advantage for d in found])
            )
            now = self.now(run) if self._dropout else None
            terms = Terms(
                logprobs=reading.logprobs,
                behavior=torch.tensor([b for d in found for b in d.behavior], device=device),
                advantages=advantages,
                entropy=reading.entropy,
                reference=self.reference.logprobs(run) if self._loss.kl > 0 else None,
                decisions=owner,
                bonus=turn_shares(run, self._loss.entropy_turns, device),
                now=None if now is None else now.logprobs,
                entropy_now=None if now is None else now.entropy,
            )
            return policy_loss(terms, self._loss, z, sums)

        self.backward(lessons, loss, recording)
        return sums

    def backward(
        self,
        lessons: Sequence[Lesson],
        loss: Callable[[Sequence[Lesson], TermReading], torch.Tensor],
        recording: Session | None = None,
    ) -> None:
        """Add the gradient of `loss`, summed over micro-batches, to the parameters' `.grad`.

        `loss(some lessons, their reading)` gives those lessons' part of the whole loss. What all
        lessons begin with is computed once; what the recording holds, not at all.
        """
        if recording is not None and recording.holds(self.adapter):
            reading = self._read(lessons, recording=recording)
            self._engine.tokens_reused += recording.tokens
            loss(lessons, reading).backward()
            recording.release()
            return
        shared = common_beginning(lessons)
        budget = math.inf if self._microbatch_tokens is None else self._microbatch_tokens
        runs = micro_batches(lessons, len(shared), budget)
        trunk = None
        if len(runs) > 1 and shared:
            trunk = self._engine.trunk(shared, self.adapter, self._dropout)
        for run in runs:
            loss(run, self._read(run, trunk)).backward()
        if trunk is not None:
            trunk.backward()

    def _read(
        self,
        run: Sequence[Lesson],
        trunk: TrunkReading | None = None,
        recording: Session | None = None,
    ) -> TermReading:
        """Some lessons, with gradients."""
        return read_terms(
            self._engine,
            run,
            self.adapter,
            trunk,
            dropout=self._dropout,
            recording=recording,
            entropy_top_k=self._loss.entropy_top_k,
            entropy_gradient=self.entropy_weight > 0,
        )
