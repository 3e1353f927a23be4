"""Sharding: the transformer blocks of a base model, divided among ranks by PyTorch's FSDP2.

Each rank holds a part of every block's weights. A block is whole only while it computes: its
forward pass asks for it, and so does its backward pass, when it needs a tensor that the forward
pass saved. FSDP2's `unshard` and `reshard` fill and free the same tensors, so that saved weights
are valid again. Its own hooks are not used: they gather when a module is called, which ranks do
different numbers of times (`comity.distributed.block_gathering`).

Everything outside of blocks stays whole on every rank: embeddings, the output layer, the last
norm. Adapters are attached afterwards, so FSDP2 does not know them; they stay plain, float32 and
whole.
"""

import platform
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from comity.distributed.block_gathering import BlockGathering
from comity.distributed.process_group import TorchProcessGroup
from comity.engines.local.activation_checkpointing import transformer_blocks
from comity.engines.local.adapters.lora_layers import model_body
from comity.engines.local.devices import choose_device, choose_dtype
from comity.engines.local.models import cache_folder, load_model
from comity.errors import ComityError, WorkError, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_sharded(
    name: str, dtype: str, device: str, ranks: TorchProcessGroup
) -> "tuple[PreTrainedModel, BlockGathering]":
    """The model called `name` (see `load_model`), its blocks divided among the ranks.

    Every rank reads all of it into main memory and keeps its part; the ranks of a machine do so
    one after another. Raises `ComityError` on all ranks where it cannot be loaded on one, and for
    models that cannot be divided.
    """
    place = choose_device(device)
    precision = str(choose_dtype(dtype, place)).removeprefix("torch.")
    with ranks.together():  # All ranks have come so far: from here on they do the same.
        check_device(place)
    ranks.use_device(place)
    gathering = BlockGathering.of(ranks)
    mesh = DeviceMesh.from_group(ranks.device_group, place.type)
    with ranks.together(), _one_rank_of_this_machine():
        model = load_model(name, precision, "cpu")
        blocks = shard_blocks(model, place, mesh)
    numbers = gathering.add([holder for _, holder in blocks])
    for number, (block, _) in zip(numbers, blocks, strict=True):
        block.forward = partial(_forward, block.forward, gathering, number)  # type: ignore[method-assign]
    return model, gathering


def check_device(device: torch.device) -> None:
    """Raises `ComityError` for CPUs with a build of torch whose FSDP2 needs a GPU, as of 2.6."""
    if device.type == "cpu" and not hasattr(torch.cpu.Stream, "record_event"):
        raise ComityError(
            f"model.sharding=fsdp2 does not run on CPUs with torch {torch.__version__}; install a "
            "newer torch (2.13 runs there)"
        )


def shard_blocks(
    model: "PreTrainedModel", device: torch.device, mesh: DeviceMesh
) -> list[tuple[torch.nn.Module, FSDPModule]]:
    """Divide a model's blocks among the ranks, and move the rest of it to the device.

    Returns every block with what divides and gathers it. The model is on the CPU, so that the
    device never holds all of it. Nothing is exchanged. Raises `ComityError` for models without
    blocks, or with weights that blocks share.
    """
    blocks = transformer_blocks(model_body(model))
    _check_blocks(model, blocks)
    divided = []
    for block in blocks:
        # FSDP2 puts its hooks on the module that it is given: on this one, which is never called.
        holder = torch.nn.Module()
        holder.block = block.to(device)
        try:
            divided.append((block, fully_shard(holder, mesh=mesh, reshard_after_forward=True)))
        except (ValueError, NotImplementedError) as error:
            raise ComityError(
                f"model.sharding=fsdp2 does not support models of the type "
                f"{model.config.model_type!r}: {one_line(error)[:160]}"
            ) from error
    model.to(device)  # type: ignore[arg-type]
    return divided


@contextmanager
def _one_rank_of_this_machine() -> Iterator[None]:
    """Inside the block, no other rank of this machine."""
    folder = cache_folder()
    lock = FileLock(folder / f".loading-{platform.node()}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise WorkError(f"cannot write to {folder}: {one_line(error)}") from error
    try:
        yield
    finally:
        lock.release()


def _check_blocks(model: "PreTrainedModel", blocks: list[torch.nn.Module]) -> None:
    """Raises `ComityError` unless there are blocks, and every weight belongs to one at most."""
    kind = model.config.model_type
    if not blocks:
        raise ComityError(
            f"model.sharding=fsdp2 shards transformer blocks, and models of the type {kind!r} have "
            "none that transformers marks as such; set model.sharding=none"
        )
    inside = {module for block in blocks for module in block.modules()}
    parts = [
        *(list(block.parameters()) for block in blocks),
        [w for m in model.modules() if m not in inside for w in m.parameters(recurse=False)],
    ]
    owners = Counter(weight for part in parts for weight in set(part))
    if any(count > 1 for count in owners.values()):
        raise ComityError(
            f"model.sharding=fsdp2 does not support models of the type {kind!r}: their blocks "
            "share weights; set model.sharding=none"
        )


def _forward(
    plain: Callable[..., Any], gathering: BlockGathering, number: int, *args: Any, **kwargs: Any
) -> Any:
    """A block's forward pass on whole weights."""
    # Activation checkpointing computes it again inside of a backward pass.
    gathering.need(number, backward=torch._C._current_graph_task_id() != -1)
    context = kwargs.get("forward_context")
    if not torch.is_grad_enabled() or (context is not None and context.checkpointing):
        return plain(*args, **kwargs)

    def unpack(saved: torch.Tensor) -> torch.Tensor:
        gathering.need(number, backward=True)
        return saved

    # Detached: a node that keeps its own output with its history would never be freed.
    with saved_tensors_hooks(torch.Tensor.detach, unpack):
        return plain(*args, **kwargs)
