"""The runs of a study: one after another here, or side by side by a launcher of Hydra.

A launcher is one of Hydra's plugins: `joblib` (processes of this machine) or `submitit_slurm`
(jobs of a SLURM cluster; `submitit_local` is the same without one). A job is a run: it reads its
config from the study's `study.json`, trains or resumes the run in its folder and says whether it
failed. The process that launched the jobs waits for them. What is finished is not launched again.
"""

import importlib.util
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread

from hydra.types import RunMode
from omegaconf import DictConfig

from comity.config.schema import Config
from comity.errors import ComityError, WorkError, one_line
from comity.experiments.build import Experiment
from comity.experiments.study_configs import kept_configs
from comity.learning.state.checkpoints import Checkpoints
from comity.runs.folder import RunFolder, stored_config
from comity.runs.parent_process import end_with_parent
from comity.runs.progress import Progress, Task
from comity.runs.provenance import located
from comity.train import train_run

Arms = dict[str, dict[int, Path]]
"""Run folders by arm and seed."""

JOBS = ".jobs"
"""Folder of a study for what the launcher writes."""
POLL = 1.0
"""Seconds between counts of the finished iterations."""


def title_of(arm: str, seed: int) -> str:
    """A run's name for people."""
    return f"{arm} seed {seed}"


def iterations_done(run: Path) -> int:
    """Iterations at the newest valid checkpoint of a run; 0 if there is none."""
    if not (run / "checkpoints").is_dir():
        return 0
    newest = Checkpoints(run / "checkpoints").latest()
    return newest[0] if newest is not None else 0


def train_arm(config: Config, path: Path, title: str, progress: Progress, study: Path) -> None:
    """Train or resume one arm with one seed; a finished run is skipped."""
    if (path / "config.yaml").is_file():
        run = RunFolder.open(path, config)
    else:
        run = RunFolder.create(config, root=path.parent, name=path.name)
    with run:
        if is_finished(run.path, config):
            progress.say(f"{title}  already finished")
            return
        with Experiment(located(config, run.path, study)) as experiment:
            train_run(run, experiment, progress, title)


def is_finished(run: Path, config: Config) -> bool:
    """Whether all iterations of a run are recorded and in its last checkpoint."""
    return _recorded(run) == config.iterations == iterations_done(run)


def _recorded(run: Path) -> int:
    """Complete lines in a run's metrics."""
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


@dataclass(frozen=True)
class Failure:
    """How a job failed, in words that can be sent between processes."""

    title: str
    text: str
    exit_code: int


def train_side_by_side(
    folder: Path,
    configs: Mapping[str, Mapping[int, Config]],
    arms: Arms,
    launcher: Sequence[str],
    progress: Progress,
) -> None:
    """Train all unfinished runs of a study by a launcher, and wait for them.

    `launcher`: overrides that choose Hydra's launcher and set its parameters. Raises the first
    failure with the number of failures, after all jobs have ended.
    """
    every = [(arm, seed) for seed in _seeds(arms) for arm in arms if seed in arms[arm]]
    unfinished = [
        (arm, seed) for arm, seed in every if not is_finished(arms[arm][seed], configs[arm][seed])
    ]
    if len(unfinished) < len(every):
        progress.say(f"{len(every) - len(unfinished)} of {len(every)} runs already finished")
    if not unfinished:
        return
    total = sum(configs[arm][seed].iterations for arm, seed in every)
    with progress.task("whole study", total) as task, _counting(task, arms):
        try:
            results = _launch(folder, [f"{arm}/seed-{seed}" for arm, seed in unfinished], launcher)
        except ComityError:
            raise
        except Exception as error:  # Of a plugin: every launcher has errors of its own.
            raise WorkError(
                f"a job of the launcher was ended from outside, or could not start "
                f"({type(error).__name__}: {one_line(error)[:160]}); continue with: "
                f"{RunFolder.resuming(folder)} {shlex.join(launcher)}"
            ) from error
    failures = [one for one in results if one is not None]
    if not failures:
        return
    first = failures[0]
    kind = WorkError if first.exit_code == WorkError.exit_code else ComityError
    raise kind(f"{len(failures)} of {len(unfinished)} runs failed; {first.title}: {first.text}")


def _seeds(arms: Arms) -> list[int]:
    """All seeds, in order: a study that is stopped has complete seeds."""
    return list(dict.fromkeys(seed for runs in arms.values() for seed in runs))


@contextmanager
def _counting(task: Task, arms: Arms) -> Iterator[None]:
    """Inside the block, the task shows the iterations that all runs have recorded."""
    stop, seen = Event(), 0

    def count() -> None:
        nonlocal seen
        now = sum(_recorded(run) for runs in arms.values() for run in runs.values())
        # A resumed run drops what came after its checkpoint.
        if now > seen:
            task.add(now - seen)
            seen = now

    def watch() -> None:
        while not stop.wait(POLL):
            count()

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        count()


def _launch(folder: Path, runs: Sequence[str], launcher: Sequence[str]) -> list[Failure | None]:
    """Run one job for each run folder by Hydra's launcher; how each ended."""
    from comity.config.sources import beside_hydra, new_hydra

    jobs = str(folder.absolute() / JOBS).replace("\\", "\\\\").replace("'", "\\'")
    given = [
        "hydra.mode=MULTIRUN",
        f"hydra.sweep.dir='{jobs}'",
        "hydra.sweep.subdir=.",
        "hydra.output_subdir=null",
        "hydra.job.chdir=false",
        "hydra.job.name=comity",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
        *launcher,
        f"+run={','.join(repr(run) for run in runs)}",
    ]
    task = partial(train_job, folder=str(folder.absolute()), parent=os.getpid())
    with beside_hydra():
        batches = new_hydra(None).multirun(None, task, given, with_log_configuration=False)
    return [job.return_value for batch in batches for job in batch]


def train_job(tree: DictConfig, folder: str, parent: int) -> Failure | None:
    """One job: train or resume the run `tree.run` of the study in `folder`.

    `parent`: id of the process that launched it. Returns what a user can fix instead of raising
    it, because launchers print whatever is raised in words of their own.
    """
    end_with_parent(parent)
    study, name = Path(folder), str(tree.run)
    arm, _, seed = name.rpartition("/seed-")
    title = title_of(arm, int(seed))
    try:
        configs = kept_configs(study, stored_config(study))
        if configs is None:
            raise ComityError(f"{study / 'study.json'} has no configs of runs")
        quiet = os.getpid() != parent
        with Progress(quiet=quiet) as progress:
            train_arm(configs[arm][int(seed)], study / name, title, progress, study)
    except ComityError as error:
        return Failure(title, str(error), error.exit_code)
    except Exception as error:
        return Failure(title, f"{type(error).__name__}: {one_line(error)}", WorkError.exit_code)
    return None


PLUGINS = {
    "joblib": ("hydra_joblib_launcher", "joblib"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_submitit_launcher", "slurm"),
}
"""Launchers with their package below `hydra_plugins` and the extra that installs it."""


def split_launcher(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides that choose and set a launcher, and the others.

    Raises `ComityError` for a launcher that is unknown or not installed, and for parameters that
    it does not have.
    """
    chosen = [one for one in overrides if one.startswith("hydra/launcher=")]
    given = [one for one in overrides if one.startswith("hydra.launcher.")]
    if given and not chosen:
        raise ComityError(f"{given[0]} sets a launcher; choose one: hydra/launcher=joblib")
    for one in chosen:
        check_launcher(one.partition("=")[2])
    if chosen:
        check_settings([*chosen, *given])
    others = [one for one in overrides if one not in chosen and one not in given]
    return [*chosen, *given], others


def check_launcher(name: str) -> None:
    """Raises `ComityError` for a known launcher whose plugin is not installed."""
    package, extra = PLUGINS.get(name, ("", ""))
    if not package:
        return
    try:
        found = importlib.util.find_spec(f"hydra_plugins.{package}")
    except ModuleNotFoundError:  # There are no plugins at all.
        found = None
    if found is None:
        raise ComityError(
            f"hydra/launcher={name} is a plugin that is not installed; run: "
            f"{sys.executable} -m pip install 'comity[{extra}]'"
        )


def check_settings(launcher: Sequence[str]) -> None:
    """Raises `ComityError` for an unknown launcher, and for parameters that it does not have."""
    from comity.config.errors import plain_errors
    from comity.config.sources import beside_hydra, check_overrides, new_hydra

    with plain_errors(), beside_hydra():
        check_overrides(launcher, chooses=True)
        loader = new_hydra(None).config_loader
        loader.load_configuration(None, ["hydra.mode=MULTIRUN", *launcher], RunMode.MULTIRUN)
