"""The tasks of a SLURM step, without SLURM."""

import socket
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def step(rank: int, size: int = 2, **others: object) -> dict[str, str]:
    """The variables of one task of a step, as SLURM 22.05 sets them."""
    given = {
        "SLURM_JOB_ID": 12,
        "SLURM_STEP_ID": 3,
        "SLURM_STEP_NUM_TASKS": size,
        "SLURM_STEP_NODELIST": "gpu[003-004]",
        "SLURM_PROCID": rank,
        "SLURM_LOCALID": rank % 2,
        **others,
    }
    return {name: str(value) for name, value in given.items()}
