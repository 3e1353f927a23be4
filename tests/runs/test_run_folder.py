"""Run folders: what is written can be read, by one writer at a time, after any kill."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comity.config.compose import compose, load_config
from comity.config.schema import Config
from comity.errors import ComityError, WorkError
from comity.runs.folder import (
    RunFolder,
    folder_name,
    read_conversations,
    read_decisions,
    read_metrics,
)
from tests.runs.rows import DECISION_ROW, TALK

ROOT = Path(__file__).parents[2]

HOLD = """
import sys, time
from comity.runs.folder import RunFolder
run = RunFolder.open(sys.argv[1])
print("holding", flush=True)
time.sleep(60)
"""

FULL_DISK = """
import resource, signal, sys
from comity.errors import WorkError
from comity.runs.folder import RunFolder, folder_name, read_metrics
run = RunFolder.open(sys.argv[1])
run.append_metrics({"iteration": 0})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    run.append_metrics({"iteration": 1, "much": list(range(1000))})
except WorkError as error:
    print(error)
"""

APPEND_FOREVER = """
import itertools, sys
from comity.runs.folder import RunFolder
run = RunFolder.open(sys.argv[1])
print("going", flush=True)
for iteration in itertools.count():
    run.append_metrics({"iteration": iteration, "filler": "x" * 2000})
"""


@pytest.fixture
def config() -> Config:
    return compose("smoke", ["reward=utilitarian", "seed=7"])


@pytest.fixture
def run(config: Config, tmp_path: Path) -> RunFolder:
    return RunFolder.create(config, tmp_path)


def start(program: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def test_a_new_run_holds_its_config_and_versions(run: RunFolder, config: Config) -> None:
    assert load_config(run.path / "config.yaml") == config
    versions = json.loads((run.path / "versions.json").read_text())
    assert versions["python"].startswith("3.")
    assert versions["torch"]
    assert versions["threads"] >= 1
    assert {"revision", "cpu", "gpu", "peft", "transformers", "numpy", "comity"} <= set(versions)


def test_folder_names_say_what_was_changed_and_are_unique(config: Config, tmp_path: Path) -> None:
    paths = [RunFolder.create(config, tmp_path).path for _ in range(3)]
    assert len(set(paths)) == 3
    for path in paths:
        assert path.name.startswith("smoke-reward-utilitarian-seed-7-20")


@pytest.mark.parametrize(
    ("overrides", "begins"),
    [
        ([], "ipd-seed-0-20"),
        (["output=x", "seed=2", "sinks=[]"], "ipd-seed-2-20"),
        (
            ["game/length=geometric", "game.noise=0.1"],
            "ipd-game-length-geometric-game.noise-0.1-seed",
        ),
        (["iterations=3", f"model.name=/{'x' * 80}"], "ipd-iterations-3-seed-0-20"),
        ([f"model.name=/{'x' * 99}", "game.noise=0.1"], "ipd-game.noise-0.1-seed-0-20"),
        (
            ["seats=[learner,{name: random, p: 0.3}]"],
            "ipd-seats-learner-name-random-p-0.3-seed-0-20",
        ),
    ],
)
def test_folder_names(overrides: list[str], begins: str) -> None:
    assert folder_name(compose("ipd", overrides)).startswith(begins)


def test_a_chosen_name_must_be_free(config: Config, tmp_path: Path) -> None:
    assert RunFolder.create(config, tmp_path / "own", name="seed-0").path == tmp_path / "own/seed-0"
    with pytest.raises(ComityError, match="seed-0 exists already"):
        RunFolder.create(config, tmp_path / "own", name="seed-0")


def test_a_folder_whose_maker_was_killed_is_not_taken(config: Config, tmp_path: Path) -> None:
    (tmp_path / "seed-0").mkdir()
    (tmp_path / "seed-0" / ".lock").touch()
    (tmp_path / "seed-0" / ".tmp-7-config.yaml").touch()
    assert RunFolder.create(config, tmp_path, name="seed-0").path == tmp_path / "seed-0"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(ComityError, match="other exists already"):
        RunFolder.create(config, tmp_path, name="other")


def test_a_folder_below_a_file_cannot_be_made(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match="cannot write"):
        RunFolder.create(config, tmp_path / "file")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComityError, match="there is no run folder"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(ComityError, match=r"is not a run: it holds no config\.yaml"):
        RunFolder.open(tmp_path)
    for content, complaint in [
        ("a: [", "not valid YAML"),
        ("- 1", "must be a mapping"),
        ("sed: 1", "unknown config key 'sed'; did you mean seed"),
        ("seed: x", "seed: 'x' is not a whole number"),
    ]:
        (tmp_path / "config.yaml").write_text(content)
        with pytest.raises(ComityError, match=complaint) as caught:
            RunFolder.open(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_run_of_another_config_is_refused(run: RunFolder, config: Config) -> None:
    run.close()
    other = compose("smoke", ["reward=own", "seed=7", "optimizer.learning_rate=0.1"])
    complaint = r"another config; it differs in optimizer\.learning_rate, reward\.name$"
    with pytest.raises(ComityError, match=complaint):
        RunFolder.open(run.path, other)
    moved = replace(config, output="elsewhere")
    assert RunFolder.open(run.path, moved).config == config


def test_metrics_come_back_and_what_is_not_finite_is_null(run: RunFolder) -> None:
    run.append_metrics({"iteration": 0, "a": np.float32(0.5), "b": [np.int64(1), float("inf")]})
    run.append_metrics({"iteration": 1, "c": {"CC": float("nan"), "x": np.arange(2)}})
    assert run.metrics() == [
        {"iteration": 0, "a": 0.5, "b": [1, None]},
        {"iteration": 1, "c": {"CC": None, "x": [0, 1]}},
    ]


def test_no_metrics_yet(run: RunFolder) -> None:
    assert run.metrics() == []


def test_every_cut_of_the_last_line_loses_that_line_only(run: RunFolder) -> None:
    for iteration in range(3):
        run.append_metrics({"iteration": iteration})
    run.close()
    path = run.path / "metrics.jsonl"
    content = path.read_bytes()
    second = content.index(b"\n", content.index(b"\n") + 1) + 1
    for cut in range(second, len(content)):
        path.write_bytes(content[:cut])
        assert [row["iteration"] for row in read_metrics(run.path)] == [0, 1]
        with RunFolder.open(run.path) as opened:
            opened.append_metrics({"iteration": 2})
        assert path.read_bytes() == content


def test_a_broken_line_in_the_middle_is_an_error(run: RunFolder) -> None:
    (run.path / "metrics.jsonl").write_text('{"iteration": 0}\n{"itera\n{"iteration": 2}\n')
    with pytest.raises(
        ComityError, match=r"metrics\.jsonl is damaged: line 2 is not a line of metrics"
    ):
        read_metrics(run.path)


def test_a_full_disk_loses_no_finished_line(run: RunFolder) -> None:
    run.close()
    done = start(FULL_DISK, run.path)
    output, _ = done.communicate(timeout=60)
    assert done.returncode == 0
    assert "metrics.jsonl: File too large" in output
    assert (run.path / "metrics.jsonl").read_text() == '{"iteration": 0}\n'


def test_records_are_written_by_iteration(run: RunFolder) -> None:
    decisions = run.write_decisions(3, [DECISION_ROW])
    conversations = run.write_conversations(3, [TALK])
    assert decisions == run.path / "decisions" / "000003.parquet"
    assert conversations == run.path / "conversations" / "000003.parquet"
    assert read_decisions(decisions)[0].tokens == DECISION_ROW.tokens
    assert read_conversations(conversations) == [TALK]


def test_truncating_forgets_later_iterations_only(run: RunFolder) -> None:
    for iteration in range(4):
        run.append_metrics({"iteration": iteration})
        run.write_decisions(iteration, [])
        run.write_conversations(iteration, [])
    (run.path / "decisions" / "²").with_suffix(".parquet").write_bytes(b"no number of ours")
    run.truncate_after(1)
    (run.path / "decisions" / "²").with_suffix(".parquet").unlink()
    assert [row["iteration"] for row in run.metrics()] == [0, 1]
    for kind in ("decisions", "conversations"):
        kept = sorted(path.name for path in (run.path / kind).iterdir())
        assert kept == ["000000.parquet", "000001.parquet"]
    run.truncate_after(-1)
    assert run.metrics() == []


def test_opening_removes_what_a_killed_writer_left(run: RunFolder) -> None:
    run.write_decisions(0, [])
    (run.path / "decisions" / ".tmp-9-000001.parquet").write_bytes(b"half")
    run.close()
    RunFolder.open(run.path).close()
    assert [path.name for path in (run.path / "decisions").iterdir()] == ["000000.parquet"]


def test_a_second_writer_is_refused_in_the_same_process(run: RunFolder) -> None:
    with pytest.raises(ComityError, match=rf"another process \(id {os.getpid()}\)"):
        RunFolder.open(run.path)
    run.close()
    run.close()
    RunFolder.open(run.path).close()


def test_the_lock_of_a_killed_process_is_harmless(run: RunFolder) -> None:
    run.close()
    holder = start(HOLD, run.path)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        with pytest.raises(ComityError, match=rf"being written by .* \(id {holder.pid}\)"):
            RunFolder.open(run.path)
    finally:
        holder.kill()
        holder.communicate()
    assert holder.returncode == -signal.SIGKILL
    RunFolder.open(run.path).close()


def test_a_kill_while_metrics_are_appended(run: RunFolder) -> None:
    run.close()
    writer = start(APPEND_FOREVER, run.path)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "going\n"
    while len(read_metrics(run.path)) < 5:  # A reader beside the writer meets no half lines.
        pass
    writer.kill()
    writer.communicate()
    with RunFolder.open(run.path) as opened:
        count = len(opened.metrics())
        opened.append_metrics({"iteration": count, "filler": ""})
        assert [row["iteration"] for row in opened.metrics()] == list(range(count + 1))


def test_an_interrupt_carries_the_way_to_continue(run: RunFolder) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, run:
        raise KeyboardInterrupt
    assert caught.value.__notes__ == [f"continue with: comity train --resume {run.path}"]
