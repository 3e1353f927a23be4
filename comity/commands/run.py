"""Runs an experiment: one training, or a study with all of its runs and its cross-play."""

from pathlib import Path

from comity.commands.study import run_study
from comity.config.schema import Config
from comity.train import train


def run(config: Config, resume: Path | None = None) -> Path:
    """Run an experiment, or continue one from its folder `resume`; returns the folder.

    With `config.study` set, every arm is trained with every seed, and the trained policies meet in
    the cross-play that `config.crossplay` describes.
    """
    if config.study is not None or config.crossplay is not None:
        return run_study(config, resume)
    return train(config, resume)
