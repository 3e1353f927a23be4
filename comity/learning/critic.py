"""Critics: an adapter with a value head that predicts returns, for GAE.

The value of a seat's step is a linear function of the last hidden state of the critic's adapter
at the *state position*: the one that predicts the first token of the seat's first decision in
the step. In each iteration a critic predicts the values of a batch without gradients
(`Critic.values`), gets targets (`Critic.set_targets`), and takes one optimizer step on them
(`Critic.train_step`). The language-model head is never run.

- `Critic`: the adapter, its value head and its optimizer.
- `predict_values`: the critics' values of a rollout, as an array.
- `new_critic`, `critic_optimizer`, `check_critic`: from a config to a critic.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from comity.distributed.process_group import ALONE, ProcessGroup
from comity.engines.local.engine import Engine, SharedPrefix
from comity.engines.local.session import Session
from comity.errors import ComityError, WorkError, lookup
from comity.games.randomness import CRITIC, VALUE_HEAD
from comity.learning.advantages import StepRewards
from comity.learning.algorithms.advantage_alignment import AdvantageAlignment
from comity.learning.algorithms.reinforce import CRITIC_LOSSES, Reinforce
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.strip_exploration import StrippedConversation
from comity.learning.training_batch import (
    TermOutputs,
    TrainedDecision,
    TrainingSequence,
    local_sequences,
    micro_batches,
)
from comity.learning.value_head import ValueHead
from comity.registry import build
from comity.rollout.play import Rollout


def critic_name(adapter: str) -> str:
    """Name of a learner's critic; names of learners have no colon."""
    return f"{adapter}:critic"


class Critic(Learner):
    """An adapter with a value head and an optimizer."""

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
        ranks: ProcessGroup = ALONE,
    ) -> None:
        """`loss`: one of `CRITIC_LOSSES`; `seed`: of the head's initial weights."""
        self.kind = lookup("critic's loss", loss, {name: name for name in CRITIC_LOSSES})
        self._seed = seed
        width = engine.model.config.get_text_config().hidden_size
        self.value_head = ValueHead(width, 0.0, seed).to(engine.device)
        self._sequences: list[TrainingSequence] = []
        super().__init__(
            engine, adapter, optimizer, LossSettings(), updates, microbatch_tokens, dropout, ranks
        )

    def _trainable_parameters(self) -> list[torch.nn.Parameter]:
        return [*super()._trainable_parameters(), *self.value_head.parameters()]

    def reset(self, parts: Any) -> None:
        """Reset some of `RESETS`."""
        if "value_head" in parts:
            fresh = ValueHead(self.value_head.linear.in_features, 0.0, self._seed)
            self.value_head.load_state_dict(fresh.state_dict())
        super().reset(parts)

    def state(self) -> dict[str, Any]:
        """Adapter, value head, optimizer and number of updates."""
        return {
            "adapter": {name: weight.data for name, weight in self.parameters.items()},
            "value_head": dict(self.value_head.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "version": self.version,
        }

    def restore_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned, bit for bit."""
        for name, weight in self.parameters.items():
            weight.data.copy_(state["adapter"][name])
        self.value_head.load_state_dict(state["value_head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.version = int(state["version"])

    def values(self, sequences: Sequence[TrainingSequence]) -> dict[int, float]:
        """The value of every state, by its `source`; without gradients and dropout.

        Raises `WorkError` for values that are not finite: NaN means that a state has no value.
        """
        found: dict[int, float] = {}
        if not sequences:
            return found
        for run in micro_batches(local_sequences(sequences), 0, self._engine.max_tokens):
            with torch.no_grad():
                hidden = self._states(run, None, gradients=False)
                values = self.value_head(hidden).double().cpu().tolist()
            states = [d for sequence in run for d in sequence.decisions]
            found |= {d.source: value for d, value in zip(states, values, strict=True)}
        found = {source: one for part in self.ranks.gather(found) for source, one in part.items()}
        if not all(map(math.isfinite, found.values())):
            raise WorkError(f"the critic {self.adapter!r} gives values that are not finite")
        return found

    def set_targets(self, sequences: Sequence[TrainingSequence]) -> None:
        """Set the next step's training data: states whose `advantage` is their target value."""
        self._sequences = list(sequences)

    def train_step(self) -> dict[str, Any]:
        """One optimizer step on the targets; returns its metrics."""
        sequences, self._sequences = self._sequences, []
        count = sum(len(sequence.decisions) for sequence in sequences)
        if not count:
            self.version += 1
            return {}
        computed, total = self._tokens_computed(), 0.0

        def loss(run: Sequence[TrainingSequence], outputs: TermOutputs) -> torch.Tensor:
            nonlocal total
            targets = torch.tensor(
                [d.advantage for sequence in run for d in sequence.decisions],
                dtype=torch.float32,
                device=outputs.hidden.device,
            )
            off = critic_losses(self.value_head(outputs.hidden), targets, self.kind)
            part = off.sum() / count
            total += float(part.detach())
            return part

        self.backward(sequences, loss)
        total = self.ranks.total(total)
        norm = self.optimizer_step(total)
        self.version += 1
        return {
            "critic_loss": total,
            "critic_gradient_norm": norm,
            "tokens_learned": self.ranks.total(self._tokens_computed() - computed),
        }

    def _compute_terms(
        self,
        run: Sequence[TrainingSequence],
        shared_prefix: SharedPrefix | None = None,
        recording: Session | None = None,
    ) -> TermOutputs:
        hidden = self._states(run, shared_prefix, gradients=True)
        nothing = hidden.new_zeros(0)
        return TermOutputs(nothing, nothing, hidden)

    def _states(
        self, run: Sequence[TrainingSequence], shared_prefix: SharedPrefix | None, gradients: bool
    ) -> torch.Tensor:
        """The hidden states that predict each state's next token, `[N, H]`."""
        token_ids = [sequence.ids for sequence in run]
        outputs = self._engine.hidden_states(
            token_ids, self.adapter, shared_prefix, gradients, self._dropout and gradients
        )
        at = [
            rows[d.start - 1]
            for rows, sequence in zip(outputs.rows, run, strict=True)
            for d in sequence.decisions
        ]
        return outputs.hidden.index_select(0, torch.tensor(at, device=outputs.hidden.device))


def critic_losses(values: torch.Tensor, targets: torch.Tensor, kind: str) -> torch.Tensor:
    """Loss of each value, `[N]`; `kind` in `CRITIC_LOSSES`."""
    if kind == "squared":
        return (values - targets) ** 2
    return torch.nn.functional.huber_loss(values, targets, reduction="none")


@dataclass
class ValueEstimates:
    """The critics' values of a rollout."""

    values: np.ndarray | None = None
    """float64 `[match, seat, step]`, NaN where a seat made no decision; None without critics."""
    _learners: Mapping[str, Learner] = field(default_factory=dict)
    _states: dict[str, list["_ValueState"]] = field(default_factory=dict)
    _rollout: Rollout | None = None

    def set_value_targets(self, targets: np.ndarray | None) -> None:
        """Set each critic's targets from `[match, seat, step]`, for the seats it is trained on."""
        if targets is None or self._rollout is None:
            return
        for name, found in self._states.items():
            critic = self._learners[name].critic
            assert critic is not None
            own = [state for state in found if state.own]
            critic.set_targets(_sequences(self._rollout, own, targets))


@dataclass(frozen=True)
class _ValueState:
    """A state whose value is predicted."""

    conversation: int
    start: int
    place: tuple[int, int, int]
    own: bool
    """Whether the critic is trained on it."""


def predict_values(
    rollout: Rollout,
    step_rewards: StepRewards,
    learners: Mapping[str, Learner],
    algorithm: Reinforce,
) -> ValueEstimates:
    """The critics' values of all steps, if the algorithm uses critics.

    A learner's seats get values from its critic; other language models, if alignment needs
    theirs, from the critic of a learner in the same match, which is not trained on them.
    """
    if algorithm.estimator != "gae":
        return ValueEstimates()
    everybody = isinstance(algorithm, AdvantageAlignment) and algorithm.weight > 0
    learned = {  # a learner of each match
        place[0]: d.adapter
        for d, place in zip(rollout.decisions, step_rewards.decision_steps, strict=True)
        if step_rewards.trained[place[:2]] and d.adapter in learners
    }
    states: dict[str, list[_ValueState]] = {}
    seen: set[tuple[int, int, int]] = set()
    check_valued_seats(
        algorithm, any(d.conversation < 0 and not d.tokens for d in rollout.decisions)
    )
    for d, place in zip(rollout.decisions, step_rewards.decision_steps, strict=True):
        if place in seen or d.start < 1 or d.conversation < 0:
            continue
        seen.add(place)
        own = bool(step_rewards.trained[place[:2]]) and d.adapter in learners
        name = d.adapter if own else learned.get(place[0])
        if name is not None and (own or everybody):
            states.setdefault(name, []).append(_ValueState(d.conversation, d.start, place, own))
    values = np.full(step_rewards.rewards.shape, np.nan)
    for name, found in states.items():
        critic = learners[name].critic
        assert critic is not None
        values_by_state = critic.values(_sequences(rollout, found, None))
        for number, state in enumerate(found):
            values[state.place] = values_by_state[number]
    return ValueEstimates(values, learners, states, rollout)


def _sequences(
    rollout: Rollout, states: Sequence[_ValueState], targets: np.ndarray | None
) -> list[TrainingSequence]:
    """The states as training sequences; `source` is their number, `advantage` their target."""
    conversations: dict[int, StrippedConversation] = {}
    found: dict[int, list[TrainedDecision]] = {}
    for number, state in enumerate(states):
        if state.conversation not in conversations:
            conversations[state.conversation] = StrippedConversation.of(
                rollout.conversations[state.conversation]
            )
        start = conversations[state.conversation].index_of(state.start)
        target = 0.0 if targets is None else float(targets[state.place])
        found.setdefault(state.conversation, []).append(
            TrainedDecision(start, (), (), (), target, source=number)
        )
    return [
        TrainingSequence(
            conversations[number].ids[: max(d.start for d in each)],
            tuple(each),
            rollout.is_local(rollout.conversations[number].match),
        )
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
    """The critic of a learner; None if the algorithm uses none.

    `adapter`: the shape of its adapter, as `Adapters.add` takes it; `seed`: seeds of initial
    weights by purpose; `common`: arguments that `Critic` shares with the `Learner`.
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
    """Raises `ComityError` where the estimator gae is not applicable; `scripted` by seat."""
    if not isinstance(algorithm, Reinforce) or algorithm.estimator != "gae":
        return
    critic_optimizer(algorithm.critic_optimizer, policy)
    check_valued_seats(algorithm, any(scripted))


def check_valued_seats(algorithm: object, scripted: bool, what: str = "") -> None:
    """Raises `ComityError` if a critic would need values of scripted players (`what`: which)."""
    aligned = isinstance(algorithm, AdvantageAlignment) and algorithm.weight > 0
    if aligned and algorithm.estimator == "gae" and scripted:  # type: ignore[attr-defined]
        raise ComityError(
            f"{what}estimator=gae values every seat's conversation, which scripted players have "
            "none of, so that nothing would be aligned with them; use estimator=baseline"
        )
