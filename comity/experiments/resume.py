"""Writes checkpoints of a run and restores them."""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import torch

from comity.config.compose import load_config
from comity.config.yaml_files import to_yaml
from comity.distributed.process_group import ProcessGroup
from comity.errors import WorkError
from comity.experiments.build import Experiment
from comity.files import write_atomically
from comity.games.randomness import TORCH, generator
from comity.learning.learner import Learner
from comity.learning.state.checkpoints import STATE, Checkpoints
from comity.learning.state.exact_state import (
    from_arrays,
    load_optimizer,
    load_state,
    random_state,
    restore_random_state,
    save_optimizer,
    save_state,
    to_arrays,
)
from comity.runs.folder import RunFolder
from comity.runs.provenance import check_same_config
from comity.safe_reading import read_object


def seed_libraries(seed: int, iteration: int, rank: int = 0) -> None:
    """Seeds the global generators of torch, NumPy and Python, which libraries may use.

    Comity itself uses `comity.games.randomness`, except for torch's dropout, which is another one
    on every rank.
    """
    rng = generator(seed, TORCH, iteration, *([rank] if rank else []))
    torch.manual_seed(int(rng.integers(2**62)))
    np.random.seed(int(rng.integers(2**32)))
    random.seed(int(rng.integers(2**62)))


def write_checkpoint(run: RunFolder, experiment: Experiment, iterations: int, folder: Path) -> None:
    """Writes adapters (PEFT format), optimizers, learners' and random states, config, counts."""
    for name, learner in experiment.learners.items():
        experiment.engine.adapters.save(name, folder / name)
        save_optimizer(folder / name / "optimizer.safetensors", learner.optimizer)
        save_state(folder / name / "learner.safetensors", learner.state())
    save_state(folder / "random.safetensors", random_state())
    write_atomically(folder / "config.yaml", to_yaml(run.config))
    state = {
        "iterations": iterations,
        "versions": {name: learner.version for name, learner in experiment.learners.items()},
        **run.counted(iterations),
    }
    write_atomically(folder / STATE, json.dumps(state, indent=2) + "\n")


def restore(run: RunFolder, learners: dict[str, Learner], checkpoints: Checkpoints) -> int:
    """Restore the learners from the run's newest valid checkpoint; returns the next iteration.

    Raises `ComityError` if the config, the metrics or the records do not match the checkpoint.
    """
    newest = checkpoints.latest()
    if newest is None:
        run.truncate_after(-1)
        return 0
    number, folder = newest
    state = read_object(folder / STATE)
    if (folder / "config.yaml").exists():
        check_same_config(run.path, run.config, load_config(folder / "config.yaml"))
    run.check_counted(state)
    for name, learner in learners.items():
        learner.load(folder / name)
        learner.version = int(state["versions"][name])
        learner.restore_state(load_state(folder / name / "learner.safetensors"))
        load_optimizer(folder / name / "optimizer.safetensors", learner.optimizer)
    restore_random_state(load_state(folder / "random.safetensors"))
    run.truncate_after(number - 1)
    return number


def broadcast_learners(learners: dict[str, Learner], ranks: ProcessGroup) -> None:
    """Give all ranks the first one's learners: weights, optimizers, states and versions."""
    if ranks.size == 1:
        return
    for learner in learners.values():
        own = {
            "adapter": {name: weight.data for name, weight in learner.parameters.items()},
            "optimizer": learner.optimizer.state_dict(),
            "state": learner.state(),
            "version": learner.version,
        }
        given = from_arrays(ranks.broadcast(to_arrays(own)))
        if ranks.first:
            continue
        for name, weight in learner.parameters.items():
            weight.data.copy_(given["adapter"][name])
        learner.optimizer.load_state_dict(given["optimizer"])
        learner.restore_state(given["state"])
        learner.version = int(given["version"])


def check_same_learners(learners: dict[str, Learner], ranks: ProcessGroup) -> None:
    """Raises `WorkError` unless all ranks have the same weights, bit for bit."""
    if ranks.size == 1:
        return
    first, *others = ranks.gather({name: _checksum(one) for name, one in learners.items()})
    for rank, found in enumerate(others, start=1):
        for name in first:
            if found[name] != first[name]:
                error = WorkError(
                    f"learner {name!r} on rank {rank} differs from that on rank 0, so no "
                    "checkpoint was written; use the same hardware and libraries for all ranks, "
                    "and continue from the last checkpoint with --resume"
                )
                error.shared = True
                raise error


def _checksum(learner: Learner) -> str:
    """A hash of the learner's weights and of its state besides the optimizer."""
    weights = {name: weight.data for name, weight in learner.parameters.items()}
    found = hashlib.sha256()
    for name, array in to_arrays([weights, learner.state()]).items():
        found.update(name.encode() + array.tobytes())
    return found.hexdigest()
