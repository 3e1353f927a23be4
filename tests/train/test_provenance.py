"""What a run was made with is stored, compared when it goes on, and found where it was moved."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comity.cli import main
from comity.commands.run import run as run_experiment
from comity.config.compose import load_config
from comity.config.schema import Config
from comity.errors import ComityError, ComityWarning
from comity.experiments.backends import shared_engine
from comity.experiments.trained import trained_policies
from comity.reports import build
from comity.rollout.record_files import decision_table, read_decisions, write_table
from comity.runs.folder import stored_config
from comity.runs.provenance import command
from comity.train import train
from tests.tiny import make_tiny
from tests.train.small import metrics, overrides, small
from tests.worlds import tiny_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 iterations, with checkpoints after 2 and 4."""
    return train(small(tmp_path_factory.mktemp("runs")), report=False)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def go_on(run: Path) -> Path:
    return run_experiment(stored_config(run), resume=run)


# What is compared when a run goes on


def edit(key: str, old: str, new: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        text = (run / "config.yaml").read_text()
        assert f"{key}: {old}\n" in text
        (run / "config.yaml").write_text(text.replace(f"{key}: {old}\n", f"{key}: {new}\n"))

    return change


def without_line(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([lines[0], *lines[2:]]))


def other_line(run: Path) -> None:
    text = (run / "metrics.jsonl").read_text()
    place = text.index('"payoff": ') + len('"payoff": ')
    (run / "metrics.jsonl").write_text(text[:place] + "9" + text[place + 1 :])


def without_metrics(run: Path) -> None:
    (run / "metrics.jsonl").unlink()


def without_record(run: Path) -> None:
    (run / "decisions/000001.parquet").unlink()


def swapped_records(run: Path) -> None:
    shutil.copy(run / "conversations/000000.parquet", run / "conversations/000001.parquet")


def rewritten_record(run: Path) -> None:
    path = run / "decisions/000000.parquet"
    decisions = read_decisions(path)
    decisions[0].move_name = "defect"
    write_table(path, decision_table(decisions))


CHANGES = {
    "seed": (edit("seed", "0", "1"), r"seed \(1, was 0\)"),
    "learning rate": (
        edit("  learning_rate", "0.01", "0.02"),
        r"optimizer\.learning_rate \(0\.02, was 0\.01\)",
    ),
    "fewer iterations": (edit("iterations", "4", "3"), "iterations"),
    "a game's parameter": (edit("    rounds", "2", "3"), r"game\.length\.rounds"),
    "a lost line": (without_line, "metrics.jsonl has 3 lines instead of 4"),
    "a changed line": (other_line, "metrics.jsonl has other lines"),
    "no metrics": (without_metrics, "metrics.jsonl has 0 lines instead of 4"),
    "a lost record": (without_record, "decisions/000001.parquet is missing"),
    "another record": (swapped_records, "conversations/000001.parquet is another file"),
    "a changed record": (rewritten_record, "decisions/000000.parquet is another file"),
}


@pytest.mark.parametrize("change", [*CHANGES])
def test_a_run_that_was_changed_does_not_go_on(change: str, run: Path) -> None:
    alter, complaint = CHANGES[change]
    alter(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(ComityError, match=complaint) as caught:
        go_on(run)
    assert "\n" not in str(caught.value)
    before.pop(run / ".lock")
    for path, content in before.items():
        assert path.read_bytes() == content


def test_damage_later_than_the_checkpoint_is_played_again(finished: Path, run: Path) -> None:
    shutil.rmtree(run / "checkpoints/000004")
    (run / "decisions/000003.parquet").write_bytes(b"broken")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([*lines[:2], "no metrics\n", lines[3]]))
    assert metrics(go_on(run)) == metrics(finished)
    assert read_decisions(run / "decisions/000003.parquet")


def test_more_iterations_and_other_places_are_no_change(run: Path) -> None:
    edit("iterations", "4", "5")(run)
    edit("  every", "2", "1")(run)
    assert len(metrics(go_on(run))) == 5


# What a page is made of


def renamed_cooperation(run: Path) -> None:
    path = run / "reference_policies.json"
    path.write_text(path.read_text().replace("0.0", "0.5", 1))


def without_last_decisions(run: Path) -> None:
    (run / "decisions/000003.parquet").unlink()


SHOWN = {
    **{name: change for name, change in CHANGES.items() if name != "fewer iterations"},
    "a lost record": (without_last_decisions, "decisions/000003.parquet is missing"),
    "other reference_policies": (
        renamed_cooperation,
        "reference_policies.json is missing or another file",
    ),
    "no reference_policies": (
        lambda run: (run / "reference_policies.json").unlink(),
        "reference_policies.json",
    ),
}


@pytest.mark.parametrize("change", [*SHOWN])
def test_a_page_shows_no_other_numbers_in_silence(change: str, run: Path) -> None:
    alter, complaint = SHOWN[change]
    alter(run)
    with pytest.raises(ComityError, match=complaint.partition(r" \(")[0]):
        build([run])
    assert not (run / "summary.json").exists()


def test_a_page_needs_no_conversations_and_not_every_checkpoint(run: Path) -> None:
    build([run])
    before = json.loads((run / "summary.json").read_text())
    shutil.rmtree(run / "conversations")
    flip(run / "checkpoints/000004/state.json")
    flip(run / "checkpoints/000002/random.safetensors")
    build([run])
    after = json.loads((run / "summary.json").read_text())
    assert after["policies"] == before["policies"]


@pytest.mark.parametrize(
    "ask",
    [go_on, trained_policies, lambda folder: build([folder])],
    ids=["resume", "evaluate", "report"],
)
def test_a_checkpoint_is_not_taken_for_a_run(ask: Callable[[Path], Any], run: Path) -> None:
    """It holds a config too: going on in it would begin a new run inside."""
    before = files(run)
    with pytest.raises(ComityError, match=r"is a checkpoint, not a run; name .*run$"):
        ask(run / "checkpoints/000004")
    assert files(run) == before


def test_a_study_that_was_changed_is_noticed(tmp_path: Path) -> None:
    changes = ["study.seeds=[0,1]", "iterations=1", "checkpoint.every=1"]
    study = run_experiment(small(tmp_path, *changes))
    kept = (study / "study.json").read_text()
    listed = json.loads(kept)
    listed["arms"]["ipd"].pop()
    (study / "study.json").write_text(json.dumps(listed))
    with pytest.raises(ComityError, match="lists other runs"):
        build([study])
    (study / "study.json").write_text(kept)
    # A run that is finished is not trained again, and so not compared there.
    other_line(study / "ipd/seed-1")
    with pytest.raises(ComityError, match=r"seed-1.*metrics.jsonl has other lines"):
        go_on(study)


def test_other_libraries_are_told_and_noted(run: Path) -> None:
    found = json.loads((run / "versions.json").read_text())
    (run / "versions.json").write_text(json.dumps({**found, "torch": "1.13"}))
    with pytest.warns(ComityWarning, match=r"from iteration 4 with torch .* instead of 1"):
        go_on(run)
    noted = json.loads((run / "versions.json").read_text())
    assert noted["torch"] == "1.13"
    assert noted["resumed"] == [{"iteration": 4, "changed": {"torch": ["1.13", found["torch"]]}}]


def test_a_lost_file_of_versions_is_told(run: Path) -> None:
    (run / "versions.json").unlink()
    page, _ = build([run])
    assert "has no versions.json" in page.read_text()
    with pytest.warns(ComityWarning, match=r"from iteration 4 without its versions\.json"):
        go_on(run)
    found = json.loads((run / "versions.json").read_text())
    assert found["command"].startswith("comity train ipd model.name=")
    (resumed,) = found["resumed"]
    assert resumed["iteration"] == 4 and resumed["changed"]["torch"] == [None, found["torch"]]
    page, _ = build([run])
    assert "has no versions.json" not in page.read_text()


def test_an_edited_config_is_not_evaluated_either(run: Path) -> None:
    edit("seed", "0", "1")(run)
    with pytest.raises(ComityError, match="seed"):
        trained_policies(run)


# What is stored


def test_versions_name_command_and_model(run: Path) -> None:
    found = json.loads((run / "versions.json").read_text())
    assert found["command"] == command(load_config(run / "config.yaml"))
    assert found["command"].startswith("comity train ipd model.name=")
    (model,) = found["models"].values()
    assert model["dtype"] == "float32" and model["device"] == "cpu"
    assert model["name"] == "llama" and model["weights"].startswith("sha256:")
    assert model["folder"] == str(tiny_folder("llama"))


def test_the_summary_says_where_its_numbers_come_from(run: Path) -> None:
    build([run])
    found = json.loads((run / "summary.json").read_text())["provenance"]
    (one,) = found["runs"]
    versions = json.loads((run / "versions.json").read_text())
    assert one["command"] == versions["command"] and one["checkpoint"] == 4
    assert found["versions"]["torch"] == versions["torch"]
    assert one["model"]["dtype"] == "float32" and one["model"]["weights"].startswith("sha256:")
    assert found["config"]["optimizer"]["learning_rate"] == 0.01
    assert one["config_differences"] == {}


def test_the_summary_of_several_runs_tells_them_apart(tmp_path: Path) -> None:
    one = train(small(tmp_path, "iterations=1"), report=False)
    other = train(small(tmp_path, "iterations=1", "reward=utilitarian"), report=False)
    _, numbers = build([one, other])
    found = json.loads(numbers.read_text())["provenance"]["runs"]
    assert found[0]["config_differences"] == {}
    assert found[1]["config_differences"]["reward.name"] == "utilitarian"


def files(run: Path) -> dict[str, bytes]:
    """What does not hold times."""
    timed = {"metrics.jsonl", "report.html", "summary.json", ".lock"}
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name not in timed
    }


def test_equal_runs_write_equal_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in a process of its own, because each orders sets of words in its own way."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    given = ["train", "ipd", *overrides(Path("runs"), "iterations=2")]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "comity", *given], cwd=tmp_path / "a", env=environment, check=True
    )
    monkeypatch.chdir(tmp_path / "b")
    np.random.seed(7)
    random.seed(7)
    assert main(given) == 0
    one, other = (files(next((tmp_path / name / "runs").iterdir())) for name in ("a", "b"))
    assert "checkpoints/000002/random.safetensors" in one
    assert "checkpoints/000002/main/adapter_config.json" in one
    assert sorted(one) == sorted(other)
    assert [name for name in one if one[name] != other[name]] == []


# Older checkpoints


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def unread(checkpoint: Path) -> list[Path]:
    """Files of a checkpoint that nobody needs who only answers."""
    return [
        path
        for path in checkpoint.rglob("*")
        if path.is_file()
        and path.name not in ("adapter_model.safetensors", "adapter_config.json", "base.json")
        and path.name != "manifest.json"
    ]


def test_damage_to_what_is_not_read_does_not_count(
    run: Path, recwarn: pytest.WarningsRecorder
) -> None:
    damaged = unread(run / "checkpoints/000004")
    assert {path.name for path in damaged} >= {"optimizer.safetensors", "random.safetensors"}
    for path in damaged:
        if path.name == "config.yaml":
            continue
        flip(path)
    (policy,) = trained_policies(run)
    assert policy.checkpoint.number == 4 and not policy.checkpoint.skipped
    assert not [one for one in recwarn if issubclass(one.category, ComityWarning)]


@pytest.mark.parametrize("file", ["main/adapter_model.safetensors", "main/adapter_config.json"])
def test_an_older_checkpoint_is_used_with_a_warning(
    file: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(run / "checkpoints/000004" / file)
    with pytest.warns(ComityWarning, match=rf"after 2 iterations are used: .*000004.*{file}"):
        (policy,) = trained_policies(run)
    assert policy.checkpoint.number == 2
    assert policy.adapter == run / "checkpoints/000002/main"
    assert file in policy.checkpoint.skipped[0]


# Moved and copied


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of the model "mine", both moved, and the working folder elsewhere."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    make_tiny("llama", tmp_path / "here/mine", seed=5)
    given = ["model.name=mine", "output=runs", "iterations=2", "checkpoint.every=1"]
    assert main(["train", "ipd", *overrides(Path("runs")), *given]) == 0
    (run,) = Path("runs").iterdir()
    shutil.rmtree(run / "checkpoints/000002")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shared_engine.cache_clear()
    return tmp_path / "there/runs" / run.name


def test_a_moved_run_finds_its_model(moved: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "here")
    before = (moved / "metrics.jsonl").read_text()
    go_on(moved)
    assert len(before.splitlines()) == 2
    rewards = [json.loads(line)["reward"] for line in before.splitlines()]
    assert [row["reward"] for row in metrics(moved)] == rewards
    assert stored_config(moved).model.name == "mine"


@pytest.mark.parametrize("ask", [go_on, trained_policies])
def test_a_model_that_is_gone_is_not_looked_for_elsewhere(
    ask: Callable[[Path], Any], moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: Any, **__: Any) -> None:
        raise AssertionError("asked for on the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    shutil.rmtree(tmp_path / "here")
    shutil.rmtree(tmp_path / "there/mine")
    with pytest.raises(ComityError, match="not there any more") as caught:
        ask(moved)
    assert "there/mine" in str(caught.value) and "here/mine" in str(caught.value)
    make_tiny("llama", tmp_path / "elsewhere/mine", seed=6)
    with pytest.raises(ComityError, match="holds others"):
        ask(moved)


def test_a_copied_study_needs_no_config_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "mine.yaml").write_text(
        "defaults: [config, _self_]\nname: mine\n"
        "study: {seeds: [0, 1], arms: {own: [reward=own], both: [reward=utilitarian]}}\n"
    )
    given = ["--config-path", str(configs), "--config-name", "mine"]
    changes = overrides(tmp_path / "runs", "iterations=1")
    assert main(["train", *given, *changes]) == 0
    (study,) = (tmp_path / "runs").iterdir()
    shutil.rmtree(configs)
    copy = Path(shutil.copytree(study, tmp_path / "copy"))
    shutil.rmtree(copy / "both/seed-1")
    go_on(copy)
    for name in ("own/seed-0", "both/seed-1"):
        assert load_config(copy / name / "config.yaml") == load_config(study / name / "config.yaml")
    edit("  learning_rate", "0.01", "0.02")(copy)
    with pytest.raises(ComityError, match=r"optimizer\.learning_rate"):
        go_on(copy)


def test_the_command_starts_the_same_run_again() -> None:
    config = Config()
    config.composition.name = "ipd"
    config.composition.overrides = ["seats=[learner, tit_for_tat]", "seed=1"]
    assert command(config) == "comity train ipd 'seats=[learner, tit_for_tat]' seed=1"
    config.composition.config_dir = "/a b"
    assert command(config).startswith("comity train --config-path '/a b' --config-name ipd ")


def test_random_damage_of_a_finished_run_never_goes_unnoticed(finished: Path, run: Path) -> None:
    """Of every file that a resumed run goes on from, a bit is flipped; equal numbers or a line."""
    rng = np.random.default_rng(3)
    expected = metrics(finished)
    chosen = [p for p in sorted(run.rglob("*")) if p.is_file() and p.suffix != ".html"]
    chosen = [
        p for p in chosen if p.name not in (".lock", "reference_policies.json", "versions.json")
    ]
    for path in rng.permutation(np.array(chosen, dtype=object))[:12]:
        sound = path.read_bytes()
        damaged = bytearray(sound)
        damaged[int(rng.integers(len(sound)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            go_on(run)
        except ComityError as error:
            assert "\n" not in str(error)
        else:
            assert metrics(run) == expected
        shutil.rmtree(run)
        shutil.copytree(finished, run)
