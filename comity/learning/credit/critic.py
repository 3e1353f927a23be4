"""A critic: an adapter of its own with a value head, for generalized advantage estimation.

What a seat may expect from a step on is a linear function of the last hidden state of the
critic's adapter at the *state position*: the one that predicts the first token of the seat's
first decision in the step. A critic reads all conversations of a batch without gradients
(`Critic.values`), is told the targets, and takes one optimizer step on them in the same
iteration (`Critic.learn`). The language-model head is never run.

- `Critic`: the adapter, its head and its optimizer.
- `judge`: what the learners' critics say of a rollout, as an array.
- `new_critic`, `critic_optimizer`, `check_critic`: from a config to a critic.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from comity.engines.local.engine import Engine, TrunkReading
from comity.engines.local.session import Session
from comity.errors import ComityError, WorkError, lookup
from comity.games.randomness import CRITIC, VALUE_HEAD
from comity.learning.advantage_alignment import AdvantageAlignment
from comity.learning.credit.advantages import Layout
from comity.learning.credit.value_head import ValueHead
from comity.learning.learner import Learner, OptimizerSettings
from comity.learning.loss import LossSettings
from comity.learning.reinforce import CRITIC_LOSSES, Reinforce
from comity.learning.strip_exploration import Remainder
from comity.learning.training_batch import Lesson, TermReading, TrainedDecision, micro_batches
from comity.registry import build
from comity.rollout.play import Rollout


def critic_name(adapter: str) -> str:
    """Of a learner's critic; no learner's own name has a colon."""
    return f"{adapter}:critic"


class Critic(Learner):
    """See the module."""

    def __init__(
        self,
        engine: Engine,
        adapter: str,
        optimizer: OptimizerSettings,
        updates: int,
        microbatch_tokens: int | None = None,
        dropout: bool = False,
        loss: str = "huber",
        seed: int = 0,
    ) -> None:
        """`loss`: one of `CRITIC_LOSSES`; `seed`: of the head's first weights."""
        self.kind = lookup("critic's loss", loss, {name: name for name in CRITIC_LOSSES})
        self._seed = seed
        width = engine.model.config.get_text_config().hidden_size
        self.value_head = ValueHead(width, 0.0, seed).to(engine.device)
        self._lessons: list[Lesson] = []
        super().__init__(
            engine, adapter, optimizer, LossSettings(), updates, microbatch_tokens, dropout
        )

    def _trained(self) -> list[torch.nn.Parameter]:
        return [*super()._trained(), *self.value_head.parameters()]

    def reset(self, parts: Any) -> None:
        """Start some of `RESETS` anew."""
        if "value_head" in parts:
            fresh = ValueHead(self.value_head.linear.in_features, 0.0, self._seed)
            self.value_head.load_state_dict(fresh.state_dict())
        super().reset(parts)

    def state(self) -> dict[str, Any]:
        """All of it: adapter, head, optimizer and number of updates."""
        return {
            "adapter": {name: weight.data for name, weight in self.parameters.items()},
            "value_head": dict(self.value_head.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "version": self.version,
        }

    def restore_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave, bit for bit."""
        for name, weight in self.parameters.items():
            weight.data.copy_(state["adapter"][name])
        self.value_head.load_state_dict(state["value_head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.version = int(state["version"])

    def values(self, lessons: Sequence[Lesson]) -> dict[int, float]:
        """The value of every state, by its `source`; without gradients and dropout.

        Raises `WorkError` for values that are not finite: NaN stands for states without any.
        """
        found: dict[int, float] = {}
        if not lessons:
            return found
        for run in micro_batches(lessons, 0, self._engine.max_tokens):
            with torch.no_grad():
                hidden = self._states(run, None, gradients=False)
                values = self.value_head(hidden).double().cpu().tolist()
            if not all(map(math.isfinite, values)):
                raise WorkError(f"the critic {self.adapter!r} gives values that are not finite")
            states = [d for lesson in run for d in lesson.decisions]
            found |= {d.source: value for d, value in zip(states, values, strict=True)}
        return found

    def teach(self, lessons: Sequence[Lesson]) -> None:
        """What the next update learns: states whose `advantage` is the value they should have."""
        self._lessons = list(lessons)

    def learn(self) -> dict[str, Any]:
        """One step on what was taught; what it saw, for the metrics."""
        lessons, self._lessons = self._lessons, []
        count = sum(len(lesson.decisions) for lesson in lessons)
        if not count:
            self.version += 1
            return {}
        computed, total = self._computed(), 0.0

        def loss(run: Sequence[Lesson], reading: TermReading) -> torch.Tensor:
            nonlocal total
            targets = torch.tensor(
                [d.advantage for lesson in run for d in lesson.decisions],
                dtype=torch.float32,
                device=reading.hidden.device,
            )
            off = critic_losses(self.value_head(reading.hidden), targets, self.kind)
            part = off.sum() / count
            total += float(part.detach())
            return part

        self.backward(lessons, loss)
        norm = self.descend(total)
        self.version += 1
        return {
            "critic_loss": total,
            "critic_gradient_norm": norm,
            "tokens_learned": self._computed() - computed,
        }

    def _read(
        self,
        run: Sequence[Lesson],
        trunk: TrunkReading | None = None,
        recording: Session | None = None,
    ) -> TermReading:
        hidden = self._states(run, trunk, gradients=True)
        nothing = hidden.new_zeros(0)
        return TermReading(nothing, nothing, hidden)

    def _states(
        self, run: Sequence[Lesson], trunk: TrunkReading | None, gradients: bool
    ) -> torch.Tensor:
        """The hidden states that predict each state's next token, `[N, H]`."""
        sequences = [lesson.ids for lesson in run]
        reading = self._engine.read(
            sequences, self.adapter, trunk, gradients, self._dropout and gradients
        )
        at = [
            rows[d.start - 1]
            for rows, lesson in zip(reading.rows, run, strict=True)
            for d in lesson.decisions
        ]
        return reading.hidden.index_select(0, torch.tensor(at, device=reading.hidden.device))


def critic_losses(values: torch.Tensor, targets: torch.Tensor, kind: str) -> torch.Tensor:
    """How far each value is off, `[N]`; `kind` in `CRITIC_LOSSES`."""
    if kind == "squared":
        return (values - targets) ** 2
    return torch.nn.functional.huber_loss(values, targets, reduction="none")


@dataclass
class Judgement:
    """What the critics say of a rollout."""

    values: np.ndarray | None = None
    """float64 `[match, seat, step]`, NaN where nobody was asked; None without critics."""
    _learners: Mapping[str, Learner] = field(default_factory=dict)
    _states: dict[str, list["_State"]] = field(default_factory=dict)
    _rollout: Rollout | None = None

    def teach(self, targets: np.ndarray | None) -> None:
        """Give each critic the targets `[match, seat, step]` of the seats that it is trained on."""
        if targets is None or self._rollout is None:
            return
        for name, found in self._states.items():
            critic = self._learners[name].critic
            assert critic is not None
            own = [state for state in found if state.own]
            critic.teach(_lessons(self._rollout, own, targets))


@dataclass(frozen=True)
class _State:
    """A position that is judged."""

    conversation: int
    start: int
    place: tuple[int, int, int]
    own: bool
    """The critic's learner is trained on it."""


def judge(
    rollout: Rollout, layout: Layout, learners: Mapping[str, Learner], algorithm: Reinforce
) -> Judgement:
    """The critics' values of all steps, where the algorithm asks for them.

    Seats of a learner are judged by its critic; the other language models, where alignment
    needs them, by the critic of a learner in the same match, which is not trained on them.
    """
    if algorithm.estimator != "gae":
        return Judgement()
    everybody = isinstance(algorithm, AdvantageAlignment) and algorithm.weight > 0
    learned = {  # a learner of each match
        place[0]: d.adapter
        for d, place in zip(rollout.decisions, layout.places, strict=True)
        if layout.trained[place[:2]] and d.adapter in learners
    }
    states: dict[str, list[_State]] = {}
    seen: set[tuple[int, int, int]] = set()
    check_valued(algorithm, any(d.conversation < 0 and not d.tokens for d in rollout.decisions))
    for d, place in zip(rollout.decisions, layout.places, strict=True):
        if place in seen or d.start < 1 or d.conversation < 0:
            continue
        seen.add(place)
        own = bool(layout.trained[place[:2]]) and d.adapter in learners
        name = d.adapter if own else learned.get(place[0])
        if name is not None and (own or everybody):
            states.setdefault(name, []).append(_State(d.conversation, d.start, place, own))
    values = np.full(layout.rewards.shape, np.nan)
    for name, found in states.items():
        critic = learners[name].critic
        assert critic is not None
        said = critic.values(_lessons(rollout, found, None))
        for number, state in enumerate(found):
            values[state.place] = said[number]
    return Judgement(values, learners, states, rollout)


def _lessons(
    rollout: Rollout, states: Sequence[_State], targets: np.ndarray | None
) -> list[Lesson]:
    """The states by conversation; `source` is their number, `advantage` their target."""
    talks: dict[int, Remainder] = {}
    found: dict[int, list[TrainedDecision]] = {}
    for number, state in enumerate(states):
        if state.conversation not in talks:
            talks[state.conversation] = Remainder.of(rollout.conversations[state.conversation])
        start = talks[state.conversation].place(state.start)
        target = 0.0 if targets is None else float(targets[state.place])
        found.setdefault(state.conversation, []).append(
            TrainedDecision(start, (), (), (), target, source=number)
        )
    return [
        Lesson(talks[number].ids[: max(d.start for d in each)], tuple(each))
        for number, each in found.items()
    ]


def new_critic(
    engine: Engine,
    learner: Learner,
    algorithm: Reinforce,
    adapter: Mapping[str, Any],
    seed: Callable[[str], int],
    **common: Any,
) -> Critic | None:
    """The critic that the algorithm gives a learner; None: it gives none.

    `adapter`: the shape of its adapter, as `Adapters.add` takes it; `seed`: of first weights, by
    what they are for; `common`: what its `Critic` shares with the `Learner`.
    """
    if algorithm.estimator != "gae":
        return None
    name = critic_name(learner.adapter)
    optimizer = critic_optimizer(algorithm.critic_optimizer, learner.settings)
    engine.adapters.add(name, **adapter, seed=seed(CRITIC))
    return Critic(
        *(engine, name, optimizer), **common, loss=algorithm.critic_loss, seed=seed(VALUE_HEAD)
    )


def critic_optimizer(
    changes: Mapping[str, Any] | None, policy: OptimizerSettings
) -> OptimizerSettings:
    """The policy's settings with some changed; `ComityError` for what is none."""
    block = {**asdict(policy), **(changes or {}), "name": "adam"}
    found = build("critic_optimizer", block, {"adam": OptimizerSettings})
    for key in ("learning_rate", "warmup", "weight_decay"):
        if not (getattr(found, key) >= 0 and math.isfinite(getattr(found, key))):
            raise ComityError(f"critic_optimizer: {key} must not be negative")
    return found


def check_critic(algorithm: object, policy: OptimizerSettings, scripted: Sequence[bool]) -> None:
    """Raises `ComityError` where the estimator gae does not apply; `scripted` by seat."""
    if not isinstance(algorithm, Reinforce) or algorithm.estimator != "gae":
        return
    critic_optimizer(algorithm.critic_optimizer, policy)
    check_valued(algorithm, any(scripted))


def check_valued(algorithm: object, scripted: bool, what: str = "") -> None:
    """Raises `ComityError` where a critic would have to value scripted players (`what`: which)."""
    aligned = isinstance(algorithm, AdvantageAlignment) and algorithm.weight > 0
    if aligned and algorithm.estimator == "gae" and scripted:  # type: ignore[attr-defined]
        raise ComityError(
            f"{what}estimator=gae values every seat's conversation, which scripted players have "
            "none of, so that nothing would be aligned with them; use estimator=baseline"
        )
