"""Temporary changes of a model for its check: attention, precision, sliding windows."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from comity.distributed.block_gathering import is_sharded
from comity.engines.local import attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FLOAT32_BYTES = 4_000_000_000
"""Most memory of the weights in float32 for a check in float32."""
CHECK_WINDOW = 6
"""Size of sliding windows during the check; the sequences have 18 tokens and more."""
_WINDOWS = ("sliding_window", "attention_chunk_size", "compress_rate")


def plain_attention(model: "PreTrainedModel") -> str:
    """The attention of the model's own plain forward pass, by transformers' name.

    Eager where scores are capped (Gemma-2): before transformers 5.21, such models are loaded with
    the fused attention of torch, which ignores the cap.
    """
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "eager" if capped else str(model.config._attn_implementation)


@contextmanager
def attention_implementation(model: "PreTrainedModel", implementation: str) -> Iterator[None]:
    """The model with another attention implementation."""
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(attention.NAME)


@contextmanager
def in_float32(model: "PreTrainedModel") -> Iterator[bool]:
    """Inside the block, the weights are in float32 if memory allows; yields whether they are.

    Weights that are divided among ranks keep their type.
    """
    tensors = [*model.parameters(), *model.buffers()]
    rounded = [t for t in tensors if t.is_floating_point() and t.dtype != torch.float32]
    plain = all(t.is_floating_point() for t in model.parameters())
    if not plain or is_sharded(model) or sum(4 * t.numel() for t in tensors) > FLOAT32_BYTES:
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
def narrow_windows(model: "PreTrainedModel") -> Iterator[None]:
    """Inside the block, sliding windows are narrow: in configs and in layers' own attributes.

    Except for sliding windows as long as the context: in Phi-3.5-MoE, attention is not told.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf
    holders: dict[int, Any] = {}
    for module in model.modules():
        for one in (module, getattr(module, "config", None)):
            if one is not None:
                holders[id(one)] = one
    before = [
        (one, name, value)
        for one in holders.values()
        for name in _WINDOWS
        if isinstance(value := getattr(one, name, None), int)
        and value > CHECK_WINDOW
        and not (name == "sliding_window" and value >= limit)
    ]
    try:
        for one, name, _ in before:
            setattr(one, name, CHECK_WINDOW)
        yield
    finally:
        for one, name, value in before:
            setattr(one, name, value)
