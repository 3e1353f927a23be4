"""The runs of a study side by side, by Hydra's launchers: the same numbers as one after another."""

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from joblib.externals.loky import get_reusable_executor

import comity.commands.study_runs
from comity.cli import main
from comity.commands.launchers import split_launcher
from comity.commands.study_runs import is_finished, train_job
from comity.errors import ComityError
from comity.runs.folder import stored_config
from tests.forked import Forked
from tests.train.small import metrics, only_folder, overrides
from tests.train.srun import ROOT, free_port, step

CHANGES = (
    "iterations=2",
    "matches=2",
    "study.seeds=[0,1]",
    "crossplay.players=[own,utilitarian]",
    "crossplay.matches=2",
)
RUNS = [f"{arm}/seed-{seed}" for arm in ("own", "utilitarian") for seed in (0, 1)]
LAUNCHERS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
}


def study(output: Path, *changes: str) -> list[str]:
    return ["train", "demo", *overrides(output, *CHANGES, *changes)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, its runs one after another."""
    output = tmp_path_factory.mktemp("studies")
    assert main(study(output)) == 0
    return only_folder(output)


def same_numbers(one: Path, other: Path) -> None:
    for run in RUNS:
        assert metrics(one / run) == metrics(other / run)
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (one, other)]
    for key in ("policies", "crossplay"):
        assert summaries[0][key] == summaries[1][key]


@pytest.mark.slow
def test_side_by_side_is_one_after_another(finished: Path, tmp_path: Path) -> None:
    assert main(study(tmp_path, *LAUNCHERS["joblib"])) == 0
    same_numbers(only_folder(tmp_path), finished)


@pytest.mark.slow
def test_a_stopped_study_goes_on_with_what_is_missing(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / RUNS[1])
    shutil.rmtree(folder / "crossplay")
    (folder / "report.html").unlink()
    kept = (folder / RUNS[0] / "metrics.jsonl").stat().st_mtime_ns
    assert main(["train", "--resume", str(folder), *LAUNCHERS["submitit_local"]]) == 0
    assert "3 of 4 runs already finished" in capsys.readouterr().err
    assert (folder / RUNS[0] / "metrics.jsonl").stat().st_mtime_ns == kept
    same_numbers(folder, finished)


@pytest.mark.slow
def test_a_run_that_fails_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A learning rate at which the weights overflow, in one arm.
    arms = "study={seeds:[0,1],arms:{wild:['optimizer.learning_rate=1e38'],tame:['reward=own']}}"
    given = overrides(tmp_path, *CHANGES[:2], arms)
    assert main(["train", "ipd", *given, *LAUNCHERS["joblib"]]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("comity: 2 of 4 runs failed; wild seed 0: weights of adapter 'main'")
    folder = only_folder(tmp_path)
    assert all(len(metrics(folder / f"tame/seed-{seed}")) == 2 for seed in (0, 1))
    assert not (folder / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_job_that_is_killed_ends_the_study_with_a_line(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """By SIGKILL, as by a system without memory; what is missing can be trained afterwards."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if {'joblib.externals.loky.backend.popen_loky_posix', 'submitit.core._submit'}"
        " & {*sys.orig_argv}:\n    os.kill(os.getpid(), 9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    # Workers of a study before would be used again.
    get_reusable_executor().shutdown(wait=True)
    assert main(study(tmp_path / "runs", *LAUNCHERS[launcher])) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("comity: a job of the launcher was ended from outside")
    folder = only_folder(tmp_path / "runs")
    assert f"comity train --resume {folder} hydra/launcher={launcher}" in error


def test_a_job_trains_the_run_that_it_is_given(finished: Path, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / RUNS[3])
    config = stored_config(finished / RUNS[3])
    assert not is_finished(folder / RUNS[3], config)
    assert train_job(OmegaConf.create({"run": RUNS[3]}), str(folder), 0) is None
    assert is_finished(folder / RUNS[3], config)
    assert metrics(folder / RUNS[3]) == metrics(finished / RUNS[3])


JOB = """
import sys
from omegaconf import OmegaConf
from comity.commands.study_runs import train_job
failure = train_job(OmegaConf.create({"run": sys.argv[2]}), sys.argv[1], 0)
print(failure)
"""


@pytest.mark.slow
def test_the_tasks_of_a_job_are_ranks_of_its_run(finished: Path, tmp_path: Path) -> None:
    """As of `hydra.launcher.tasks_per_node=2`."""
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / RUNS[3])
    port = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    tasks = [
        Forked(["-c", JOB, str(folder), RUNS[3]], {**os.environ, **step(rank), **port}, ROOT)
        for rank in range(2)
    ]
    assert [one.communicate(timeout=120)[0] for one in tasks] == ["None\n", "None\n"]
    assert is_finished(folder / RUNS[3], stored_config(finished / RUNS[3]))
    rows = metrics(folder / RUNS[3])
    assert [row["ranks"]["count"] for row in rows] == [2, 2]
    assert [row["outcomes"] for row in rows] == [
        row["outcomes"] for row in metrics(finished / RUNS[3])
    ]


def test_a_job_says_what_went_wrong_instead_of_raising_it(finished: Path, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    (folder / RUNS[0] / "config.yaml").write_text("nonsense")
    (folder / RUNS[0] / "metrics.jsonl").unlink()
    failure = train_job(OmegaConf.create({"run": RUNS[0]}), str(folder), 0)
    assert failure is not None and failure.title == "own seed 0"
    assert "config.yaml" in failure.text and failure.exit_code == 2


def test_a_job_at_its_time_limit_says_so(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Submitit raises an error of its own inside the job when SLURM's signal comes."""
    from omegaconf import OmegaConf
    from submitit.core.utils import UncompletedJobError

    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    (folder / RUNS[3] / "metrics.jsonl").unlink()

    def ended(*_: object) -> None:
        raise UncompletedJobError("Job not requeued because: timed-out too many times.")

    monkeypatch.setattr(comity.commands.study_runs, "train_arm", ended)
    failure = train_job(OmegaConf.create({"run": RUNS[3]}), str(folder), 0)
    monkeypatch.setattr(comity.commands.study_runs, "_launch", lambda *_: [failure])
    assert main(["train", "--resume", str(folder), *LAUNCHERS["submitit_local"]]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "1 of 1 runs failed; utilitarian seed 1: its job reached its time limit" in said
    assert f"continue with: comity train --resume {folder} hydra/launcher=submitit_local" in said


def test_a_study_whose_runs_are_all_finished_launches_nothing(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(*_: object) -> None:
        raise AssertionError("a job was launched")

    monkeypatch.setattr(comity.commands.study_runs, "_launch", launch)
    assert main(["train", "--resume", str(finished), "hydra/launcher=joblib"]) == 0


def test_overrides_of_the_launcher_are_told_from_the_experiments() -> None:
    given = ["seed=1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "matches=4"]
    assert split_launcher(given) == (given[1:3], ["seed=1", "matches=4"])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["hydra/launcher=joblob"], "unknown hydra/launcher 'joblob'; did you mean joblib"),
        (["hydra.launcher.n_jobs=2"], "choose one: hydra/launcher=joblib"),
        (["hydra/launcher=joblib", "hydra.launcher.jobs=2"], "hydra.launcher.jobs"),
        (["hydra/launcher=joblib", "hydra.launcher._target_=os.system"], "not allowed"),
        (["hydra/launcher=joblib", "hydra.run.dir=x"], "not allowed"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_made(
    given: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(study(tmp_path, *given)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("comity: ") and text in line
    assert not list(tmp_path.iterdir())


def test_a_launcher_needs_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ipd", *overrides(tmp_path), "hydra/launcher=joblib"]) == 2
    assert "'study.seeds=[0,1,2]'" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("launcher", "extra"), [("joblib", "joblib"), ("submitit_slurm", "slurm")])
@pytest.mark.parametrize("more", [[], ["--multirun"]])
def test_a_launcher_that_is_not_installed(
    launcher: str,
    extra: str,
    more: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    assert main([*study(tmp_path, f"hydra/launcher={launcher}"), *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"hydra/launcher={launcher} is a plugin that is not installed" in line
    assert line.endswith(f"-m pip install 'comity[{extra}]'")


def test_a_launcher_that_hydra_does_not_know_is_refused() -> None:
    with pytest.raises(ComityError, match="unknown hydra/launcher"):
        split_launcher(["hydra/launcher=nothing"])
