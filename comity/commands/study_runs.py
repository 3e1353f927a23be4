"""The runs of a study: one after another here, or side by side by a launcher of Hydra.

A launcher is one of Hydra's plugins: `joblib` (processes of this machine) or `submitit_slurm`
(jobs of a SLURM cluster; `submitit_local` is the same without one). A job is a run: it reads its
config from the study's `study.json`, trains or resumes the run in its folder and says whether it
failed. The process that launched the jobs waits for them. What is finished is not launched again,
and jobs that an earlier command left in SLURM's queue are waited for first.
"""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread

from omegaconf import DictConfig

from comity.commands.slurm_jobs import (
    CHOICE,
    JobQueue,
    cancelling,
    counted,
    earlier_jobs,
    going_on,
    refusal,
    watched,
)
from comity.config.schema import Config
from comity.distributed.joining import bind_device, joined
from comity.errors import ComityError, WorkError, one_line
from comity.experiments.build import Experiment
from comity.experiments.rules import check_ranks
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
    """Train or resume one arm with one seed; a finished run is skipped.

    Ranks of a job (`tasks_per_node` of a SLURM launcher) train it together.
    """
    with ExitStack() as stack:
        ranks = stack.enter_context(joined())
        run: RunFolder | None = None
        with ranks.together():
            if ranks.first:
                run = stack.enter_context(_run_folder(config, path))
        if ranks.broadcast(run is not None and is_finished(run.path, config)):
            progress.say(f"{title}  already finished")
            return
        with ranks.together():
            check_ranks(config, ranks)
            bind_device(config.model.device, ranks)
            experiment = stack.enter_context(Experiment(located(config, path, study), ranks))
        ranks.use_device(experiment.engine.device)
        train_run(run, experiment, progress, title)


def _run_folder(config: Config, path: Path) -> RunFolder:
    """The folder of a run, new or to be continued."""
    if (path / "config.yaml").is_file():
        return RunFolder.open(path, config)
    return RunFolder.create(config, root=path.parent, name=path.name)


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
    can_go_on: bool = False
    """Whether the run was stopped only, and continues from its last checkpoint."""


def train_side_by_side(
    folder: RunFolder,
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
    unfinished = [every[place] for place in _places(every, configs, arms)]
    if len(unfinished) < len(every):
        progress.say(f"{len(every) - len(unfinished)} of {len(every)} runs already finished")
    if not unfinished:
        return
    total = sum(configs[arm][seed].iterations for arm, seed in every)
    again = f"{RunFolder.resuming(folder.path)} {shlex.join(launcher)}"
    names = [f"{arm}/seed-{seed}" for arm, seed in unfinished]
    with (
        progress.task("whole study", total) as task,
        watched(launcher, folder.path / JOBS) as jobs,
        _counting(task, arms, jobs.describe),
        _interruptible(folder, again, jobs),
    ):
        try:
            results = _launch(folder.path, names, launcher)
        except ComityError:
            raise
        except Exception as error:  # Of a plugin: every launcher has errors of its own.
            # SLURM can take minutes to notice that a job is gone whose run is finished.
            jobs.wait(lambda places: not {*places} & {*_places(unfinished, configs, arms)})
            left = _places(unfinished, configs, arms)
            if not left:
                return
            title = title_of(*unfinished[left[0]])
            raise WorkError(
                f"{_what_ended(error, title, left, jobs, launcher)}; continue with: {again}"
            ) from error
    failures = [one for one in results if one is not None]
    if not failures:
        return
    first = failures[0]
    kind = WorkError if first.exit_code == WorkError.exit_code else ComityError
    hint = f"; continue with: {again}" if first.can_go_on else ""
    what = f"{len(failures)} of {len(unfinished)} runs failed; {first.title}: {first.text}"
    raise kind(f"{what}{hint}")


def _places(
    runs: Sequence[tuple[str, int]], configs: Mapping[str, Mapping[int, Config]], arms: Arms
) -> list[int]:
    """Places of the unfinished ones in a list of runs."""
    return [
        place
        for place, (arm, seed) in enumerate(runs)
        if not is_finished(arms[arm][seed], configs[arm][seed])
    ]


def finish_earlier_jobs(
    folder: RunFolder,
    configs: Mapping[str, Mapping[int, Config]],
    arms: Arms,
    progress: Progress,
) -> None:
    """Wait for the jobs of this study that are still in SLURM's queue."""
    jobs = earlier_jobs(folder.path / JOBS)
    if not jobs.live:
        return
    progress.say(
        f"{counted(jobs.live)} of this study still in SLURM's queue; waiting for them "
        f"(to end them: {cancelling(jobs.live)})"
    )
    runs = [(arm, seed) for arm in configs for seed in configs[arm]]
    total = sum(configs[arm][seed].iterations for arm, seed in runs)
    with (
        progress.task("whole study", total) as task,
        _counting(task, arms, jobs.describe),
        _interruptible(folder, RunFolder.resuming(folder.path), jobs),
    ):
        jobs.wait(lambda _: not _places(runs, configs, arms))


@contextmanager
def _interruptible(folder: RunFolder, again: str, jobs: JobQueue) -> Iterator[None]:
    """An interrupt inside the block says what becomes of the jobs; `again`: how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        folder.resume_with = f"{again} ({going_on(jobs)})" if jobs.live else again
        raise


def _what_ended(
    error: Exception, title: str, left: Sequence[int], jobs: JobQueue, launcher: Sequence[str]
) -> str:
    """Why a launcher failed. `left`: places of unfinished runs; `title`: of the first one."""
    standing = list(jobs.standing.items())
    if standing:
        job, one = standing[left[0]]
        why = f" ({one.reason})" if one.reason not in ("", "None") else ""
        return (
            f"{len(left)} of {len(standing)} jobs ended before their runs were finished; {title}: "
            f"job {job} is {one.state}{why}"
        )
    if CHOICE in launcher and (why := refusal(error)):
        return why
    return (
        "a job of the launcher was ended from outside, or could not start "
        f"({type(error).__name__}: {one_line(error)[:160]})"
    )


def _seeds(arms: Arms) -> list[int]:
    """All seeds, in order: a study that is stopped has complete seeds."""
    return list(dict.fromkeys(seed for runs in arms.values() for seed in runs))


@contextmanager
def _counting(task: Task, arms: Arms, doing: Callable[[], str]) -> Iterator[None]:
    """Inside the block, the task shows the iterations that all runs have recorded.

    `doing`: how the jobs stand.
    """
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
            task.waiting(doing())

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
        text = f"{type(error).__name__}: {one_line(error)}"
        if type(error).__name__ == "UncompletedJobError":  # Submitit's, when SLURM's signal comes.
            text = "its job reached its time limit (hydra.launcher.timeout_min)"
            return Failure(title, text, WorkError.exit_code, can_go_on=True)
        return Failure(title, text, WorkError.exit_code)
    return None
