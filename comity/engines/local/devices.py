"""Device, data type and quantization of a model, and the memory of the device.

torch is imported inside the functions, so that listing the models is fast.
"""

import importlib.util
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from comity.errors import ComityError, lookup

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16")
QUANTIZATIONS = {
    "nf4": "4-bit NormalFloat weights, computed with in the model's type (Dettmers et al. 2023)",
}
"""Storage formats of a base model's weights; adapters stay float32."""


def choose_device(device: str) -> "torch.device":
    """The torch device that "auto", "cpu", "cuda" or "cuda:N" stands for."""
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise ComityError(f"unknown device {device!r}; known: auto, cpu, cuda, cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ComityError(
            f"no device {device!r} here ({found} CUDA devices found); try auto or cpu"
        )
    return torch.device(device)


def check_quantization(quantization: str | None, place: "torch.device") -> None:
    """Raises `ComityError` unless a base model can be stored like that on this device."""
    if quantization is None:
        return
    lookup("quantization", quantization, QUANTIZATIONS)
    if place.type != "cuda":
        raise ComityError(
            f"model.quantization={quantization} needs a GPU with CUDA, and the model would run on "
            f"{place.type}; set model.quantization=null"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ComityError(
            f"model.quantization={quantization} needs bitsandbytes; run: "
            f"{sys.executable} -m pip install 'comity[quantized]', or set model.quantization=null"
        )


def make_deterministic(wanted: bool) -> None:
    """Let torch compute the same operation twice alike, bit for bit, or not.

    CPUs do in any case. On CUDA, gradients of looked-up rows are summed in any order otherwise,
    which is faster. Call it before the first matrix product of the process: cuBLAS reads its
    setting once.
    """
    import torch

    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if wanted != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(wanted)


def choose_dtype(dtype: str, device: "torch.device") -> "torch.dtype":
    """The torch type that "auto", "float32" or "bfloat16" stands for on this device."""
    import torch

    if dtype == "auto":
        return torch.bfloat16 if has_native_bfloat16(device) else torch.float32
    known = {"auto": None, **{name: getattr(torch, name) for name in DTYPES}}
    return lookup("dtype", dtype, known)


def has_native_bfloat16(device: "torch.device") -> bool:
    """Whether this device multiplies bfloat16 matrices in hardware.

    On CPUs: x86 with AVX512-BF16 or AMX. (`mkldnn`'s own test also accepts processors that
    emulate it, which is slower than float32.)
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, test, lambda: False)() for test in tests)


def free_bytes(device: "torch.device") -> float:
    """What this process can still have of a device's memory, in bytes; infinite: unknown."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(free + kept)
    _, available = memory_bytes()
    return float("inf") if available is None else float(available)


def memory_bytes() -> tuple[int | None, int | None]:
    """Main memory and what is available of it; a limit of the process group counts."""
    total = available = None
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        kibibytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        total = 1024 * kibibytes["MemTotal"]
        available = 1024 * kibibytes["MemAvailable"]
    if total is None:
        with suppress(ValueError, OSError, AttributeError):
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        with suppress(OSError, ValueError):  # "max" is no number: there is no limit.
            most, now = (int(Path(file).read_text()) for file in (limit, used))
            if total is None or most < total:
                total = most
                free = max(0, most - now)
                available = free if available is None else min(available, free)
    return total, available
