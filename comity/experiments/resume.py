"""Writes checkpoints of a run and restores them."""

import json
import random
from pathlib import Path

import numpy as np
import torch

from comity.config.compose import load_config, to_yaml
from comity.experiments.build import Experiment
from comity.files import write_atomically
from comity.games.randomness import TORCH, generator
from comity.learning.learner import Learner
from comity.learning.state.checkpoints import Checkpoints
from comity.learning.state.exact_state import (
    load_optimizer,
    load_state,
    random_state,
    restore_random_state,
    save_optimizer,
    save_state,
)
from comity.runs.folder import RunFolder
from comity.runs.provenance import check_same_config
from comity.safe_reading import read_object


def seed_libraries(seed: int, iteration: int) -> None:
    """Seeds the global generators of torch, NumPy and Python, which libraries may use.

    Comity itself uses `comity.games.randomness`, except for torch's dropout.
    """
    rng = generator(seed, TORCH, iteration)
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
    write_atomically(folder / "state.json", json.dumps(state, indent=2) + "\n")


def restore(run: RunFolder, learners: dict[str, Learner], checkpoints: Checkpoints) -> int:
    """Restore the learners from the run's newest valid checkpoint; returns the next iteration.

    Raises `ComityError` if the config, the metrics or the records do not match the checkpoint.
    """
    newest = checkpoints.latest()
    if newest is None:
        run.truncate_after(-1)
        return 0
    number, folder = newest
    state = read_object(folder / "state.json")
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
