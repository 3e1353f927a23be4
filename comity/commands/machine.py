"""What this machine offers: processor, memory, GPUs, disk, and the engines that are installed."""

import importlib.metadata
import os
import platform
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from comity.engines.local.devices import has_native_bfloat16, memory_bytes
from comity.engines.local.models import cache_folder
from comity.runs.versions import cpu_name

ENGINES = {
    "torch": "",
    "transformers": "",
    "peft": "",
    "llguidance": "",
    "bitsandbytes": "comity[quantized]",
    "openai": "comity[api]",
    "axelrod": "comity[axelrod]",
    "vllm": "",
}
"""Packages that compute or play, each with the extra that installs it."""
MATRIX = 512
"""Rows and columns of the matrices that are multiplied for `Rates`."""


@dataclass(frozen=True)
class Gpu:
    """A GPU."""

    name: str
    memory: int
    """Bytes in all."""
    free: int
    """Bytes that are free now."""
    capability: str
    bfloat16: bool
    """Whether it multiplies bfloat16 in hardware."""


@dataclass(frozen=True)
class Machine:
    """What a machine offers; memory and disk in bytes, None where the system does not say."""

    system: str
    python: str
    processor: str | None
    cores: int
    """Cores that this process may use."""
    threads: int
    """Threads that torch uses."""
    memory: int | None
    """Main memory, or what the process group is limited to."""
    available: int | None
    """Of it, what a new program can have now."""
    bfloat16: bool
    """Whether the processor multiplies bfloat16 in hardware."""
    gflops: dict[str, float]
    """Matrix multiplication of this processor by type, 10^9 operations a second."""
    gpus: list[Gpu]
    cuda: str | None
    """The CUDA version that torch was built for."""
    nccl: str | None
    disk: dict[str, int]
    """Free bytes by folder."""
    engines: dict[str, str | None]
    """Versions of `ENGINES`; None: not installed."""

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def this_machine(output: Path) -> Machine:
    """The machine of this process; `output`: the folder of runs."""
    memory, available = memory_bytes()
    return Machine(
        system=platform.platform(),
        python=platform.python_version(),
        processor=cpu_name(),
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        memory=memory,
        available=available,
        bfloat16=has_native_bfloat16(torch.device("cpu")),
        gflops={name: matmul_gflops(name) for name in ("float32", "bfloat16")},
        gpus=_gpus(),
        cuda=torch.version.cuda,
        nccl=_nccl(),
        disk=_disk(output),
        engines={name: _version(name) for name in ENGINES},
    )


def usable_cores() -> int:
    """Cores that this process may use."""
    with suppress(AttributeError, OSError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def process_bytes() -> int:
    """Main memory of this process now (on systems without /proc: its most so far)."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def matmul_gflops(dtype: str) -> float:
    """Matrix multiplication on the processor in this type, best of several, 10^9 per second."""
    one = torch.randn(MATRIX, MATRIX).to(getattr(torch, dtype))
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        torch.mm(one, one)
        best = min(best, time.perf_counter() - began)
    return round(2 * MATRIX**3 / best / 1e9, 1)


def _gpus() -> list[Gpu]:
    found = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        major, minor = torch.cuda.get_device_capability(number)
        device = torch.device("cuda", number)
        name = torch.cuda.get_device_name(number)
        found.append(Gpu(name, total, free, f"{major}.{minor}", has_native_bfloat16(device)))
    return found


def _nccl() -> str | None:
    with suppress(Exception):  # Builds without CUDA raise different errors.
        if torch.cuda.is_available() and torch.distributed.is_nccl_available():
            return ".".join(map(str, torch.cuda.nccl.version()))
    return None


def _disk(output: Path) -> dict[str, int]:
    """Free bytes for runs and for converted models."""
    found = {}
    for folder in (output.absolute(), cache_folder()):
        near = next((one for one in (folder, *folder.parents) if one.exists()), None)
        if near is not None:
            found[str(folder)] = shutil.disk_usage(near).free
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
