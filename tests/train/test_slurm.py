"""Jobs and ranks on SLURM, without SLURM: its commands are small scripts, its variables are set."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import comity.commands.slurm_jobs as slurm_jobs
from comity.cli import main
from comity.commands.slurm_jobs import (
    CHOICE,
    JobQueue,
    Standing,
    ask_queue,
    earlier_jobs,
    failed_sweep,
)
from comity.commands.study_runs import JOBS
from comity.distributed.environment import Place, first_host, place
from comity.distributed.joining import bind_device, check_agreement
from comity.distributed.process_group import ProcessGroup
from comity.errors import ComityError
from tests.forked import Forked
from tests.train.small import metrics, only_folder, overrides
from tests.train.srun import ROOT, free_port, step
from tests.train.test_study_jobs import CHANGES

# Ranks


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_tasks_of_a_step_are_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, step(3, 4))
    assert place() == Place(3, 4, 1, "gpu003:12375", "srun")
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.3")
    monkeypatch.setenv("MASTER_PORT", "4000")
    assert place().address == "10.0.0.3:4000"


def test_torchrun_below_srun_numbers_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, step(1))
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    set_all(monkeypatch, {**torchrun, "MASTER_ADDR": "a", "MASTER_PORT": "1"})
    assert place() == Place(5, 8, 1, "a:1", "torchrun")


def test_a_job_script_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the job's number of tasks, but belongs to no step."""
    variables = step(0, SLURM_NTASKS=2)
    set_all(monkeypatch, {k: v for k, v in variables.items() if "_STEP_" not in k})
    assert place() == Place()


def test_a_step_of_one_task_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, step(0, 1))
    assert place() == Place()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu7", "gpu7"),
        ("gpu7,gpu9", "gpu7"),
        ("gpu[003-007,9],login", "gpu003"),
        ("a[12],b", "a12"),
        ("rack[2-3]n[01-04].site", "rack2n01.site"),
    ],
)
def test_the_first_host_of_a_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_a_command_for_one_process_says_how_to_start_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_all(monkeypatch, step(0))
    assert main(["list", "games"]) == 2
    assert capsys.readouterr().err.endswith("`comity list` with srun --ntasks 1\n")


def ranks_of_srun(*changes: Sequence[str]) -> list[tuple[int | None, str, str]]:
    """Exit codes and outputs of the tasks of a step that train `ipd`, each with its changes."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    tasks = [
        Forked(
            ["-m", "tests.train.rank_worker", json.dumps([given])],
            {**os.environ, **step(rank, len(changes)), **common},
            ROOT,
        )
        for rank, given in enumerate(changes)
    ]
    printed = [one.communicate(timeout=120) for one in tasks]
    return [(one.returncode, *texts) for one, texts in zip(tasks, printed, strict=True)]


@pytest.mark.slow
def test_srun_alone_starts_ranks(tmp_path: Path) -> None:
    changes = overrides(tmp_path, "iterations=1")
    assert [code for code, *_ in ranks_of_srun(changes, changes)] == [0, 0]
    (row,) = metrics(only_folder(tmp_path))
    assert row["ranks"]["count"] == 2


@pytest.mark.slow
def test_tasks_with_other_settings_are_no_ranks_of_one_run(tmp_path: Path) -> None:
    """As of `srun bash -c 'comity train ipd seed=$SLURM_PROCID'`, which means separate runs."""
    tasks = ranks_of_srun(*([*overrides(tmp_path), f"seed={seed}"] for seed in (0, 1)))
    for code, _, error in tasks:
        assert code == 1 and "ComityError: ranks train one run together" in error
        assert "other settings (seed: 0, seed: 1)" in error and "srun --ntasks 1" in error
    assert not list(tmp_path.iterdir())


# The queue


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what SLURM answers, question after question; the last answer stays."""

    def given(*found: dict[str, Standing] | None) -> None:
        left = list(found)
        monkeypatch.setattr(
            slurm_jobs, "ask_queue", lambda: left.pop(0) if len(left) > 1 else left[0]
        )
        monkeypatch.setattr(slurm_jobs, "SOONEST", 0.0)

    return given


RUNNING, CANCELLED = Standing("RUNNING"), Standing("CANCELLED")


def test_a_job_is_over_once_slurm_says_so_or_has_forgotten_it(
    answers: Callable[..., None], tmp_path: Path
) -> None:
    queue = JobQueue(tmp_path / "jobs")
    for job in ("7", "7_0", "7_1", "7_2"):  # submitit registers the array, too
        queue.register_job(job)
    waiting = Standing("PENDING", "Resources")
    answers({"7_0": RUNNING, "7_1": waiting, "7_2": Standing("CONFIGURING")}, None)
    assert not queue.is_done("7_0") and not queue.is_done("7_2")
    assert queue.describe() == "jobs: 1 running, 2 queued: Resources"
    # No answer of SLURM says nothing about the jobs.
    assert not queue.is_done("7_1", "force")
    answers({"7_0": Standing("PREEMPTED"), "7_1": CANCELLED})
    assert not queue.is_done("7_0", "force")
    assert queue.get_state("7_1") == "CANCELLED" and queue.is_done("7_2")
    assert queue.live == ["7_0"]
    assert (tmp_path / "jobs").read_text().split() == ["7", "7_0", "7_1", "7_2"]


def test_a_job_that_has_done_its_work_is_not_waited_for(answers: Callable[..., None]) -> None:
    queue = JobQueue(jobs=["7_0", "7_1"])
    answers({"7_0": CANCELLED, "7_1": RUNNING})
    asked: list[list[int]] = []

    def have_done(places: Sequence[int]) -> bool:
        asked.append([*places])
        return len(asked) == 2

    queue.wait(have_done)
    assert asked == [[1], [1]] and queue.live == ["7_1"]


def commands(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Scripts of these names, before others on the path."""
    folder.mkdir()
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_the_queue_is_read_as_squeue_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "5_0|RUNNING|None\\n12|PENDING|Resources\\n"
    commands(tmp_path / "bin", monkeypatch, squeue=f"printf '{lines}'")
    expected = {"5_0": Standing("RUNNING", "None"), "12": Standing("PENDING", "Resources")}
    assert ask_queue() == expected
    (tmp_path / JOBS).mkdir()
    (tmp_path / JOBS / slurm_jobs.RECORD).write_text("5\n5_0\n5_1\n--me\n")
    assert earlier_jobs(tmp_path / JOBS).live == ["5_0"]
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexit 1\n")
    assert ask_queue() is None and earlier_jobs(tmp_path / JOBS).live == []


# Studies


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cluster whose jobs are all cancelled before they begin; the folder of its scripts."""
    from submitit.slurm.slurm import SlurmJob

    folder = tmp_path / "bin"
    commands(
        folder,
        monkeypatch,
        sbatch=f"cp $1 {folder}/job; echo Submitted batch job 7",
        srun="exit 1",
        sacct="echo Slurm accounting storage is disabled >&2; exit 1",
        squeue="printf '7_%s|CANCELLED|None\\n' 0 1 2 3",
    )
    monkeypatch.setattr(SlurmJob, "_results_timeout_s", 0)
    watcher = SlurmJob.watcher
    yield folder
    assert SlurmJob.watcher is watcher


def test_the_jobs_of_a_study(
    launched: Path,
    tmp_path: Path,
    answers: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are refused; cancelled, on a cluster without accounting; the command is interrupted
    while they run; it is resumed while they run."""
    refuse = "echo 'sbatch: error: invalid partition specified: gpus' >&2; exit 1"
    accept = f"cp $1 {launched}/job; env > {launched}/env; echo Submitted batch job 7"
    (launched / "sbatch").write_text(f"#!/bin/sh\n{refuse}\n")
    given = overrides(tmp_path / "runs", *CHANGES, CHOICE, "hydra.launcher.partition=gpus")
    assert main(["train", "demo", *given]) == 1
    said = capsys.readouterr().err
    assert "comity: SLURM refused the jobs: invalid partition specified: gpus; change" in said
    folder = only_folder(tmp_path / "runs")

    # Submitit asks sacct, which fails without an accounting database, and would wait forever.
    (launched / "sbatch").write_text(f"#!/bin/sh\n{accept}\n")
    more = [f"hydra.launcher.{one}" for one in ("array_parallelism=2", "cpus_per_task=3")]
    assert main(["train", "--resume", str(folder), CHOICE, *more]) == 1
    *_, line = (said := capsys.readouterr().err).splitlines()
    assert "4 of 4 jobs ended before their runs were finished; own seed 0: job 7_0" in line
    assert f"CANCELLED; continue with: comity train --resume {folder} {CHOICE}" in line
    assert "sacct" not in said and "accounting" not in said
    assert "--array=0-3%2" in (launched / "job").read_text()
    assert "SRUN_CPUS_PER_TASK=3" in (launched / "env").read_text().splitlines()
    assert "SRUN_CPUS_PER_TASK" not in os.environ

    def interrupted(job: Any) -> None:
        job.watcher.is_done(job.job_id, "force")
        raise KeyboardInterrupt

    (launched / "sbatch").write_text("#!/bin/sh\necho Submitted batch job 8\n")
    (launched / "squeue").write_text("#!/bin/sh\nprintf '8_%s|RUNNING|None\\n' 0 1 2 3\n")
    with monkeypatch.context() as patch:
        patch.setattr("submitit.slurm.slurm.SlurmJob.results", interrupted)
        assert main(["train", "--resume", str(folder), CHOICE]) == 130
    *_, line = capsys.readouterr().err.splitlines()
    assert line == (
        f"comity: interrupted; continue with: comity train --resume {folder} {CHOICE} "
        "(SLURM goes on with 4 jobs; to end them: scancel 8)"
    )

    (launched / "sbatch").write_text(f"#!/bin/sh\n{refuse}\n")
    answers({"8_0": RUNNING, "8_3": RUNNING}, {"8_0": RUNNING}, {"8_0": CANCELLED})
    assert main(["train", "--resume", str(folder), CHOICE]) == 1
    said = capsys.readouterr().err
    assert "2 jobs of this study still in SLURM's queue; waiting for them (to end them: " in said
    assert said.index("waiting for them") < said.index("SLURM refused the jobs")


def test_a_sweep_whose_jobs_are_cancelled_ends_with_a_line(
    launched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = overrides(tmp_path / "runs", "seed=0,1,2,3", CHOICE)
    assert main(["train", "ipd", *given, "--multirun"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("comity: a job of the sweep failed (SLURM: 7_0 CANCELLED, 7_1 CANCELLED")
    assert "7_3 CANCELLED): it was ended from outside; continue" in line


def test_the_error_of_a_sweeps_job_is_found_in_its_traceback() -> None:
    trace = "Traceback (most recent call last):\n  File ...\ncomity.errors.WorkError: no memory\n"
    line = "-" * 22
    error = RuntimeError(
        f"Job (task=0) failed during processing with trace:\n{line}\n{trace}\n{line}"
    )
    assert ": no memory; continue" in failed_sweep(error, JobQueue(jobs=["7"]), [CHOICE])


@pytest.mark.parametrize(
    "command",
    [["train", "demo"], ["train", "ipd", "--multirun"], ["population", "1xUT_1xDE", "--multirun"]],
)
def test_jobs_of_a_cluster_need_its_commands(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    assert main([*command, CHOICE, f"output={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs SLURM's commands (sbatch, srun, squeue), which are not on this machine" in line


# GPUs


class Ranks(ProcessGroup):
    """Rank 1 of two; `gather` says that the other one is as given."""

    rank, size = 1, 2

    def __init__(self, other: Any) -> None:
        self.other = other

    def gather(self, value: Any) -> list[Any]:
        return [self.other, value]


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A process that sees one GPU; the numbers of the devices that it was set to."""
    used: list[int] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.set_device", used.append)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(uuid="GPU-1"))
    return used


def test_a_task_that_sees_its_own_gpu_only(
    one_gpu: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `srun --gpus-per-task 1`: it is number 0 to every task."""
    here = socket.gethostname()
    set_all(monkeypatch, step(1))
    bind_device("auto", Ranks(None))
    assert one_gpu == [0]
    check_agreement("", "auto", Ranks(("", (here, "GPU-0"))))
    check_agreement("", "auto", Ranks(("", ("elsewhere", "GPU-1"))))
    with pytest.raises(ComityError, match="ranks 0, 1 have the same GPU"):
        check_agreement("", "auto", Ranks(("", (here, "GPU-1"))))


def test_torchruns_ranks_share_no_gpu(one_gpu: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    set_all(monkeypatch, {**torchrun, "MASTER_ADDR": "a", "MASTER_PORT": "1"})
    with pytest.raises(ComityError, match="with 1 GPUs; start at most --nproc-per-node 1"):
        bind_device("auto", Ranks(None))
    assert not one_gpu
