"""A study's jobs on SLURM: which there are, and how they stand in SLURM's queue.

submitit asks `sacct` how its jobs stand. That needs an accounting database, which many clusters
lack; without it submitit waits forever for a job that was cancelled or killed. `squeue` is on every
cluster and knows why a job waits. A `JobQueue` takes the place of submitit's watcher of jobs.
"""

import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from comity.errors import ComityError, one_line
from comity.runs.progress import say

CHOICE = "hydra/launcher=submitit_slurm"
"""The override that chooses SLURM's jobs."""
RECORD = "slurm-jobs.txt"
"""File with the ids of all jobs that were submitted for a study, one per line."""
OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "REVOKED"),
    "TIMEOUT",
}
"""States of jobs that have ended. Jobs that were preempted, or lost their node, may start again."""
LEFT = "no longer known to SLURM"
"""State of a job that ended minutes ago: SLURM forgets it (`MinJobAge`)."""
SOONEST, LATEST = 2.0, 30.0
"""Seconds between two questions to SLURM: few at first, more for long jobs."""


@dataclass(frozen=True)
class Standing:
    """How a job stands: SLURM's name of its state, and why it waits or how it ended."""

    state: str
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the job has ended for good."""
        return self.state in OVER or self.state == LEFT


def ask_queue() -> dict[str, Standing] | None:
    """This user's jobs by id (`12`; `12_3` in an array), some minutes past their end.

    None: SLURM does not answer, or there is no SLURM.
    """
    command = [
        *("squeue", "--user", str(os.getuid()), "--states", "all", "--array", "--noheader"),
        *("--format", "%i|%T|%r"),
    ]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if found.returncode != 0:
        return None
    fields = [line.split("|") for line in found.stdout.splitlines() if line.count("|") == 2]
    return {job.strip(): Standing(state.strip(), why.strip()) for job, state, why in fields}


class JobQueue:
    """Jobs in SLURM's queue, with the methods of submitit's `InfoWatcher` that its jobs call."""

    def __init__(self, record: Path | None = None, jobs: Sequence[str] = ()) -> None:
        """`record`: file to which the ids of new jobs are added; `jobs`: ids of earlier ones."""
        self._record = record
        self._standing = dict.fromkeys(jobs, Standing("PENDING"))
        self._asked = float("-inf")
        self._began = time.monotonic()

    # Submitit's

    def register_job(self, job_id: str) -> None:
        """A job was submitted."""
        if job_id in self._standing:
            return
        self._standing[job_id] = Standing("PENDING")
        self._asked, self._began = float("-inf"), time.monotonic()
        if self._record is not None:
            with self._record.open("a") as file:
                file.write(f"{job_id}\n")

    def get_info(self, job_id: str, mode: str = "standard") -> dict[str, str]:
        """The state of a job; `mode`: as `update_if_long_enough` takes it."""
        self.update_if_long_enough(mode)
        one = self._standing.get(job_id)
        return {} if one is None else {"JobID": job_id, "State": one.state}

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """SLURM's name of a job's state."""
        return self.get_info(job_id, mode).get("State", "UNKNOWN")

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Whether a job has ended."""
        self.update_if_long_enough(mode)
        return job_id in self._standing and self._standing[job_id].is_over

    def update_if_long_enough(self, mode: str = "standard") -> None:
        """Asks SLURM, unless it was asked a moment ago; `mode`: force, standard or cache."""
        now = time.monotonic()
        patience = min(LATEST, max(SOONEST, (now - self._began) / 20))
        if mode == "force" or (mode == "standard" and now - self._asked >= patience):
            self.update()

    def update(self) -> None:
        """Asks SLURM."""
        # Known before the question, so that SLURM has them if they did not end.
        known = [job for job, one in self._standing.items() if not one.is_over]
        if not known:
            return
        found = ask_queue()
        self._asked = time.monotonic()
        if found is not None:
            self._standing.update({job: found.get(job, Standing(LEFT)) for job in known})

    # Ours

    @property
    def standing(self) -> Mapping[str, Standing]:
        """The jobs by id, as of the last question, without arrays as a whole."""
        arrays = {job.partition("_")[0] for job in self._standing if "_" in job}
        return {job: one for job, one in self._standing.items() if job not in arrays}

    @property
    def live(self) -> list[str]:
        """Ids of the jobs that wait or run, as of the last question."""
        return [job for job, one in self.standing.items() if not one.is_over]

    def describe(self) -> str:
        """How many jobs run and wait, and why; empty without jobs."""
        jobs = list(self.standing.values())
        running = sum(one.state in ("RUNNING", "COMPLETING") for one in jobs)
        waiting = [one for one in jobs if one.state not in ("RUNNING", "COMPLETING")]
        waiting = [one for one in waiting if not one.is_over]
        parts = [f"{running} running"] if running else []
        if waiting:
            reasons = Counter(one.reason for one in waiting if one.reason not in ("", "None"))
            why = f": {', '.join(reasons)}" if reasons else ""
            parts.append(f"{len(waiting)} queued{why}")
        return f"jobs: {', '.join(parts)}" if parts else ""

    def wait(self, have_done: Callable[[Sequence[int]], bool]) -> None:
        """Returns once all jobs have ended, or have done what they were for.

        `have_done`: whether the jobs at these places, which SLURM still has, have done it; asked as
        often as SLURM.
        """
        asked = self._asked
        while True:
            self.update_if_long_enough()
            places = [place for place, job in enumerate(self.standing) if job in self.live]
            if not places or (self._asked != asked and have_done(places)):
                return
            asked = self._asked
            time.sleep(min(1.0, SOONEST))


def earlier_jobs(folder: Path) -> JobQueue:
    """The jobs of a study's folder for jobs that an earlier command submitted and SLURM still has.

    None of them if this machine has no SLURM.
    """
    record = folder / RECORD
    text = record.read_text() if record.is_file() else ""
    jobs = [line for line in text.splitlines() if re.fullmatch(r"\d+(_\d+)?", line)]
    found = (ask_queue() or {}) if jobs else {}
    return JobQueue(jobs=[job for job in jobs if job in found and not found[job].is_over])


@contextmanager
def watched(launcher: Sequence[str], folder: Path | None = None) -> Iterator[JobQueue]:
    """The jobs that submitit starts on SLURM inside the block; none of other launchers.

    `launcher`: the overrides that choose one; `folder`: of a study, for what its launcher writes.
    """
    if CHOICE not in launcher:
        yield JobQueue()
        return
    from submitit.slurm.slurm import SlurmJob

    if folder is not None:
        folder.mkdir(exist_ok=True)
    queue = JobQueue(None if folder is None else folder / RECORD)
    before = SlurmJob.watcher
    SlurmJob.watcher = queue  # type: ignore[assignment]
    try:
        with _tasks_with_their_cpus(launcher):
            yield queue
    finally:
        SlurmJob.watcher = before


@contextmanager
def announced(queue: JobQueue, title: str) -> Iterator[None]:
    """Inside the block, a line says how the jobs stand whenever that has changed."""
    stop, told = Event(), ""

    def watch() -> None:
        nonlocal told
        while not stop.wait(1.0):
            if (now := queue.describe()) and now != told:
                say(f"{title}  {now}")
                told = now

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if queue.live:
            interrupt.add_note(f"{going_on(queue)}; continue each run with --resume")
        raise
    finally:
        stop.set()
        watcher.join()


def refusal(error: Exception) -> str:
    """Why sbatch did not take the jobs; empty for errors of another kind."""
    if type(error).__name__ not in ("FailedJobError", "FailedSubmissionError"):
        return ""
    why = one_line(error).replace("sbatch: error: ", "")[:300]
    return f"SLURM refused the jobs: {why}; change settings of hydra.launcher"


def failed_sweep(error: Exception, queue: JobQueue, launcher: Sequence[str]) -> str:
    """Why submitit gave up a sweep, in one line: its errors hold whole logs."""
    if CHOICE in launcher and not queue.standing and (why := refusal(error)):
        return why
    # The traceback of a job that raised, between two lines; the error is in its last one.
    _, _, trace = str(error).partition(" with trace:\n----")
    lines = [line for line in trace.partition("\n----")[0].splitlines() if ": " in line]
    why = lines[-1].partition(": ")[2] if lines else "it was ended from outside"
    states = [f"{job} {one.state}" for job, one in queue.standing.items() if one.is_over]
    states = [one for one in states if not one.endswith("COMPLETED")]
    which = f" (SLURM: {', '.join(states)})" if states else ""
    return f"a job of the sweep failed{which}: {why}; continue its run with: comity train --resume"


def going_on(queue: JobQueue) -> str:
    """What happens to the jobs when the command that waits for them ends."""
    return f"SLURM goes on with {counted(queue.live)}; to end them: {cancelling(queue.live)}"


def counted(jobs: Sequence[str]) -> str:
    """Their number: 1 job, 2 jobs."""
    return f"{len(jobs)} job{'s' if len(jobs) > 1 else ''}"


@contextmanager
def _tasks_with_their_cpus(launcher: Sequence[str]) -> Iterator[None]:
    """Inside the block, jobs are submitted with what gives their tasks all of `cpus_per_task`.

    Since SLURM 22.05 srun does not take this number from the job (its release notes), and submitit
    does not name it, so tasks could be bound to one CPU. The variable goes into the jobs'
    environment.
    """
    name, key = "SRUN_CPUS_PER_TASK", "hydra.launcher.cpus_per_task="
    given = [one.removeprefix(key) for one in launcher if one.startswith(key)]
    if name in os.environ or not given or not given[-1].isdecimal():
        yield
        return
    os.environ[name] = given[-1]
    try:
        yield
    finally:
        del os.environ[name]


def cancelling(jobs: Sequence[str]) -> str:
    """The command that ends jobs: an array as a whole."""
    return f"scancel {' '.join(dict.fromkeys(job.partition('_')[0] for job in jobs))}"


def check_slurm(launcher: Sequence[str]) -> None:
    """Raises `ComityError` if the launcher needs SLURM and its commands are not here."""
    commands = ("sbatch", "srun", "squeue")
    if CHOICE in launcher and any(shutil.which(one) is None for one in commands):
        raise ComityError(
            f"{CHOICE} needs SLURM's commands ({', '.join(commands)}), which are not on this "
            "machine; use a login node of the cluster, or hydra/launcher=joblib"
        )
