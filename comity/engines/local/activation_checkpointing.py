"""Activation checkpointing: transformer blocks whose backward pass computes their forward again.

A checkpointed block keeps its input alone, `[N, H]`. Its backward pass first computes the block
once more, in the same way as before: with the same rows for each adapter and the same dropout
masks, so gradients are bit for bit those of stored activations where the device computes the same
operation twice alike. The caches know a block that is computed again (`Cache.extend`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from comity.engines.local.adapters.lora_layers import RowRouting


def transformer_blocks(body: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks of a model's body, each a layer of attention and what follows it."""
    blocks: list[torch.nn.Module] = []
    inside: set[torch.nn.Module] = set()
    for module in body.modules():
        if isinstance(module, GradientCheckpointingLayer) and module not in inside:
            blocks.append(module)
            inside.update(module.modules())
    return blocks


def make_checkpointable(body: torch.nn.Module, routes: RowRouting, random: bool = True) -> None:
    """Let the blocks follow `ForwardContext.checkpointing` of each pass.

    `random`: dropout masks have values, which must be the same twice.
    """
    for block in transformer_blocks(body):
        block.forward = partial(_forward, block.forward, routes, random)  # type: ignore[method-assign]


def _forward(
    plain: Callable[..., Any], routes: RowRouting, random: bool, *args: Any, **kwargs: Any
) -> Any:
    """A block's forward pass; with activation checkpointing if its pass asks for it."""
    context = kwargs.get("forward_context")
    if context is None or not context.checkpointing:
        return plain(*args, **kwargs)
    return checkpoint(
        *(plain, *args),
        use_reentrant=False,
        # The routes are those of the running pass, and the backward pass runs outside of any.
        context_fn=routes.recomputation,
        preserve_rng_state=random and bool(routes.dropout_adapters),
        **kwargs,
    )
