"""Runs an experiment: one training run, or a study with its runs and its cross-play."""

from pathlib import Path

from comity.commands.study import run_study
from comity.config.schema import Config
from comity.train import train


def run(config: Config, resume: Path | None = None) -> Path:
    """Run an experiment, or resume one from its folder `resume`; returns the folder.

    With `config.study`, every arm is trained with every seed; with `config.crossplay`, a
    cross-play of the trained policies follows.
    """
    if config.study is not None or config.crossplay is not None:
        return run_study(config, resume)
    return train(config, resume)
