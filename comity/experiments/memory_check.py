"""Refuses a model that cannot fit into the memory, before its weights are loaded.

Only what is certain is compared: the weights, and of a training run what it keeps all the time.
What else a run needs depends on how long its conversations become and how many of them are alike;
`comity doctor` predicts an upper bound.
"""

import torch

from comity.config.schema import Config, ModelConfig
from comity.distributed.environment import ranks_here
from comity.distributed.process_group import ALONE, ProcessGroup
from comity.engines.local.devices import choose_device, choose_dtype, free_bytes, memory_bytes
from comity.engines.local.models import fetch
from comity.engines.local.weightless import NF4_BYTES, planned_weight_bytes
from comity.errors import ComityError
from comity.experiments.memory_needs import Resident, size


def check_weights(model: ModelConfig, ranks: ProcessGroup = ALONE) -> None:
    """Raises `ComityError` for a model whose weights alone do not fit.

    `ranks`: the processes that train together. Says nothing of models of which not even the number
    of weights is known.
    """
    place = choose_device(model.device)
    with ranks.together():  # No rank loads before all have seen what is free.
        free, (_, main) = free_bytes(place), memory_bytes()
    dtype = choose_dtype(model.dtype, place)
    try:
        weights = planned_weight_bytes(fetch(model.name), dtype)
    except ComityError:
        return
    what = f"the weights of {model.name} take {size(weights)} in {_name(dtype)}"
    divided = model.sharding != "none" and ranks.size > 1
    if place.type == "cuda" and not divided:
        stored = weights if model.quantization is None else weights * NF4_BYTES / dtype.itemsize
        if stored > free:
            raise ComityError(
                f"{what}, and {size(int(free))} of {place} are free; {_advice(model)}"
            )
    if model.quantization is not None or main is None:
        return
    # They are read into main memory first. Ranks that divide a model read it one after another.
    here, copies, each = ranks_here(), 1.0, ""
    if place.type == "cpu" and not divided:
        copies, each = here, f" on each of {here} ranks" if here > 1 else ""
    elif divided:
        each = ", and every rank reads all of them before it keeps its part"
        copies += (here - 1) / ranks.size if place.type == "cpu" else 0
    if weights * copies > main:
        raise ComityError(
            f"{what}{each}, and {size(main)} of main memory are available; {_advice(model)}"
        )


def refuse_resident(config: Config, memory: Resident, room: float) -> None:
    """Raises `ComityError` if what a run keeps all the time takes more than `room` bytes."""
    kept = memory.resident + memory.gradients
    if kept <= room:
        return
    adapters = memory.adapters + memory.optimizer + memory.gradients
    raise ComityError(
        f"{config.model.name} needs at least {size(kept)} on {memory.device} "
        f"({size(memory.weights + memory.other_models)} of weights in {memory.dtype}, "
        f"{size(adapters)} of adapters, gradients and Adam's moments), and {size(int(room))} are "
        f"free; {_advice(config.model)}"
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _advice(model: ModelConfig) -> str:
    """What to change."""
    place = choose_device(model.device)
    found = ["choose a smaller model"]
    if choose_dtype(model.dtype, place) == torch.float32:
        found.append("set model.dtype=bfloat16")
    if place.type == "cuda" and model.quantization is None:
        found.append("set model.quantization=nf4")
    if place.type == "cuda" and model.sharding == "none":
        found.append("divide it among GPUs (model.sharding=fsdp2 with torchrun)")
    return f"{', or '.join(found)}; comity doctor says what an experiment needs"
