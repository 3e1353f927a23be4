"""The place of this process among those that torchrun started, from its environment.

Other launchers that set the same variables work, too. Does not import torch.
"""

import os
from collections.abc import Sequence

from comity.errors import ComityError

REQUIRED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables that torchrun sets for every process."""

_left_by_error = False


def left_by_error() -> None:
    """This process leaves its group because of an error; see `end_process`."""
    global _left_by_error
    _left_by_error = True


def end_process(code: int) -> None:
    """End a process that left its group by an error at once, without any destructor.

    The others leave at the same time, and gloo's threads abort a process (signal 6) whose
    connections are closed while it takes the group down. Returns in any other process.
    """
    if _left_by_error:
        os._exit(code)


def world_size() -> int:
    """Number of ranks; 1 without a launcher."""
    if any(name not in os.environ for name in REQUIRED):
        return 1
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """Number of this process among all ranks, from 0."""
    return _number("RANK", 0) if world_size() > 1 else 0


def local_rank() -> int:
    """Number of this process on its machine, from 0."""
    return _number("LOCAL_RANK", 0) if world_size() > 1 else 0


def ranks_here() -> int:
    """Number of ranks on this machine; 1 if the launcher does not say."""
    return max(1, _number("LOCAL_WORLD_SIZE", 1)) if world_size() > 1 else 1


def check_command(arguments: Sequence[str]) -> None:
    """Raises `ComityError` if several ranks run a command that is for one process."""
    if world_size() == 1:
        return
    unfit = next((one for one in ("--dry-run", "--multirun", "-m") if one in arguments), None)
    if unfit is not None:
        raise ComityError(f"{unfit} needs one process, not {world_size()} ranks")
    if arguments[:1] != ["train"]:
        command = arguments[0] if arguments else ""
        raise ComityError(
            "only `comity train` runs with several ranks; start "
            f"`comity {command}` without torchrun"
        )


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
