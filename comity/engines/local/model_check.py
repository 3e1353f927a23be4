"""A model is believed only after a check: its packed pass against its own plain forward.

The engine lays many conversations into one row of tokens and calls the model's layers once. That
is right for every model whose layers see tokens one by one, except for attention through
transformers' interface. Some models are not like that: convolutions and recurrences that would
run on from one conversation into the next, attention of their own, outputs that are scaled
somewhere else. They raise no error; they give other numbers. So whenever a model is loaded, a
few random sequences are computed both ways: with a shared beginning, continued from the cache,
scored, sampled and read for learning, without and with an adapter. What differs is refused.

The check is in float32, whatever the model's type, where that needs little memory: the weights
are put aside meanwhile. Larger models are checked in their own type, with a wide tolerance.
Sliding windows are narrowed meanwhile, so that a few tokens leave them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from comity.engines.local import attention
from comity.engines.local.models import quiet
from comity.engines.local.sampling import Draw
from comity.engines.local.scoring import Answers
from comity.engines.local.session import Choice
from comity.errors import ComityError, WorkError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from comity.engines.local.engine import Engine

EXACT, ROUNDED = 5e-3, 0.3
"""Most that a log-probability may differ: each of them in float32; in other types their root mean
square. (The default model differs by 0.00003 at most in float32, and by 0.1 in bfloat16; tiny
models of the families that are refused by 0.6 and more in bfloat16.)"""
FLOAT32_BYTES = 4_000_000_000
"""Most memory that the weights may take in float32 for the check to be in float32."""
WINDOW = 6
"""Tokens that sliding windows see during the check; the sequences have 18 and more."""
_WINDOWS = ("sliding_window", "attention_chunk_size")
PROBE = "check"

Weights = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""The adapter of the check: A `[rank, in]` and B `[out, rank]` by module."""


@dataclass(frozen=True)
class _Found:
    """Log-probabilities by the packed pass."""

    adapter: str | None
    context: tuple[int, ...]
    answers: Answers
    logprobs: np.ndarray
    """Of the answers, normalized over them; of one answer, over the whole vocabulary."""


def check_model(engine: "Engine", plain_attention: str) -> None:
    """Raises `ComityError` unless the engine computes its model as the model does itself.

    `plain_attention`: the model's own attention implementation, as it was loaded. Leaves no
    adapter and no cache behind, and draws from no shared stream of random numbers. Finds out on
    the way how the model scales its logits, and which layers can get adapters. Models of one
    class and config are checked once in a process.
    """
    model = engine.model
    kind = (type(model), model.config.to_json_string(), str(model.device), model.dtype)
    if kind not in _CHECKED:
        _check(engine, plain_attention)
        _CHECKED[kind] = engine.head.scale, engine.adapters.targets
    engine.head.scale, engine.adapters.targets = _CHECKED[kind]


_CHECKED: dict[tuple[object, ...], tuple[float, frozenset[str]]] = {}


def _check(engine: "Engine", plain_attention: str) -> None:
    model = engine.model
    with ExitStack() as stack:
        stack.enter_context(supported(model))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        exact = stack.enter_context(_in_float32(model))
        stack.enter_context(_narrow_windows(model))
        stack.enter_context(torch.no_grad())
        if engine.head.scales:
            with _attention(model, plain_attention):
                _adapt_head(engine)
        conversations = _conversations(engine.head.vocabulary)
        with _noted(model, engine.adapters.targets) as rows:
            found = _read(engine, conversations[:2], None)
        tokens = engine.tokens_computed
        engine.adapters.targets = frozenset(name for name, seen in rows.items() if seen == [tokens])
        weights = _probe_weights(model, engine.adapters.targets)
        engine.adapters.add(PROBE, rank=2, alpha=2, targets=sorted(weights))
        try:
            for name, parameter in engine.adapters.parameters(PROBE).items():
                module, _, matrix = name.rpartition(".")
                parameter.data.copy_(weights[module][matrix == "lora_B"])
            found += _read(engine, conversations[2:], PROBE) + _played(engine, conversations)
        finally:
            engine.adapters.unload()
        with _attention(model, plain_attention):
            off = _differences(model, weights, found)
    worst = float(np.abs(off).max()) if exact else float(np.sqrt(np.mean(off**2)))
    most = EXACT if exact else ROUNDED
    if not worst <= most:  # NaN too
        raise ComityError(
            f"models of the type {model.config.model_type!r} are not supported: packed with other "
            f"sequences, log-probabilities differ by {worst:.3g} from the model's own (at most "
            f"{most:g} is rounding)"
        )


@contextmanager
def supported(model: "PreTrainedModel") -> Iterator[None]:
    """Turns whatever a model raises where it is called otherwise than it knows into one line."""
    try:
        with quiet():
            yield
    except WorkError:
        raise  # of the weights, not of the type
    except Exception as error:
        line = " ".join(str(error).split())[:160]
        raise ComityError(
            f"models of the type {model.config.model_type!r} are not supported: their packed pass "
            f"cannot be computed ({type(error).__name__}: {line})"
        ) from error


def _conversations(vocabulary: int) -> list[tuple[list[int], list[int]]]:
    """Random tokens of four conversations, in two stretches; all begin alike."""
    rng = np.random.default_rng(0)

    def ids(count: int) -> list[int]:
        return [int(token) for token in rng.integers(vocabulary, size=count)]

    shared = ids(9)
    return [([*shared, *ids(6 + n % 2)], ids(3)) for n in range(4)]


def _read(
    engine: "Engine", conversations: Sequence[tuple[list[int], list[int]]], adapter: str | None
) -> list[_Found]:
    """Whole sequences as learning reads them."""
    found = []
    sequences = [[*first, *second] for first, second in conversations]
    reading = engine.read(sequences, adapter, gradients=False)
    for ids, rows in zip(sequences, reading.rows, strict=True):
        places = range(2, len(ids), 3)
        tokens = torch.tensor([ids[place] for place in places], device=engine.device)
        hidden = reading.hidden[[rows[place - 1] for place in places]]
        logprobs, _ = engine.head.token_logprobs(hidden, tokens)
        found += [
            _Found(adapter, tuple(ids[:place]), ((ids[place],),), np.array([value]))
            for place, value in zip(places, logprobs.double().tolist(), strict=True)
        ]
    return found


def _played(engine: "Engine", conversations: Sequence[tuple[list[int], list[int]]]) -> list[_Found]:
    """Answers that are scored and tokens that are sampled, with and without the adapter."""
    rng = np.random.default_rng(1)
    tokens = rng.permutation(engine.head.vocabulary)[:40].tolist()
    singles: Answers = tuple((token,) for token in tokens[:32])
    longer: Answers = (*singles[:3], (tokens[32], tokens[33]))
    session = engine.session()
    talks = [session.conversation(adapter) for adapter in (None, None, PROBE, PROBE)]
    found: list[_Found] = []
    for stretch, answers in enumerate((singles, longer)):
        for talk, ids in zip(talks, conversations, strict=True):
            talk.append(ids[stretch])
        # One answer of two tokens is enough: each is a sequence of its own for the plain model.
        asked = talks if answers is singles else talks[3:]
        scored = session.score([Choice(talk, answers) for talk in asked])
        for talk, logprobs in zip(asked, scored, strict=True):
            found.append(_Found(talk.adapter, tuple(talk.ids), answers, logprobs))
    drawn = session.sample([Draw(talk, 2, frozenset(), rng) for talk in talks])
    for talk, answer in zip(talks, drawn, strict=True):
        for back, value in enumerate(reversed(answer.logprobs), 1):
            *context, token = talk.ids[: len(talk.ids) + 1 - back]
            found.append(_Found(talk.adapter, tuple(context), ((token,),), np.array([value])))
    return found


def _differences(model: "PreTrainedModel", weights: Weights, found: Sequence[_Found]) -> np.ndarray:
    """Packed less plain log-probabilities."""
    tables: dict[tuple[str | None, tuple[int, ...]], torch.Tensor] = {}
    wanted = {(f.adapter, (*f.context, *answer[:-1])) for f in found for answer in f.answers}
    # The longest first: their forwards say what follows each of their beginnings.
    for adapter, ids in sorted(wanted, key=lambda one: -len(one[1])):
        if (adapter, ids) not in tables:
            with _hooked(model, weights if adapter else {}):
                rows = _forward(model, ids).log_softmax(dim=-1)
            tables.update({(adapter, ids[: n + 1]): row for n, row in enumerate(rows)})
    off = []
    for one in found:
        plain = np.array(
            [
                sum(
                    float(tables[one.adapter, (*one.context, *answer[:n])][token])
                    for n, token in enumerate(answer)
                )
                for answer in one.answers
            ]
        )
        if len(plain) > 1:
            plain = plain - np.logaddexp.reduce(plain)
        off.append(one.logprobs - plain)
    return np.concatenate(off)


def _forward(model: "PreTrainedModel", ids: Sequence[int]) -> torch.Tensor:
    """A model's own logits of one sequence, float32 `[len(ids), vocabulary]`."""
    logits: torch.Tensor = model(
        input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False
    ).logits
    return logits[0].float()


def _adapt_head(engine: "Engine") -> None:
    """Have the engine's head scale its logits as the model does."""
    seen: list[torch.Tensor] = []
    layer: Any = engine.model.get_output_embeddings()
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits = _forward(engine.model, range(1, 8))
    finally:
        handle.remove()
    engine.head.adapt(seen[0].reshape(len(logits), -1), logits)


@contextmanager
def _noted(model: "PreTrainedModel", names: Iterable[str]) -> Iterator[dict[str, list[int]]]:
    """How many rows each of these modules sees, call by call; -1 where it gives no rows."""
    rows: dict[str, list[int]] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(_: object, inputs: tuple[torch.Tensor, ...], output: object) -> None:
            single = len(inputs) == 1 and isinstance(output, torch.Tensor)
            rows.setdefault(name, []).append(inputs[0][..., 0].numel() if single else -1)

        return note

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


def _probe_weights(model: "PreTrainedModel", targets: Iterable[str]) -> Weights:
    """An adapter for the first and the last module of each name (`q_proj`, ...), and one more."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    order = {n: i for i, (n, _) in enumerate(model.named_modules())}
    by_name: dict[str, list[str]] = {}
    for name in sorted(targets, key=order.__getitem__):
        by_name.setdefault(name.rpartition(".")[2], []).append(name)
    for name in sorted({one[i] for one in by_name.values() for i in (0, len(one) // 2, -1)}):
        layer: Any = model.get_submodule(name)
        size, wide = (
            (layer.in_features, layer.out_features)
            if isinstance(layer, torch.nn.Linear)
            else layer.weight.shape
        )
        down = torch.randn((2, size), generator=generator) / size**0.5
        up = 0.1 * torch.randn((wide, 2), generator=generator)
        weights[name] = down.to(model.device), up.to(model.device)
    return weights


@contextmanager
def _hooked(model: "PreTrainedModel", weights: Weights) -> Iterator[None]:
    """The check's adapter in a plain model, without PEFT: its product added to each output."""

    def hook(down: torch.Tensor, up: torch.Tensor) -> Callable[..., torch.Tensor]:
        def add(_: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            (x,) = inputs
            return output + F.linear(F.linear(x, down.to(x.dtype)), up.to(x.dtype))

        return add

    handles = [
        model.get_submodule(name).register_forward_hook(hook(*pair))
        for name, pair in weights.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _attention(model: "PreTrainedModel", implementation: str) -> Iterator[None]:
    """The model with another attention implementation."""
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(attention.NAME)


@contextmanager
def _in_float32(model: "PreTrainedModel") -> Iterator[bool]:
    """The weights in float32 meanwhile, where they fit; whether they are."""
    tensors = [*model.parameters(), *model.buffers()]
    rounded = [t for t in tensors if t.is_floating_point() and t.dtype != torch.float32]
    plain = all(t.is_floating_point() for t in model.parameters())
    if not plain or sum(4 * t.numel() for t in tensors) > FLOAT32_BYTES:
        yield not rounded and plain
        return
    before = [tensor.data for tensor in rounded]
    try:
        for tensor in rounded:
            tensor.data = tensor.data.float()
        yield True
    finally:
        for tensor, data in zip(rounded, before, strict=True):
            tensor.data = data


@contextmanager
def _narrow_windows(model: "PreTrainedModel") -> Iterator[None]:
    """Sliding windows of few tokens meanwhile: in the configs, and where layers keep their own."""
    holders: dict[int, Any] = {}
    for module in model.modules():
        for one in (module, getattr(module, "config", None)):
            if one is not None:
                holders[id(one)] = one
    before = [
        (one, name, value)
        for one in holders.values()
        for name in _WINDOWS
        if isinstance(value := getattr(one, name, None), int) and value > WINDOW
    ]
    try:
        for one, name, _ in before:
            setattr(one, name, WINDOW)
        yield
    finally:
        for one, name, value in before:
            setattr(one, name, value)
