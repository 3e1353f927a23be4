"""Check of a loaded model: packed forward passes against the model's own plain forward.

The engine packs many conversations into one row of tokens and calls the model's layers once.
That is correct if all layers process tokens one by one, except for attention through
transformers' interface. Other models (with convolutions or recurrences that would run across
conversations, attention of their own, outputs that are scaled elsewhere) raise no error but give
wrong numbers. So for every loaded model, a few random sequences are computed both ways: with a
common prefix, continued from the cache, scored, sampled and computed as in training, without and
with an adapter. A model whose results differ is refused.

The check runs in float32, whatever the model's type, if that needs little memory; the original
weights are kept aside. Larger models are checked in their own type, with a wide tolerance.
Sliding windows are narrowed during the check, so that a few tokens exceed them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from comity.engines.local.adapters.lora import Adapters
from comity.engines.local.check_conditions import (
    attention_implementation,
    in_float32,
    narrow_windows,
)
from comity.engines.local.models import quiet
from comity.engines.local.packing import HiddenStates
from comity.engines.local.sampling import SampleRequest
from comity.engines.local.scoring import Answers, ScoreRequest
from comity.engines.local.session import ForwardEngine, Session
from comity.errors import ComityError, WorkError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FLOAT32_TOLERANCE, LOW_PRECISION_TOLERANCE = 5e-3, 0.3
"""Largest difference of log-probabilities: of each one in float32; their root mean square in other
types. (The default model differs by 0.00003 at most in float32, and by 0.1 in bfloat16; tiny
models of refused families by 0.48 and more in bfloat16, in the median of three draws.)"""
DRAWS = 3
"""Draws of random sequences in low precision. If the first does not agree, their median counts.
Where rounding decides which expert computes a token, a mixture of experts differs widely in a few
sequences (1 of 12 random gpt_oss models by 0.42); a fault of the packed pass shows in most."""
PROBE = "check"

Weights = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""The adapter of the check: A `[rank, in]` and B `[out, rank]` by module."""


class CheckedEngine(ForwardEngine, Protocol):
    """What the check needs of an engine (`comity.engines.local.engine.Engine`)."""

    model: "PreTrainedModel"
    tokens_computed: int

    @property
    def adapters(self) -> Adapters: ...

    def session(self) -> Session: ...

    def hidden_states(
        self, sequences: Sequence[Sequence[int]], adapter: str | None, *, gradients: bool
    ) -> HiddenStates: ...


@dataclass(frozen=True)
class _PackedScores:
    """Log-probabilities from packed passes."""

    adapter: str | None
    context: tuple[int, ...]
    answers: Answers
    logprobs: np.ndarray
    """Of several answers, normalized over them; of one answer, over the whole vocabulary."""


def check_model(engine: CheckedEngine, plain_attention: str) -> None:
    """Raises `ComityError` unless packed passes agree with the model's own forward.

    `plain_attention`: the model's own attention implementation, as it was loaded. Leaves no
    adapter and no cache behind, and does not change random states. Also determines the scale of
    the model's logits and the layers that can get adapters. Models of one class and config are
    checked once per process.
    """
    model = engine.model
    kind = (type(model), model.config.to_json_string(), str(model.device), model.dtype)
    if kind not in _CHECKED:
        _check(engine, plain_attention)
        _CHECKED[kind] = engine.head.scale, engine.adapters.targets
    engine.head.scale, engine.adapters.targets = _CHECKED[kind]


_CHECKED: dict[tuple[object, ...], tuple[float, frozenset[str]]] = {}


def _check(engine: CheckedEngine, plain_attention: str) -> None:
    model = engine.model
    with ExitStack() as stack:
        stack.enter_context(unsupported_errors(model))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        exact = stack.enter_context(in_float32(model))
        stack.enter_context(narrow_windows(model))
        stack.enter_context(torch.no_grad())
        if engine.head.scales:
            with attention_implementation(model, plain_attention):
                _calibrate_head(engine)
        with _counted_rows(model, engine.adapters.targets) as rows:
            _whole_sequence_scores(engine, _conversations(engine.head.vocabulary)[:2], None)
        tokens = engine.tokens_computed
        engine.adapters.targets = frozenset(
            name for name, counts in rows.items() if counts == [tokens]
        )
        weights = _probe_weights(model, engine.adapters.targets)
        most = FLOAT32_TOLERANCE if exact else LOW_PRECISION_TOLERANCE
        seen = []
        for draw in range(1 if exact else DRAWS):
            conversations = _conversations(engine.head.vocabulary, draw)
            found = _compare(engine, plain_attention, conversations, weights)
            seen.append(float(np.abs(found).max() if exact else np.sqrt(np.mean(found**2))))
            if seen[0] <= most:
                break
        worst = float(np.median(seen))
    if not worst <= most:  # NaN too
        raise ComityError(
            f"models of the type {model.config.model_type!r} are not supported: packed with other "
            f"sequences, log-probabilities differ by {worst:.3g} from the model's own (at most "
            f"{most:g} is rounding)"
        )


@contextmanager
def unsupported_errors(model: "PreTrainedModel") -> Iterator[None]:
    """Turns any error of a model in a packed pass into a one-line `ComityError`."""
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


def _compare(
    engine: CheckedEngine,
    plain_attention: str,
    conversations: Sequence[tuple[list[int], list[int]]],
    weights: Weights,
) -> np.ndarray:
    """Packed minus plain log-probabilities of conversations, without and with the adapter."""
    engine.adapters.add(PROBE, rank=2, alpha=2, targets=sorted(weights))
    try:
        for name, parameter in engine.adapters.parameters(PROBE).items():
            module, _, matrix = name.rpartition(".")
            parameter.data.copy_(weights[module][matrix == "lora_B"])
        found = [
            *_whole_sequence_scores(engine, conversations[:2], None),
            *_whole_sequence_scores(engine, conversations[2:], PROBE),
            *_sampled_scores(engine, conversations),
        ]
    finally:
        engine.adapters.unload()
    with attention_implementation(engine.model, plain_attention):
        return _differences(engine.model, weights, found)


def _conversations(vocabulary: int, draw: int = 0) -> list[tuple[list[int], list[int]]]:
    """Random tokens of four conversations, in two parts; all have a common prefix."""
    rng = np.random.default_rng(draw)

    def ids(count: int) -> list[int]:
        return [int(token) for token in rng.integers(vocabulary, size=count)]

    shared = ids(9)
    return [([*shared, *ids(6 + n % 2)], ids(3)) for n in range(4)]


def _whole_sequence_scores(
    engine: CheckedEngine, conversations: Sequence[tuple[list[int], list[int]]], adapter: str | None
) -> list[_PackedScores]:
    """Whole sequences, computed as in training."""
    found = []
    sequences = [[*first, *second] for first, second in conversations]
    states = engine.hidden_states(sequences, adapter, gradients=False)
    for ids, rows in zip(sequences, states.rows, strict=True):
        places = range(2, len(ids), 3)
        tokens = torch.tensor([ids[place] for place in places], device=engine.device)
        hidden = states.hidden[[rows[place - 1] for place in places]]
        logprobs, _ = engine.head.token_logprobs(hidden, tokens)
        found += [
            _PackedScores(adapter, tuple(ids[:place]), ((ids[place],),), np.array([value]))
            for place, value in zip(places, logprobs.double().tolist(), strict=True)
        ]
    return found


def _sampled_scores(
    engine: CheckedEngine, conversations: Sequence[tuple[list[int], list[int]]]
) -> list[_PackedScores]:
    """Scored answers and sampled tokens, with and without the adapter."""
    rng = np.random.default_rng(1)
    tokens = rng.permutation(engine.head.vocabulary)[:40].tolist()
    singles: Answers = tuple((token,) for token in tokens[:32])
    longer: Answers = (*singles[:3], (tokens[32], tokens[33]))
    session = engine.session()
    growing = [session.conversation(adapter) for adapter in (None, None, PROBE, PROBE)]
    found: list[_PackedScores] = []
    for stretch, answers in enumerate((singles, longer)):
        for conversation, ids in zip(growing, conversations, strict=True):
            conversation.append(ids[stretch])
        # One answer of two tokens is enough: each needs its own plain forward.
        asked = growing if answers is singles else growing[3:]
        scored = session.score([ScoreRequest(conversation, answers) for conversation in asked])
        for conversation, logprobs in zip(asked, scored, strict=True):
            found.append(
                _PackedScores(conversation.adapter, tuple(conversation.ids), answers, logprobs)
            )
    samples = session.sample(
        [SampleRequest(conversation, 2, frozenset(), rng) for conversation in growing]
    )
    for conversation, answer in zip(growing, samples, strict=True):
        for back, value in enumerate(reversed(answer.logprobs), 1):
            *context, token = conversation.ids[: len(conversation.ids) + 1 - back]
            found.append(
                _PackedScores(conversation.adapter, tuple(context), ((token,),), np.array([value]))
            )
    return found


def _differences(
    model: "PreTrainedModel", weights: Weights, found: Sequence[_PackedScores]
) -> np.ndarray:
    """Packed minus plain log-probabilities."""
    tables: dict[tuple[str | None, tuple[int, ...]], torch.Tensor] = {}
    wanted = {(f.adapter, (*f.context, *answer[:-1])) for f in found for answer in f.answers}
    # The longest first: their forwards also give the logits of all their prefixes.
    for adapter, ids in sorted(wanted, key=lambda one: -len(one[1])):
        if (adapter, ids) not in tables:
            with _hooked(model, weights if adapter else {}):
                rows = _forward(model, ids).log_softmax(dim=-1)
            tables.update({(adapter, ids[: n + 1]): row for n, row in enumerate(rows)})
    differences = []
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
        differences.append(one.logprobs - plain)
    return np.concatenate(differences)


def _forward(model: "PreTrainedModel", ids: Sequence[int]) -> torch.Tensor:
    """A model's own logits of one sequence, float32 `[len(ids), vocabulary]`."""
    logits: torch.Tensor = model(
        input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False
    ).logits
    return logits[0].float()


def _calibrate_head(engine: CheckedEngine) -> None:
    """Make the engine's head scale its logits as the model does."""
    seen: list[torch.Tensor] = []
    layer: Any = engine.model.get_output_embeddings()
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits = _forward(engine.model, range(1, 8))
    finally:
        handle.remove()
    engine.head.calibrate_scale(seen[0].reshape(len(logits), -1), logits)


@contextmanager
def _counted_rows(model: "PreTrainedModel", names: Iterable[str]) -> Iterator[dict[str, list[int]]]:
    """Rows that each of these modules gets, by call; -1 if its output is no tensor of rows."""
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
    """The check's adapter in a plain model, without PEFT: hooks add its product to each output."""

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
