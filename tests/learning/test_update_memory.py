"""What an update has in memory: nothing of playing, and no table over the vocabulary."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from comity.commands.run import run
from comity.engines.local import session as session_module
from comity.engines.local.engine import Engine
from comity.engines.local.kv_cache import DifferentiableCache, KVCache
from comity.engines.local.session import Session
from comity.engines.local.weightless import TensorMemory
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.ppo.learner import PpoLearner
from comity.learning.ppo.objective import PpoSettings
from comity.learning.training_batch import TrainingSequence, evaluate_terms, training_sequences
from comity.players.language_model.player import LanguageModelBackend
from tests.train.small import small
from tests.worlds import dilemma, learner, play_matches, tiny_models


def world(answer: str, matches: int = 4) -> tuple[LanguageModelBackend, list[TrainingSequence]]:
    models = tiny_models(answer={"name": answer})
    policy = learner(models)
    rollout = play_matches(dilemma(3), (policy, policy), matches)
    for number, d in enumerate(rollout.decisions):
        d.advantage = d.reward = float(number % 3) - 1.0
    return models, training_sequences(rollout, "main", 1.0)


RUNS: dict[str, tuple[tuple[str, ...], bool]] = {
    # By what is played: whether the update reuses its passes.
    "growing conversations": ((), False),
    "sampled text": (("answer=free",), False),
    "two learners": (("seats=[learner:a,learner:b]", "prompt=memory_one"), False),
    "alternatives": (("algorithm.estimator=branches", "algorithm.alternatives=1"), False),
    "a critic": (("algorithm.estimator=gae",), False),
    "many small passes": (("prompt=memory_one", "answer=free"), False),
    "reused passes": (("prompt=memory_one", "algorithm=ppo"), True),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_cache_of_play_is_freed_before_learning(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor of keys and values that play made is gone when a learner begins; of passes that
    the update differentiates only their outputs and graphs are left. Nothing waits for the garbage
    collector.
    """
    changes, reused = RUNS[name]
    if reused:
        monkeypatch.setattr(session_module, "MIN_TOKENS_PER_PASS", 0)
    made: list[weakref.ref[torch.Tensor]] = []
    sessions: list[weakref.ref[Session]] = []
    alive: list[int] = []
    for kind in (KVCache, DifferentiableCache):

        def extend(
            self: Any, *arguments: Any, plain: Callable[..., Any] = kind.extend
        ) -> tuple[torch.Tensor, torch.Tensor]:
            pair: tuple[torch.Tensor, torch.Tensor] = plain(self, *arguments)
            made.extend(map(weakref.ref, (*arguments[2:], *pair)))
            return pair

        monkeypatch.setattr(kind, "extend", extend)
    begun: Callable[..., None] = Session.__init__

    def begin(self: Session, *arguments: Any, **keywords: Any) -> None:
        begun(self, *arguments, **keywords)
        sessions.append(weakref.ref(self))

    monkeypatch.setattr(Session, "__init__", begin)
    for learning in (Learner, PpoLearner):

        def update(
            self: Any, *arguments: Any, plain: Callable[..., Any] = learning.update
        ) -> dict[str, Any]:
            alive.append(sum(one() is not None for one in made))
            left = [session for one in sessions if (session := one()) is not None]
            assert any(session.is_recording for session in left) == reused
            assert not any(session._outputs or session._cache._keys for session in left)
            row: dict[str, Any] = plain(self, *arguments)
            made.clear()
            sessions.clear()
            return row

        monkeypatch.setattr(learning, "update", update)
    run(small(tmp_path, *changes))
    assert len(alive) >= 2 and max(alive) == 0


class LargestTable(TorchDispatchMode):
    """The most rows of a tensor over a vocabulary that is made inside the block."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.rows = vocabulary, 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and self.vocabulary in one.shape:
                weight = one.shape[-1] == WIDTH and one.numel() == self.vocabulary * WIDTH
                rows = one.numel() // self.vocabulary
                self.rows = max(self.rows, 0 if weight else rows)
        return result


WIDTH = 32
"""Of the tiny models: tables of `[vocabulary, WIDTH]` are weights."""


def learners(models: LanguageModelBackend) -> dict[str, Learner]:
    engine, optimizer = models.engine, OptimizerSettings()
    loss = LossSettings(kl=0.1, entropy=0.1)
    return {
        "reinforce": Learner(engine, "main", optimizer, loss, 9, 200),
        "ppo": PpoLearner(
            *(engine, "main", optimizer, LossSettings(), 9, 200), ppo=PpoSettings(epochs=2)
        ),
    }


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
@pytest.mark.parametrize("answer", ["constrained", "free"])
def test_no_table_over_the_vocabulary_but_at_decisions(
    answer: str, algorithm: str, checkpointing: bool
) -> None:
    """At scored answers of one token none at all; else a row for each sampled token."""
    models, found = world(answer)
    models.engine.checkpointing = checkpointing
    one = learners(models)[algorithm]
    terms = sum(len(d.behavior) for sequence in found for d in sequence.decisions)
    tokens = sum(len(sequence.ids) for sequence in found)
    assert terms < tokens / 2
    with LargestTable(models.engine.head.vocabulary) as largest:
        one.update(found)
    assert largest.rows <= (terms if answer == "free" else 0)
    assert (largest.rows > 0) == (answer == "free")


def test_reading_without_gradients_takes_the_memory_of_one_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PPO's first reading, the reference's, and those for ratios under dropout: the cache of keys
    and values does not grow with the batch. The results are those of a single pass.
    """
    monkeypatch.setattr(Engine, "max_tokens", 600)
    peaks = []
    for matches in (8, 32):
        models, found = world("free", matches)
        engine = models.engine
        assert sum(len(sequence.ids) for sequence in found) > 2 * engine.max_tokens
        with TensorMemory() as memory:
            memory.ignore((*engine.model.parameters(), *engine.model.buffers()))
            cut = evaluate_terms(engine, found, "main")
            kept = cut.logprobs.nbytes + cut.entropy.nbytes + cut.hidden.nbytes
            peaks.append(memory.peak - kept)
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "max_tokens", 1_000_000)
            whole = evaluate_terms(engine, found, "main")
        for one, other in zip(vars(cut).values(), vars(whole).values(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert peaks[1] < 1.5 * peaks[0]
