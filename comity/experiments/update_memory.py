"""How many bytes an update needs: its passes at the sizes that a config allows, without values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from comity.engines.local.prefix_tree import PrefixTree
from comity.engines.local.weightless import TensorMemory, WeightlessEngine
from comity.experiments.conversation_sizes import Sizes
from comity.learning.algorithms import Algorithm
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.ppo.objective import PpoSettings, policy_losses
from comity.learning.training_batch import (
    TermOutputs,
    TrainedDecision,
    TrainingSequence,
    common_prefix,
    micro_batches,
)
from comity.learning.value_head import ValueHead


@dataclass(frozen=True)
class WeightlessUpdate:
    """The update of one learner."""

    engine: WeightlessEngine
    sizes: Sizes
    learner: str
    learners: int
    """Number of learners, which share the conversations."""
    algorithm: Algorithm
    optimizer: OptimizerSettings
    dropout: bool
    """Whether the update uses dropout."""

    def fields(self, limit: int | None) -> dict[str, Any]:
        """Fields of `Memory` for micro-batches of at most so many tokens; None: no limit."""
        everything = [self._sequence(number) for number in range(self._distinct())]
        step = everything[: self._in_a_step()]
        sequences, tokens = self._largest(step, limit)
        gradients, activations = self.engine.adapter_bytes(self.learner), []
        for checkpointing in (False, True):
            self.engine.checkpointing = checkpointing
            with self.engine.memory() as memory:
                learner = Learner(
                    *(self.engine, self.learner, self.optimizer, self._loss()),
                    updates=1,
                    microbatch_tokens=limit,
                    dropout=self.dropout,
                )
                if isinstance(self.algorithm, PpoSettings):
                    used = self._ppo(learner, memory, sequences, everything)
                else:
                    used = self._reinforce(learner, memory, sequences, everything)
                activations.append(max(0, used - gradients))
                for weight in learner.parameters.values():
                    weight.grad = None
        return {
            "gradients": gradients,
            "stored": activations[0],
            "recomputed": activations[1],
            "microbatch_tokens": tokens,
            "microbatch_limit": limit,
        }

    def _loss(self) -> LossSettings:
        return self.algorithm.loss() if isinstance(self.algorithm, Reinforce) else LossSettings()

    def _distinct(self) -> int:
        """Conversations of an update that differ."""
        return max(1, self.sizes.trained // self.learners)

    def _in_a_step(self) -> int:
        """Those that one optimizer step is computed from."""
        if not isinstance(self.algorithm, PpoSettings):
            return self._distinct()
        # A minibatch is a part of all conversations, equal ones included.
        every = max(1, self.sizes.sequences // self.learners)
        return min(self._distinct(), -(-every // self.algorithm.minibatches))

    def _largest(
        self, everything: Sequence[TrainingSequence], limit: int | None
    ) -> tuple[list[TrainingSequence], int]:
        """The largest micro-batch, and its distinct tokens.

        Of several there are a conversation's beginning more than that: the common prefix is then
        computed before them.
        """
        sizes = self.sizes
        shared = len(common_prefix(everything))
        runs = micro_batches(everything, shared, limit or math.inf)
        sequences = max(runs, key=_distinct_tokens)
        tokens = _distinct_tokens(sequences)
        if len(runs) > 1:
            # The prefix is then computed once, before the micro-batches. Texts shorter than the
            # longest fill a micro-batch better.
            first = sizes.chunks[0].tokens
            room = (limit or 0) + shared - tokens if sizes.sampled else 0
            other = next(n for n, one in enumerate(everything) if one not in sequences)
            sequences = [*sequences, self._sequence(other, most=max(first, room))]
            tokens = max(tokens, _distinct_tokens(sequences) if room > first else 0)
        return sequences, tokens

    def _read(self, learner: Learner, everything: Sequence[TrainingSequence]) -> None:
        """The largest pass over all conversations without gradients."""
        part = micro_batches(everything, 0, self.engine.max_tokens)[0]
        if not isinstance(self.algorithm, PpoSettings):  # A critic, with an adapter alike.
            # Its last state is before the last round's first answer.
            sizes, rounds = self.sizes, len(self.sizes.chunks)
            end = sizes.shared + sizes.own * (rounds - 1) // rounds + sizes.prompt
            ids = [one.ids[:end] for one in part]
            self.engine.hidden_states(ids, learner.adapter, gradients=False)
            return
        learner.current_terms(part)
        if self.algorithm.kl > 0:
            learner.reference.logprobs(part)

    def _reinforce(
        self,
        learner: Learner,
        memory: TensorMemory,
        sequences: Sequence[TrainingSequence],
        everything: Sequence[TrainingSequence],
    ) -> int:
        """Bytes of a policy-gradient update; a critic reads all conversations before it."""
        memory.reset_peak()
        before = memory.live
        if isinstance(self.algorithm, Reinforce) and self.algorithm.estimator == "gae":
            self._read(learner, everything)
        learner.accumulate_gradients(sequences)
        return memory.peak - before

    def _ppo(
        self,
        learner: Learner,
        memory: TensorMemory,
        sequences: Sequence[TrainingSequence],
        everything: Sequence[TrainingSequence],
    ) -> int:
        """Bytes of a PPO update.

        PPO's first reading of a batch, under its own policy and under the reference, comes before
        the graphs of the first step; only an update of a single step reads inside it.
        """
        ppo, engine = self.algorithm, self.engine
        assert isinstance(ppo, PpoSettings)
        width = engine.model.config.get_text_config().hidden_size
        with torch.device(engine.device):
            head = ValueHead(width, ppo.value_dropout, 0)
        memory.reset_peak()
        before = memory.live
        apart = self.dropout or ppo.epochs * ppo.minibatches > 1

        def loss(run: Sequence[TrainingSequence], outputs: TermOutputs) -> torch.Tensor:
            if not apart and len(sequences) < len(everything):
                self._read(learner, everything)
            elif not apart and ppo.kl > 0:  # The outputs are the first reading.
                learner.reference.logprobs(run)
            if self.dropout:
                learner.current_terms(run)
            old = outputs.logprobs.detach()
            losses, _ = policy_losses(outputs.logprobs, old, old, ppo.clip)
            return losses.sum() + head(outputs.hidden).sum()

        if apart:
            self._read(learner, everything)
        learner.backward(sequences, loss)
        return memory.peak - before

    def _sequence(self, number: int, most: int | None = None) -> TrainingSequence:
        """A conversation with its decisions; `most`: so many tokens after the shared ones."""
        sizes, decisions = self.sizes, []
        ids = sizes.ids(number, self.engine.head.vocabulary)
        end = sizes.shared
        last = len(ids) if most is None else min(len(ids), end + most)
        for chunk in sizes.chunks:
            each = max(1, chunk.tokens // sizes.answers)
            count = max(1, min(sizes.sampled, each - 1))
            for place in range(min(sizes.answers, chunk.tokens // (count + 1) or 1)):
                start = end + (place + 1) * each - count
                if start + count > last:
                    break
                decisions.append(
                    TrainedDecision(
                        start=start,
                        tokens=ids[start : start + count],
                        answers=() if sizes.sampled else ((ids[start],), (ids[start] + 1,)),
                        behavior=(-1.0,) * count,
                        advantage=1.0,
                        masks=(None,) * count if sizes.sampled else (),
                        kind="choose",
                    )
                )
            end += chunk.tokens
        return TrainingSequence(ids[:last], tuple(decisions))


def _distinct_tokens(sequences: Sequence[TrainingSequence]) -> int:
    """Tokens of sequences, each common prefix counted once."""
    tree = PrefixTree()
    for sequence in sequences:
        tree.insert(tree.root(None), sequence.ids)
    return tree.size
