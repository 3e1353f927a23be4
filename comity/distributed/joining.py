"""Joins the ranks that torchrun or srun started."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

from comity.distributed.environment import Place, left_by_error, place
from comity.distributed.process_group import (
    ALONE,
    LostRankError,
    ProcessGroup,
    TorchProcessGroup,
)
from comity.errors import ComityError, WorkError, one_line

TIMEOUT = timedelta(hours=2)
"""Longest wait for a rank that plays longer than the others. One that ended is noticed at once."""

_joined: TorchProcessGroup | None = None
"""The group of this process, once it has joined."""


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """The group of all ranks; of this process alone if no launcher started others.

    If this process has joined already, the same group again. Raises `WorkError` if the ranks
    cannot be reached.
    """
    here = place()
    if here.size == 1:
        yield ALONE
        return
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        raise ComityError("several ranks need a build of torch with torch.distributed and gloo")
    global _joined
    if _joined is not None:
        yield _joined
        return
    try:
        torch.distributed.init_process_group("gloo", timeout=TIMEOUT, **_meeting(here))
    except (RuntimeError, ValueError, OSError) as error:
        taken = "EADDRINUSE" in str(error)
        advice = "; choose another port: torchrun --master-port, or MASTER_PORT" if taken else ""
        raise WorkError(
            f"cannot join the other ranks at {here.address}: {one_line(error)[:200]}{advice}"
        ) from error
    try:
        with _ended_by_launcher():
            _joined = TorchProcessGroup()
            yield _joined
    except BaseException:
        left_by_error()
        raise
    else:
        torch.distributed.destroy_process_group()
    finally:
        _joined = None


def _meeting(here: Place) -> dict[str, Any]:
    """How torch finds the other ranks; empty if its own variables say it."""
    if here.launcher == "torchrun":
        return {}
    return {"init_method": f"tcp://{here.address}", "rank": here.rank, "world_size": here.size}


def bind_device(name: str, ranks: ProcessGroup) -> None:
    """Let "cuda" be this rank's own GPU, by its number on its machine.

    `name`: `model.device`. Raises `ComityError` if there is none for it.
    """
    if ranks.size == 1:
        return
    if name.startswith("cuda:"):
        raise ComityError(
            f"model.device={name} is one GPU, and each of the {ranks.size} ranks needs its own; "
            "set model.device=cuda, or auto"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return
    if not torch.distributed.is_nccl_available():
        raise ComityError(
            "several ranks on GPUs need NCCL, which this build of torch lacks; install torch for "
            "CUDA, or set model.device=cpu"
        )
    found, here = torch.cuda.device_count(), place()
    # srun can show each task its own GPU only (--gpus-per-task), which is number 0 to it.
    number = 0 if here.launcher == "srun" and found == 1 else here.local_rank
    if number >= found:
        option = "--ntasks-per-node" if here.launcher == "srun" else "--nproc-per-node"
        raise ComityError(
            f"{number + 1} or more ranks on a machine with {found} GPUs; start at most "
            f"{option} {found}"
        )
    torch.cuda.set_device(number)


def check_agreement(config: str, device: str, ranks: ProcessGroup) -> None:
    """Raises `ComityError` on all ranks if they were started with other configs, or share a GPU.

    `config`: of this rank, as text; `device`: `model.device`. Call it outside of `together`.
    """
    if ranks.size == 1:
        return
    gpu = None
    if device != "cpu" and torch.cuda.is_available():
        known = torch.cuda.get_device_properties(torch.cuda.current_device())
        gpu = socket.gethostname(), str(getattr(known, "uuid", ranks.rank))
    configs, gpus = zip(*ranks.gather((config, gpu)), strict=True)
    error = None
    if len(set(configs)) > 1:
        lines = [set(one.splitlines()) for one in configs]
        differing = sorted(
            line.strip() for line in set.union(*lines) - set.intersection(*lines) if ": " in line
        )
        error = ComityError(
            f"ranks train one run together, but were started with other settings "
            f"({', '.join(differing[:4])}); start separate runs as "
            "separate jobs, or each with srun --ntasks 1"
        )
    elif shared := [rank for rank, one in enumerate(gpus) if one and gpus.count(one) > 1]:
        error = ComityError(
            f"ranks {', '.join(map(str, shared))} have the same GPU; start one rank for each GPU"
        )
    if error is not None:
        error.shared = True
        raise error


@contextmanager
def _ended_by_launcher() -> Iterator[None]:
    """Turns the signal by which torchrun and srun end the other ranks into a `LostRankError`."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread gets signals.
        return

    why = "ended by the launcher, usually because another rank ended"
    if place().launcher == "srun":
        why = "ended by SLURM: its job was cancelled or preempted, its time is over or a rank ended"

    def end(number: int, frame: Any) -> None:
        lost = LostRankError(why)
        lost.shared = True
        raise lost

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
