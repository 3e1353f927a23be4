"""Runs an experiment: one training run, or a study with its runs and its cross-play."""

from collections.abc import Sequence
from pathlib import Path

from comity.commands.study import run_study
from comity.config.schema import Config
from comity.distributed.environment import alone, place, world_size
from comity.errors import ComityError
from comity.train import train


def run(config: Config, resume: Path | None = None, launcher: Sequence[str] = ()) -> Path:
    """Run an experiment, or resume one from its folder `resume`; returns the folder.

    With `config.study`, every arm is trained with every seed; with `config.crossplay`, a
    cross-play of the trained policies follows. `launcher`: overrides of a launcher of Hydra that
    trains a study's runs side by side.
    """
    if launcher and config.study is None:
        raise ComityError(
            f"{launcher[0]} is for the runs of a study, and {config.name} is one run; give seeds, "
            "as in 'study.seeds=[0,1,2]', or use --multirun"
        )
    if config.study is not None or config.crossplay is not None:
        if world_size() > 1:
            raise ComityError(
                f"{config.name} is a study of several runs, and ranks train one run; choose an arm "
                f"and a seed by overrides, or start {alone(place().launcher)} (with a launcher the "
                "runs are side by side: hydra/launcher=submitit_slurm)"
            )
        return run_study(config, resume, launcher)
    return train(config, resume)
