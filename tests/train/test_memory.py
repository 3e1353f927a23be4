"""The predicted memory of a run is what its tensors take."""

import json
import os
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Qwen2Config

from comity.config.compose import compose
from comity.config.schema import Config
from comity.engines.local.engine import Engine
from comity.engines.local.kv_cache import KVCache, grown_capacity
from comity.engines.local.models import load_model
from comity.engines.local.prefix_tree import PrefixTree
from comity.engines.local.weightless import TensorMemory, WeightlessEngine
from comity.experiments.build import Experiment
from comity.experiments.memory import predict_memory
from comity.rollout.play import play
from comity.train import credit, update
from tests.forked import Forked
from tests.tiny import make_tokenizer
from tests.train.small import overrides
from tests.train.test_rank_rules import torchrun

ROOT = Path(__file__).parents[2]
TOLERANCE = 0.2
"""Largest relative error of a prediction."""

SHAPES: dict[str, Any] = {
    "llama": (LlamaConfig, {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen2": (Qwen2Config, {"num_key_value_heads": 1, "tie_word_embeddings": False}),
    "gemma2": (Gemma2Config, {"num_key_value_heads": 2, "head_dim": 32, "sliding_window": 64}),
}
"""Attention with and without biases, tied and untied, plain and with a soft cap."""


@cache
def folder(shape: str) -> str:
    """A model of that family with two layers."""
    kind, more = SHAPES[shape]
    tokenizer = make_tokenizer()
    config = kind(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=4096,
        initializer_range=0.2,
        **more,
    )
    torch.manual_seed(0)
    path = Path(mkdtemp()) / shape
    tokenizer.save_pretrained(path)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return str(path)


def config(shape: str, *changes: str) -> Config:
    """Conversations of three rounds, whose answers differ."""
    return compose(
        "ipd",
        [
            f"model.name={folder(shape)}",
            *("model.dtype=float32", "model.device=cpu", "temperature=20"),
            *("game.length.rounds=3", "adapter.rank=8", "seats=[learner,learner]", *changes),
        ],
    )


def test_a_rank_has_its_part_of_the_base_and_one_whole_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sharded = config("gemma2", "model.sharding=fsdp2")
    alone = predict_memory(sharded)
    assert alone.shards == 1
    torchrun(monkeypatch, rank=0, size=8)
    found = predict_memory(sharded)
    model = AutoModelForCausalLM.from_pretrained(folder("gemma2"))
    block, other = (sum(w.nbytes for w in one.parameters()) for one in model.model.layers)
    assert block == other and found.shards == 8
    assert found.weights == alone.weights - 2 * block + 2 * block // 8
    # One that is whole, and that one once more while it is gathered.
    assert found.gathered == 2 * block and alone.gathered == 0
    assert found.playing - alone.playing == found.weights - alone.weights + 2 * block
    assert found.megabytes()["shards"] == 8


def measured(config: Config) -> dict[str, int]:
    """Most bytes of tensors in play and in the update beside what is there before, and the bytes
    of weights, adapters and Adam's moments.
    """
    with Experiment(config) as experiment, TensorMemory() as memory:
        engine, found = experiment.engine, {}
        parameters = [
            p for one in experiment.learners.values() for p in one._trainable_parameters()
        ]
        memory.ignore(p for p in (*engine.model.parameters(), *engine.model.buffers()))
        base = [*engine.model.named_parameters(), *engine.model.named_buffers()]
        found["weights"] = sum(t.nbytes for name, t in base if ".lora_" not in name)
        found["adapters"] = sum(p.nbytes for p in parameters)
        rollout = play(experiment.game(0), experiment.matches(0), 0)
        found["playing"] = memory.peak
        rules = experiment.rules
        memory.reset_peak()
        before = memory.live
        credit(rollout, rules.reward(rollout.played, rules.game), experiment, rules.reward)
        update(rollout, experiment, _Task())
        found["learning"] = memory.peak - before
        rollout.release()
        moments = [s for one in experiment.learners.values() for s in one.optimizer.state.values()]
        found["optimizer"] = sum(
            s[key].nbytes for s in moments for key in ("exp_avg", "exp_avg_sq")
        )
    return found


class _Task:
    """A progress line that nobody reads."""

    def learning(self) -> None: ...


TEXTS = ("matches=6", "answer=free", "answer.max_tokens=4")
"""Conversations differ from the first answer on."""
SCORED = ("matches=64", "game.length.rounds=2", "algorithm.microbatch_tokens=400")
"""Two rounds: after the first, 4 histories, and all of them occur."""


PPO = ("algorithm=ppo", "algorithm.epochs=2", "algorithm.microbatch_tokens=400")
CASES = {
    "free": (TEXTS, "always"),
    "scored": (SCORED, "never"),
    "free, ppo": ((*PPO, *TEXTS), "never"),
    "scored, ppo": ((*PPO, *SCORED), "always"),
}
"""Overrides, and whether activations are recomputed."""


@pytest.mark.parametrize(
    ("shape", "case"),
    [
        *(("llama", case) for case in CASES),
        *(("qwen2", "free"), ("qwen2", "scored, ppo")),
        *(("gemma2", "scored"), ("gemma2", "free, ppo")),
    ],
)  # All shapes in each case: `python -m benchmarks.memory`.
def test_the_prediction_is_what_is_seen(shape: str, case: str) -> None:
    changes, checkpointing = CASES[case]
    asked = config(shape, *changes, f"model.activation_checkpointing={checkpointing}")
    found, told = measured(asked), predict_memory(asked)
    assert told.checkpointing == (checkpointing == "always")
    assert told.optimizer == found["optimizer"]
    assert told.weights == found["weights"]
    assert told.adapters == found["adapters"]
    for name, bytes_ in (
        ("playing", told.cache + told.play_pass),
        ("learning", told.gradients + told.activations),
    ):
        assert abs(bytes_ / found[name] - 1) < TOLERANCE, (name, bytes_, found[name])


@pytest.mark.parametrize(
    ("algorithm", "most"), [("algorithm.estimator=gae", 1.25), ("algorithm=ppo", 1 + TOLERANCE)]
)
def test_negotiations_with_messages_are_bounded(algorithm: str, most: float) -> None:
    """Several prompts and answers a round, in turns; lengths vary, and the longest is assumed.

    PPO and critics read all texts at once, which takes more than a micro-batch with gradients.
    """
    changes = ["prompt=negotiation", "answer.message_tokens=24", "matches=6", "iterations=1"]
    changes += [algorithm, "game.length.rounds=2"]
    changes += ["algorithm.epochs=2"] * (algorithm == "algorithm=ppo")
    asked = config("llama", "game=trust_and_split_rps", *changes)
    found, told = measured(asked), predict_memory(asked)
    playing = told.cache + told.play_pass + told.merged
    learning = told.gradients + told.activations
    assert 0.95 < playing / found["playing"] < 1 + TOLERANCE
    assert 0.95 < learning / found["learning"] < most


def test_a_pass_without_weights_takes_the_bytes_of_a_real_one() -> None:
    """To the byte, forward and backward."""
    place, dtype = Path(folder("gemma2")), torch.float32
    peaks = []
    real, fake = (
        Engine(load_model(str(place), "float32", "cpu")),
        WeightlessEngine(place, dtype, torch.device("cpu"), {"main": {"rank": 4}}),
    )
    real.adapters.add("main", rank=4)
    for engine in (real, fake):
        context = fake.memory() if engine is fake else TensorMemory()
        with context as memory:
            memory.ignore((*engine.model.parameters(), *engine.model.buffers()))
            sequences = [[1] * 20 + [n] * 40 for n in range(2, 7)]
            states = engine.hidden_states(sequences, "main")
            held = memory.live
            states.hidden.sum().backward()
            peaks.append((held, memory.peak, memory.live))
    assert peaks[0] == peaks[1]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12))
def test_the_cache_grows_as_predicted(added: list[int]) -> None:
    cache, capacity, used = KVCache(), 0, 0
    for count in added:
        new = torch.zeros(count, 1, 2)
        cache.extend(0, used, new, new)
        capacity, used = grown_capacity(capacity, used, used + count), used + count
        assert cache.slots == capacity
    assert cache.nbytes == 2 * capacity * new[0].nbytes


def test_conversations_differ_as_much_as_they_can() -> None:
    """Two seats with the same view, two moves: 2 after the first answer, until the prompt says what
    the other one did; then 4. 8 after the second one, then 16, and so on.
    """
    asked = config("llama", "matches=100", "game.length.rounds=4", "answer=constrained")
    sizes = predict_memory(asked).sizes
    assert [(chunk.before, chunk.distinct) for chunk in sizes.chunks[1:]] == [
        (2, 4),
        (8, 16),
        (32, 64),
    ]
    (alike,) = {chunk.alike for chunk in sizes.chunks[1:]}
    assert 0 < alike < min(chunk.tokens for chunk in sizes.chunks[1:]) - 1
    ids = {sizes.ids(number, 50) for number in range(100)}
    assert len(ids) == 64 and {len(one) for one in ids} == {sizes.longest}
    tree = PrefixTree()
    for one in ids:
        tree.insert(tree.root(None), one)
    assert tree.size == sizes.distinct


PROGRAM = """
import json, sys, torch
from comity.commands.bench import peak_memory_mb, reset_peak_memory
from comity.commands.machine import process_bytes
from comity.config.compose import compose
from comity.experiments.build import Experiment
from comity.experiments.memory import predict_memory
from comity.rollout.play import play
from comity.train import credit, update

class Task:
    def learning(self): ...

config, cpu = compose("ipd", sys.argv[1:]), torch.device("cpu")
with Experiment(config) as experiment:
    rollout = play(experiment.game(0), experiment.matches(0), 0)
    rules = experiment.rules
    credit(rollout, rules.reward(rollout.played, rules.game), experiment, rules.reward)
    before = process_bytes()
    reset_peak_memory(cpu)
    update(rollout, experiment, Task())
    seen = 1e6 * peak_memory_mb(cpu) - before
told = predict_memory(config)
print(json.dumps([told.gradients + told.activations, seen]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets the peak of a process")
def test_an_update_of_the_default_model_takes_the_predicted_memory(smollm2: Path) -> None:
    """Of the process, as the system sees it."""
    changes = ["matches=8", "temperature=20", "game.length.rounds=6"]
    changes.append("algorithm.microbatch_tokens=1024")
    process = Forked(["-c", PROGRAM, *changes], os.environ, ROOT)
    told, seen = json.loads(process.communicate(timeout=600)[0].splitlines()[-1])
    assert abs(told / seen - 1) < TOLERANCE, (told, seen)


@pytest.mark.parametrize(
    "changes",
    [
        ("algorithm=ppo", "answer=free", "algorithm.minibatches=2"),
        ("algorithm=exact", "prompt=memory_one", "game.length.rounds=2"),
        ("algorithm.kl=0.1", "adapter.dropout=0.1", "prompt=memory_one", "answer=free"),
        ("game=trust_and_split_rps", "prompt=negotiation", "answer.message_tokens=12"),
        ("opponent_pool=buffer", "opponent_pool.every=1", "seats=[learner,learner:other]"),
    ],
    ids=["ppo", "exact", "dropout", "negotiation", "pool"],
)
def test_every_kind_of_training_can_be_predicted(changes: tuple[str, ...], tmp_path: Path) -> None:
    told = predict_memory(compose("ipd", overrides(tmp_path, *changes)))
    assert min(told.cache, told.play_pass, told.gradients, told.activations) > 0
    assert told.peak > told.resident


def test_a_critic_has_an_adapter_and_moments_of_its_own(tmp_path: Path) -> None:
    plain, critic = (
        predict_memory(compose("ipd", overrides(tmp_path, *changes)))
        for changes in ((), ("algorithm.estimator=gae",))
    )
    assert critic.adapters == 2 * plain.adapters and critic.optimizer == 2 * plain.optimizer
