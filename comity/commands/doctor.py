"""`comity doctor`: what this machine offers, what an experiment needs, and what to change.

Nothing is loaded or trained; memory is predicted by `comity.experiments.memory`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from comity.commands.machine import ENGINES, Machine, process_bytes, this_machine
from comity.commands.plan import Runs, runs_of
from comity.config.schema import Composition, Config
from comity.engines.local.devices import choose_device
from comity.experiments.memory import predict_memory
from comity.experiments.memory_needs import SPARE, Memory, size
from comity.runs.progress import say

LOADING = 500_000_000
"""Bytes of main memory that loading leaves behind beside the weights: libraries, tokenizer,
grammars, the allocator's pieces (450 MB were seen with the default model)."""
CUDA_CONTEXT = 600_000_000
"""Bytes that CUDA's context and the libraries' workspaces take on a GPU."""
PARTS = {
    "weights": "base model",
    "gathered": "one block of it that is whole, and once more while it is gathered",
    "other_models": "other base models on seats",
    "adapters": "adapters of learners, critics and frozen policies, in float32",
    "optimizer": "Adam's moments",
    "cache": "keys and values of all conversations",
    "play_pass": "the largest forward pass of play",
    "merged": "weights with a merged adapter, while text is sampled",
    "gradients": "gradients",
    "activations": "one micro-batch of the update",
}
"""Fields of `Memory` in the order of the table."""


@dataclass(frozen=True)
class Need:
    """What one arm of an experiment needs, and what there is."""

    arm: str
    config: Config
    memory: Memory
    program: int
    """Bytes of main memory of the program itself; 0 where the model is on a GPU."""
    available: int | None
    """Bytes that are free on the model's device; None: unknown."""
    disk: int
    """Bytes of checkpoints and adapters of all runs of the experiment."""

    @property
    def total(self) -> int:
        """Most bytes on the model's device."""
        return self.program + self.memory.peak

    @property
    def room(self) -> float:
        """Bytes for the run, beside the program and a reserve."""
        return _room(self.available, self.program)

    @property
    def fits(self) -> bool | None:
        """Whether the memory suffices; None: it is not known how much there is."""
        return None if self.available is None else self.memory.peak <= self.room


def examine(config: Config | None) -> tuple[Machine, list[Need]]:
    """The machine, and what each arm needs that differs from the ones before in its memory."""
    machine = this_machine(Path("runs" if config is None else config.output))
    return machine, [] if config is None else needs(config, machine)


def needs(config: Config, machine: Machine) -> list[Need]:
    """What the arms of an experiment need; arms that need the same are listed once."""
    runs = runs_of(config)
    found: dict[str, Need] = {}
    program = process_bytes()
    for arm, seeds in runs.items():
        one = next(iter(seeds.values()))
        same = replace(one, name="", seed=0, reward={}, phases=[], output="")
        key = repr(replace(same, composition=Composition()))
        if key in found:
            continue
        say(f"{arm}: predicting the memory of play and of an update ...")
        own, available = _available(choose_device(one.model.device), machine, program)
        memory = predict_memory(one, _room(available, own))
        found[key] = Need(arm, one, memory, own, available, _disk(memory, runs))
    return list(found.values())


def _room(available: int | None, program: int) -> float:
    """Bytes for a run where so many are free, beside the program and a reserve."""
    return math.inf if available is None else (1 - SPARE) * (available - program)


def _available(device: torch.device, machine: Machine, program: int) -> tuple[int, int | None]:
    """The program's bytes on the model's device, and the bytes that are free there."""
    if device.type == "cuda":
        return CUDA_CONTEXT, machine.gpus[device.index or 0].free
    # This process is the program that would run: what it has is not free, but it would have it.
    free = None if machine.available is None else machine.available + program
    return program + LOADING, free


def _disk(memory: Memory, runs: Runs) -> int:
    """Bytes of checkpoints: whole ones with Adam's moments, of older ones the adapters."""
    trained = memory.optimizer // 2
    total = 0
    for seeds in runs.values():
        for one in seeds.values():
            older = one.iterations // one.checkpoint.every
            total += trained * (3 * (one.checkpoint.keep + 1) + older)
    return total


def advice(need: Need) -> list[str]:
    """What to change so that it fits; empty if it does."""
    if need.fits is not False:
        return []
    config, memory, room = need.config, need.memory, need.room
    found = []
    if memory.dtype == "float32":
        slow = "" if memory.device != "cpu" else ", slower on processors without native bfloat16"
        found.append(f"model.dtype=bfloat16: half the weights and activations{slow}")
    if memory.device != "cpu" and config.model.quantization is None:
        found.append("model.quantization=nf4: about a quarter of the weights of bfloat16")
        if config.model.sharding == "none":
            found.append("model.sharding=fsdp2 with torchrun: several GPUs divide the base model")
    if memory.resident > room:
        found.append(f"a smaller model: {config.model.name} and its adapters alone do not fit")
        if memory.adapters + memory.optimizer > memory.weights:
            found.append(f"a lower adapter.rank (now {config.adapter.rank})")
    elif memory.learning > room:
        found += _less_to_learn(need)
    if memory.playing > room > memory.resident:
        per_match = (memory.playing - memory.resident) / config.matches
        fitting = int(0.95 * (room - memory.resident) / per_match) // config.group_size
        least = max(1, fitting) * config.group_size
        found.append(f"matches={least} (now {config.matches}): the cache grows with them")
    return found


def _less_to_learn(need: Need) -> Iterator[str]:
    """Advice for an update that does not fit."""
    memory = need.memory
    if not memory.checkpointing and memory.recomputed < memory.stored:
        yield (
            "model.activation_checkpointing=auto: a micro-batch then takes "
            f"{size(memory.recomputed)}, and its blocks are computed twice"
        )
    left = need.room - memory.resident - memory.gradients
    tokens = int(memory.microbatch_tokens * max(0.0, left) / max(1, memory.activations))
    given = memory.microbatch_limit
    if memory.microbatch_tokens > memory.sequence_tokens:
        fitting = max(tokens - memory.sizes.shared, 64) // 64 * 64
        yield (
            f"algorithm.microbatch_tokens={fitting} (now {given}): smaller, more micro-batches; "
            "auto chooses it when the run starts"
        )
    if tokens < memory.sequence_tokens:
        yield (
            f"shorter conversations (now up to {memory.sequence_tokens} tokens, and about {tokens} "
            "fit): fewer rounds, shorter messages, or a prompt of one turn"
        )


def as_json(machine: Machine, found: list[Need]) -> dict[str, Any]:
    """Everything as plain values; memory of the experiment in megabytes."""
    return {
        "machine": machine.plain(),
        "experiments": [
            {
                "arm": need.arm,
                "memory_mb": need.memory.megabytes(),
                "program_mb": need.program / 1e6,
                "total_mb": need.total / 1e6,
                "available_mb": None if need.available is None else need.available / 1e6,
                "disk_mb": need.disk / 1e6,
                "fits": need.fits,
                "advice": advice(need),
            }
            for need in found
        ],
    }


def lines(machine: Machine, found: list[Need]) -> Iterator[str]:
    """The table that `comity doctor` prints."""
    yield from _table("machine", _machine_rows(machine))
    yield ""
    yield from _table(
        "engines",
        [
            (name, machine.engines[name] or f"not installed{_how(extra)}")
            for name, extra in ENGINES.items()
        ],
    )
    for need in found:
        yield ""
        yield from _table(f"experiment {need.arm}", list(_need_rows(need)))


def _how(extra: str) -> str:
    return f" (pip install '{extra}')" if extra else ""


def _machine_rows(machine: Machine) -> list[tuple[str, str]]:
    rates = machine.gflops
    kind = "in hardware" if machine.bfloat16 else "emulated"
    auto = "bfloat16" if machine.bfloat16 else "float32"
    rows = [
        ("system", f"{machine.system}, Python {machine.python}"),
        (
            "processor",
            f"{machine.processor}, {machine.cores} cores usable, {machine.threads} threads",
        ),
        ("memory", f"{size(machine.memory)}, {size(machine.available)} available"),
        (
            "matrix rate",
            f"{rates['float32']:g} GFLOP/s in float32, {rates['bfloat16']:g} in bfloat16 ({kind}); "
            f"model.dtype=auto means {auto} on the processor",
        ),
    ]
    for number, gpu in enumerate(machine.gpus):
        bfloat16 = "bfloat16" if gpu.bfloat16 else "no bfloat16"
        rows.append(
            (
                f"cuda:{number}",
                f"{gpu.name}, {size(gpu.memory)}, {size(gpu.free)} free, compute capability "
                f"{gpu.capability}, {bfloat16}",
            )
        )
    if not machine.gpus:
        rows.append(("GPU", "none that torch can use"))
    rows.append(("CUDA", f"{machine.cuda or 'not in this torch'}, NCCL {machine.nccl or 'none'}"))
    rows += [("disk", f"{size(free)} free in {folder}") for folder, free in machine.disk.items()]
    return rows


def _need_rows(need: Need) -> Iterator[tuple[str, str]]:
    memory, sizes = need.memory, need.memory.sizes
    yield "model", f"{need.config.model.name}, {memory.dtype} on {memory.device}"
    yield (
        "conversations",
        f"at most {sizes.conversations} of at most {sizes.longest} tokens ({sizes.shared} shared)",
    )
    for key, what in PARTS.items():
        value = getattr(memory, key)
        if not value:
            continue
        if key == "activations":
            chosen = need.config.algorithm.get("microbatch_tokens") == "auto"
            most = f" (auto: at most {memory.microbatch_limit})" if chosen else ""
            what = f"{what}, {memory.microbatch_tokens} tokens{most}; {_otherwise(memory)}"
        if key == "weights" and memory.shards > 1:
            what = f"{what}, whose blocks are divided among {memory.shards} ranks"
        yield f"{value / 1e6:,.0f} MB", what
    yield "playing", f"at most {size(memory.playing)}"
    if memory.gradients:
        yield "learning", f"at most {size(memory.learning)}"
    what = "with the program itself" if memory.device == "cpu" else "with CUDA's own memory"
    free = "" if need.available is None else f" of {size(need.available)} available"
    answer = {True: ": fits", False: ": does NOT fit", None: ""}[need.fits]
    yield "in all", f"at most {size(need.total)} {what}{free}{answer}"
    if need.disk:
        yield "disk", f"at most {size(need.disk)} of checkpoints, and the records"
    for one in advice(need):
        yield "change", one


def _otherwise(memory: Memory) -> str:
    """Whether the update uses activation checkpointing, and what it would take otherwise."""
    if memory.checkpointing:
        return f"with activation checkpointing (without: {size(memory.stored)})"
    return f"without activation checkpointing (with: {size(memory.recomputed)})"


def _table(title: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _ in rows)
    yield title
    for name, text in rows:
        yield f"  {name:{width}}  {text}"
