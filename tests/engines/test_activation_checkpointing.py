"""Activation checkpointing: the same gradients, bit for bit, from far fewer bytes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from comity.engines.local import session as session_module
from comity.engines.local.activation_checkpointing import transformer_blocks
from comity.engines.local.engine import Engine
from comity.engines.local.kv_cache import DifferentiableCache, PrefixCache
from comity.engines.local.models import load_model
from comity.engines.local.packing import pack
from comity.engines.local.prefix_tree import PrefixTree, Segment
from comity.engines.local.session import ScoreRequest
from comity.engines.local.weightless import TensorMemory
from tests.engines.test_families import FAMILIES, RIGHT, tiny
from tests.tiny import ARCHITECTURES
from tests.worlds import tiny_folder

ADAPTERS = ("a", "b")
TEXTS = [[5, 6, 7, 8, 9, 10, *range(n, 3 * n, 2)] for n in (11, 14, 20)]
"""Conversations with a common beginning, some longer than the Gemma models' windows."""


def make_engine(architecture: str, dtype: str = "float32", dropout: float = 0.3) -> Engine:
    return with_adapters(Engine(load_model(str(tiny_folder(architecture)), dtype, "cpu")), dropout)


def with_adapters(engine: Engine, dropout: float = 0.0) -> Engine:
    for number, name in enumerate(ADAPTERS):
        engine.adapters.add(name, rank=4, alpha=8, dropout=dropout, seed=number)
        generator = torch.Generator().manual_seed(number)
        for weights in engine.adapters.parameters(name).values():
            weights.data = torch.randn(weights.shape, generator=generator) * 0.2
    return engine


def gradients(engine: Engine, backward: Callable[[], Any], checkpointing: bool) -> torch.Tensor:
    """Of both adapters, after `backward`; also the state of the random numbers after it."""
    engine.checkpointing = checkpointing
    torch.manual_seed(7)
    backward()
    every = [p for name in ADAPTERS for p in engine.adapters.parameters(name).values()]
    found = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in every]
    for parameter in every:
        parameter.grad = None
    return torch.cat([*found, torch.rand(3)])


def both(engine: Engine, backward: Callable[[], Any]) -> tuple[torch.Tensor, torch.Tensor]:
    stored, again = (gradients(engine, backward, checkpointing) for checkpointing in (False, True))
    assert float(stored[:-3].norm()) > 0
    return stored, again


def weighted(hidden: torch.Tensor) -> torch.Tensor:
    weights = torch.linspace(-1.0, 1.0, hidden.numel(), dtype=hidden.dtype)
    return (hidden * weights.view(hidden.shape)).sum()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("dropout", [False, True], ids=["plain", "dropout"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_the_same_bit_for_bit(architecture: str, dropout: bool, dtype: str) -> None:
    engine = make_engine(architecture, dtype)

    def backward() -> None:
        states = engine.hidden_states(TEXTS, "a", dropout=dropout)
        weighted(states.hidden).backward()

    stored, again = both(engine, backward)
    assert torch.equal(stored, again)
    if dropout:
        engine.checkpointing = True
        without = gradients(
            engine, lambda: weighted(engine.hidden_states(TEXTS, "a").hidden).backward(), True
        )
        assert not torch.allclose(again, without)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2"])
def test_several_adapters_in_one_pass(architecture: str) -> None:
    """With the base model and, for one of the adapters, dropout. Other passes lie between."""
    engine = make_engine(architecture)
    tree, segments = PrefixTree(), []
    for adapter in ("a", "b", None):
        for ids in TEXTS:
            slots, known = tree.insert(tree.root(adapter), ids)
            segments.append(Segment(slots, known, ids[known:], adapter))
    batch = pack(segments, 0, engine.device)

    def backward() -> None:
        hidden = engine.forward(batch, PrefixCache(), {"b"})
        engine.hidden_states(TEXTS, "b", gradients=False)
        engine.hidden_states(TEXTS[:1], "a")
        weighted(hidden).backward()

    stored, again = both(engine, backward)
    assert torch.equal(stored, again)
    half = (len(stored) - 3) // 2
    assert float(stored[:half].norm()) > 0 and float(stored[half:-3].norm()) > 0
    routes = engine.adapters.routes
    assert (routes.current, routes.dropout_adapters, routes.merged) == ((), (), None)


@pytest.mark.parametrize("dropout", [False, True], ids=["plain", "dropout"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2"])
def test_a_shared_prefix(architecture: str, dropout: bool) -> None:
    engine = make_engine(architecture)

    def backward() -> None:
        prefix = engine.shared_prefix(TEXTS[0][:6], "a", dropout)
        for ids in TEXTS:
            weighted(engine.hidden_states([ids], "a", prefix, dropout=dropout).hidden).backward()
        prefix.backward()

    stored, again = both(engine, backward)
    assert torch.equal(stored, again)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2"])
def test_recorded_passes(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The passes of play, each of which continues those before; their cache stays as it was."""
    monkeypatch.setattr(session_module, "MIN_TOKENS_PER_PASS", 0)
    engine = make_engine(architecture)
    caches: list[DifferentiableCache] = []

    def backward() -> None:
        session = engine.session(record=10_000)
        talks = [session.conversation("a") for _ in TEXTS]
        for end in (6, 12, 17):
            for talk, ids in zip(talks, TEXTS, strict=True):
                talk.append(ids[len(talk.ids) : end])
            session.prefetch([ScoreRequest(talk, ((3,), (4, 5))) for talk in talks])
        assert isinstance(session._cache, DifferentiableCache) and len(session._passes) == 3
        caches.append(session._cache)
        states = session.recorded_states([talk.ids for talk in talks], "a")
        assert states is not None
        weighted(states.hidden).backward()

    stored, again = both(engine, backward)
    assert torch.equal(stored, again)
    sizes = [[[len(one) for one in kept] for kept in c._keys.values()] for c in caches]
    assert sizes[0] == sizes[1] and len(sizes[0][0]) == 3


@pytest.mark.parametrize("kind", [kind for kind, (found, _) in FAMILIES.items() if found == RIGHT])
def test_every_family(kind: str) -> None:
    """All blocks of all families that are computed; experts too are chosen again."""
    model = tiny(kind)
    engine = with_adapters(Engine(model))
    assert len(transformer_blocks(model)) == model.config.get_text_config().num_hidden_layers

    def backward() -> None:
        weighted(engine.hidden_states(TEXTS, "b").hidden).backward()

    stored, again = both(engine, backward)
    assert torch.equal(stored, again)


def test_passes_without_gradients_are_computed_once() -> None:
    engine = make_engine("llama")
    computed: list[int] = []
    layer = transformer_blocks(engine.model)[0].mlp
    layer.register_forward_pre_hook(lambda *_: computed.append(1))
    engine.checkpointing = True
    engine.hidden_states(TEXTS, "a", gradients=False)
    assert len(computed) == 1
    weighted(engine.hidden_states(TEXTS, "a").hidden).backward()
    assert len(computed) == 3


LAYERS, WIDTH, MLP, HEADS = 8, 64, 160, 4
LENGTH = 32


def bytes_per_token(checkpointing: bool) -> tuple[float, float]:
    """What a pass with gradients keeps, and the most at a time until its backward pass is over."""
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=WIDTH,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
    )
    engine = with_adapters(Engine(LlamaForCausalLM(config).eval()))
    engine.checkpointing = checkpointing
    seen = []
    for count in (20, 60):
        texts = [[n + 1] * LENGTH for n in range(count)]
        with TensorMemory() as memory:
            memory.ignore((*engine.model.parameters(), *engine.model.buffers()))
            states = engine.hidden_states(texts, "a")
            kept = memory.live
            states.hidden.sum().backward()
            seen.append((kept, memory.peak))
        for parameter in parameters(engine):
            parameter.grad = None
    tokens = 40 * LENGTH
    return (seen[1][0] - seen[0][0]) / tokens, (seen[1][1] - seen[0][1]) / tokens


def parameters(engine: Engine) -> list[torch.nn.Parameter]:
    return list(engine.adapters.parameters("a").values())


def test_bytes_per_token_while_learning() -> None:
    """float32: 4 bytes each. Beside the inputs of the blocks there are one block's activations at
    a time, and what belongs to no block (embedding, positions, last norm, attention's biases).
    """
    stored, stored_peak = bytes_per_token(False)
    kept, peak = bytes_per_token(True)
    block = 4 * (12 * WIDTH + 6 * MLP + 2 * HEADS * LENGTH)
    rest = 4 * (6 * WIDTH + LENGTH) + 8 * 8
    assert kept <= LAYERS * 4 * WIDTH + rest
    assert peak <= LAYERS * 4 * WIDTH + rest + 2 * block
    assert stored <= LAYERS * block + rest
    assert stored_peak <= LAYERS * block + rest + block
    assert kept < stored / 8 and peak < stored_peak / 2.5
