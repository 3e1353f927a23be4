"""The place of this process among the ranks of a run, from its environment.

Ranks are started by torchrun, or by `srun` with several tasks (a step of a SLURM job). Other
launchers that set torchrun's variables work, too. Does not import torch.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from comity.errors import ComityError

REQUIRED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables that torchrun sets for every process."""
OF_SLURM = (
    *("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST"),
    *("SLURM_PROCID", "SLURM_LOCALID"),
)
"""Variables that srun sets for every task. A job's script has no SLURM_STEP_..., and is no rank."""
PORTS = range(12_000, 32_000)
"""Ports at which the ranks of a SLURM step meet, by the numbers of job and step. Linux gives none
of them to other connections."""

LAUNCHER = (
    *(*REQUIRED, "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE"),
)
"""All that torchrun sets, beside those that begin with `TORCHELASTIC_`."""

_left_by_error = False
_at_end: list[Callable[[], object]] = []


@dataclass(frozen=True)
class Place:
    """A process among the ranks of its run."""

    rank: int = 0
    """Number among all ranks, from 0."""
    size: int = 1
    """Number of ranks."""
    local_rank: int = 0
    """Number among the ranks on the same machine, from 0."""
    address: str = ""
    """HOST:PORT of the first rank, where all meet."""
    launcher: str = ""
    """Command that started the ranks: torchrun, srun; empty for a process alone."""


ALONE = Place()


def place() -> Place:
    """The place of this process; `ALONE` without a launcher."""
    if all(name in os.environ for name in REQUIRED):
        size = _number("WORLD_SIZE", 1)
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        ranks = _number("RANK", 0), size, _number("LOCAL_RANK", 0)
        return Place(*ranks, address, "torchrun") if size > 1 else ALONE
    if all(name in os.environ for name in OF_SLURM):
        size = _number("SLURM_STEP_NUM_TASKS", 1)
        ranks = _number("SLURM_PROCID", 0), size, _number("SLURM_LOCALID", 0)
        return Place(*ranks, _address_of_step(), "srun") if size > 1 else ALONE
    return ALONE


def world_size() -> int:
    """Number of ranks; 1 without a launcher."""
    return place().size


def rank() -> int:
    """Number of this process among all ranks, from 0."""
    return place().rank


def local_rank() -> int:
    """Number of this process on its machine, from 0."""
    return place().local_rank


def left_by_error() -> None:
    """This process leaves its group because of an error; see `end_process`."""
    global _left_by_error
    _left_by_error = True


def end_process(code: int) -> None:
    """End a process that left its group by an error at once, without any destructor.

    The others leave at the same time, and gloo's threads abort a process (signal 6) whose
    connections are closed while it takes the group down. What was given to `before_end` is called.
    Returns in any other process.
    """
    if _left_by_error:
        for call in _at_end:
            call()
        os._exit(code)


def before_end(call: Callable[[], object]) -> None:
    """Call it before `end_process` ends the process, which calls no exit functions."""
    _at_end.append(call)


def without_launcher(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without the launcher's variables, for programs that are no ranks."""
    return {
        name: value
        for name, value in environment.items()
        if name not in LAUNCHER and not name.startswith("TORCHELASTIC_")
    }


def ranks_here() -> int:
    """Number of ranks on this machine; 1 if the launcher does not say."""
    return max(1, _number("LOCAL_WORLD_SIZE", 1)) if world_size() > 1 else 1


def check_command(arguments: Sequence[str]) -> None:
    """Raises `ComityError` if several ranks run a command that is for one process."""
    here = place()
    if here.size == 1:
        return
    unfit = next((one for one in ("--dry-run", "--multirun", "-m") if one in arguments), None)
    if unfit is not None:
        raise ComityError(f"{unfit} needs one process, not {here.size} ranks")
    if arguments[:1] != ["train"]:
        command = arguments[0] if arguments else ""
        raise ComityError(
            "only `comity train` runs with several ranks; start "
            f"`comity {command}` {alone(here.launcher)}"
        )


def alone(launcher: str) -> str:
    """How to start one process instead of several ranks."""
    return "with srun --ntasks 1" if launcher == "srun" else "without torchrun"


def first_host(nodes: str) -> str:
    """The first machine of a list in SLURM's notation: "gpu[003-007,9],login" is "gpu003"."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first.group() if first else "")


def _address_of_step() -> str:
    """Where the tasks of a SLURM step meet; MASTER_ADDR and MASTER_PORT go before."""
    host = os.environ.get("MASTER_ADDR") or first_host(os.environ["SLURM_STEP_NODELIST"])
    number = 31 * _number("SLURM_JOB_ID", 0) + _number("SLURM_STEP_ID", 0)
    return f"{host}:{os.environ.get('MASTER_PORT') or PORTS[number % len(PORTS)]}"


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
