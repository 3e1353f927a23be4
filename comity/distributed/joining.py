"""Joins the processes that torchrun started."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

from comity.distributed.environment import left_by_error, local_rank, world_size
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
    if world_size() == 1:
        yield ALONE
        return
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        raise ComityError("several ranks need a build of torch with torch.distributed and gloo")
    global _joined
    if _joined is not None:
        yield _joined
        return
    try:
        torch.distributed.init_process_group("gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError, OSError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        taken = "EADDRINUSE" in str(error)
        advice = "; choose another port: torchrun --master-port, or MASTER_PORT" if taken else ""
        raise WorkError(
            f"cannot join the other ranks at {address}: {one_line(error)[:200]}{advice}"
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
    found = torch.cuda.device_count()
    if local_rank() >= found:
        raise ComityError(
            f"{local_rank() + 1} or more ranks on a machine with {found} GPUs; start at most "
            f"--nproc-per-node {found}"
        )
    torch.cuda.set_device(local_rank())


@contextmanager
def _ended_by_launcher() -> Iterator[None]:
    """Turns the signal by which torchrun ends the other ranks into a `LostRankError`."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread gets signals.
        return

    def end(number: int, frame: Any) -> None:
        lost = LostRankError("ended by the launcher, usually because another rank ended")
        lost.shared = True
        raise lost

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
