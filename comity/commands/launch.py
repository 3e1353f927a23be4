"""Launches experiments: one, or with `--multirun` a sweep by Hydra and its launchers.

Hydra's own error output and output folders are turned off. A job in another process (of a SLURM
launcher) raises its error there.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from comity.commands.slurm_jobs import announced, check_slurm, failed_sweep, watched
from comity.config.compose import (
    EXPERIMENT,
    AnyConfig,
    Composition,
    Kind,
    composed,
    register_schema,
    with_study,
)
from comity.config.errors import names_its_base, plain_errors
from comity.config.schema import Config
from comity.config.sources import beside_hydra, check_overrides, new_hydra
from comity.config.yaml_files import to_yaml
from comity.errors import ComityError, WorkError
from comity.runs.progress import say

QUIET = (
    "hydra.sweep.dir='${output}/.multirun/${now:%Y%m%d-%H%M%S}'",
    "hydra.sweep.subdir=.",
    "hydra.mode=MULTIRUN",
    "hydra.output_subdir=null",
    "hydra.job.chdir=false",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
)
"""Overrides that keep Hydra from writing folders and logs, except a sweep's multirun.yaml."""


@dataclass
class _Jobs:
    """Results of the jobs that ran in this process."""

    folders: list[Path] = field(default_factory=list)
    failures: list[tuple[list[str], Exception]] = field(default_factory=list)

    def done(self) -> list[Path]:
        """The run folders; raises the first failure, with the number of failures."""
        if not self.failures:
            return self.folders
        given, error = self.failures[0]
        count = len(self.failures) + len(self.folders)
        if count > 1 and isinstance(error, ComityError):
            text = f"{len(self.failures)} of {count} runs failed; {' '.join(given)}: {error}"
            raise type(error)(text) from error
        raise error


def start(
    name: str,
    overrides: list[str],
    multirun: bool,
    config_path: str | None,
    config_name: str | None,
    resume: Path | None,
    is_dry: bool = False,
) -> list[Path]:
    """Runs `comity train` with its arguments; returns the run folders.

    `is_dry`: print the plan only.
    """
    launcher: list[str] = []
    others = overrides
    if any(one.startswith(("hydra/launcher=", "hydra.launcher.")) for one in overrides):
        from comity.commands.launchers import split_launcher

        launcher, others = split_launcher(overrides)
        if not is_dry and not multirun:
            check_slurm(launcher)
    if not multirun:  # In a multirun, the launcher starts the combinations.
        overrides = others
    if resume is not None:
        if name or overrides or multirun or config_path or config_name:
            raise ComityError(
                "--resume uses the run's config; remove all other arguments (of a study, a "
                "launcher may be given: hydra/launcher=joblib)"
            )
        from comity.runs.folder import stored_config

        config = stored_config(resume)
        _say_loading(config)
        from comity.commands.run import run

        return [run(config, resume, launcher)]
    _check_named(name, overrides, config_path)
    return launch(
        dry_run if is_dry else partial(run_anew, launcher=() if multirun else launcher),
        name,
        overrides,
        multirun=multirun,
        config_dir=config_path,
        config_name=config_name,
    )


def show(
    name: str,
    overrides: list[str],
    config_path: str | None,
    config_name: str | None,
    whole: bool = False,
    measure: bool = True,
) -> None:
    """Runs `comity config`: prints the plan of an experiment, or with `whole` its config."""
    _check_named(name, overrides, config_path)

    def describe(config: Config) -> Path:
        if whole:
            print(to_yaml(config), end="")
            return Path(config.output)
        return dry_run(config, measure)

    launch(describe, name, overrides, config_dir=config_path, config_name=config_name)


def _check_named(name: str, overrides: Sequence[str], config_path: str | None) -> None:
    """Raises `ComityError` if no experiment is named."""
    if not name and config_path is None and not any("experiment=" in o for o in overrides):
        from comity.config.groups import options

        known = ", ".join(options("experiment"))
        raise ComityError(f"name an experiment: {known}; more in: comity list experiments")


def run_anew(config: Config, launcher: Sequence[str] = ()) -> Path:
    """Trains a new run; returns its folder. `launcher`: as `run` takes it."""
    # Imports torch, so only after the config was checked.
    _say_loading(config)
    from comity.commands.run import run

    return run(config, launcher=launcher)


def _say_loading(config: Config) -> None:
    """Prints that torch and transformers are loading, which takes seconds."""
    if sys.modules.get("comity.train") is None:
        say(f"{config.name}: loading torch ...")


def dry_run(config: Config, measure: bool = True) -> Path:
    """Prints what would run and, with `measure`, the estimated run time."""
    _say_loading(config)
    from comity.commands.plan import plan

    print("\n".join(plan(config, measure)))
    return Path(config.output)


def launch(
    train: Callable[[Config], Path],
    name: str = "",
    overrides: Sequence[str] = (),
    *,
    multirun: bool = False,
    config_dir: str | None = None,
    config_name: str | None = None,
) -> list[Path]:
    """Composes an experiment and calls `train`; see `launch_kind`."""
    return launch_kind(
        *(EXPERIMENT, train, name, overrides),
        multirun=multirun,
        config_dir=config_dir,
        config_name=config_name,
    )


def launch_kind(
    kind: Kind[AnyConfig],
    train: Callable[[AnyConfig], Path],
    name: str = "",
    overrides: Sequence[str] = (),
    *,
    multirun: bool = False,
    config_dir: str | None = None,
    config_name: str | None = None,
) -> list[Path]:
    """Composes a config and calls `train`, once or for every combination of a multirun.

    `train` returns the run's folder. `name` is a preset of the kind (an experiment). With
    `config_dir`, `config_name` (or else `name`) is the user's file in it. Returns the run folders.
    Raises a one-line `ComityError`; in a multirun, the first failure after all jobs were run.
    """
    if config_name is not None and config_dir is None:
        raise ComityError("--config-name needs --config-path, the folder of the file")
    if config_dir is not None:
        config_dir = str(Path(config_dir).absolute())
        primary = config_name or name
        if not primary:
            raise ComityError("--config-path needs --config-name, a file in that folder")
        if not Path(config_dir).is_dir():
            raise ComityError(f"there is no folder {config_dir}")
        preset = name if config_name else ""
    else:
        primary, preset = kind.primary, name
    chosen = [f"{kind.group}={preset}"] if preset else []
    register_schema(config_dir)
    with names_its_base(config_dir, primary, kind.primary):
        with plain_errors():
            check_overrides(overrides, chooses=multirun)
        if multirun:
            check_slurm(overrides)
            return _sweep(kind, train, primary, chosen, overrides, config_dir)
        origin = Composition(
            primary if config_dir else name,
            [*(chosen if config_dir else []), *overrides],
            config_dir,
        )
        with plain_errors(schema=kind.schema):
            tree = composed(primary, [*chosen, *overrides], config_dir)
        config = kind.read(tree, origin)
    return [train(config)]


def _sweep(
    kind: Kind[AnyConfig],
    train: Callable[[AnyConfig], Path],
    primary: str,
    chosen: Sequence[str],
    overrides: Sequence[str],
    config_dir: str | None,
) -> list[Path]:
    """One run for every combination of the overrides, started by Hydra's launcher."""
    jobs = _Jobs()
    parent = os.getpid()

    def task(tree: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        given: Any = OmegaConf.to_container(HydraConfig.get().overrides.task)
        try:
            if config_dir is None:
                name = "".join(one.removeprefix(f"{kind.group}=") for one in chosen)
                origin = Composition(name, [o for o in given if o not in chosen])
            else:
                origin = Composition(primary, given, config_dir)
            jobs.folders.append(train(kind.read(tree, origin)))
        except Exception as error:
            if os.getpid() != parent:
                raise
            # Raised into Hydra, it would be printed twice.
            jobs.failures.append((given, error))

    with (
        plain_errors(schema=kind.schema),
        beside_hydra(),
        watched(overrides) as queue,
        announced(queue, "sweep"),
    ):
        try:
            new_hydra(config_dir).multirun(
                *(primary, task, [*QUIET, *chosen, *with_study(overrides)]),
                with_log_configuration=False,
            )
        except Exception as error:
            if not type(error).__module__.startswith("submitit"):
                raise
            queue.wait(lambda _: False)
            raise WorkError(failed_sweep(error, queue, overrides)) from error
    return jobs.done()
