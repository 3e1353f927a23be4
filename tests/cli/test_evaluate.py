"""`comity evaluate generalization` on a run of a tiny model, and what it refuses."""

import json
import shlex
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import comity.commands.generalization
import comity.commands.generalization_plan
from comity.cli import main
from comity.commands.generalization import _left_out
from comity.commands.generalization_plan import GAMES, Options, make_plan
from comity.evaluation.generalization.questions import FRAMINGS, fitting
from comity.experiments.trained import trained_policies
from comity.rollout.record_files import checksum
from comity.train import train
from tests.train.small import only_folder, small


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    train(small(output, "iterations=1", "prompt=memory_one"))
    return only_folder(output)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model is a failure."""

    def load(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(comity.commands.generalization, "shared_engine", load)


def test_it_writes_numbers_a_table_and_a_page(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comity.commands.generalization_plan, "EPISODES", 2)
    arguments = ["--quick", "--games", "stag_hunt", "--seeds", "7"]
    assert main(["evaluate", "generalization", str(run), *arguments]) == 0
    assert str(run / "generalization.html") in capsys.readouterr().out
    numbers = json.loads((run / "generalization.json").read_text())
    assert numbers["policies"] == ["base", "ipd"]
    assert numbers["title"] == "Generalization of ipd", "not the folder with all its overrides"
    assert list(numbers["games"]) == ["stag_hunt"]
    assert sum(numbers["play"]["ipd"]["stag_hunt"]["strict"]["action_types"].values()) == 10
    rows = pq.read_table(run / "generalization.parquet").to_pylist()
    assert len(checksum(run / "generalization.parquet")) == 64
    assert len(rows) == numbers["questions"]
    assert {row["label_cooperate"] for row in rows} == {"action1", "action2", "action3", "A"}
    assert (run / "generalization.html").read_text().startswith("<!doctype html>")


def test_the_full_plan_has_six_games_and_random_labels() -> None:
    plan = make_plan(Options())
    assert tuple(plan.games) == GAMES and "random" in plan.label_sets
    assert len(plan.layouts) == 4 and len(plan.orders) == 2


@pytest.mark.parametrize(
    "options",
    [
        *(Options(tables=("mine=3,0,5,1",)), Options(seeds=(7,)), Options(labels=("AB",))),
        *(Options(goal="none"), Options(temperature=0.5), Options(penalty=4.0)),
    ],
)
def test_what_asks_other_things_than_a_full_evaluation_is_none(options: Options) -> None:
    assert options.extent == "chosen", "it would take the place of a full one"
    assert Options(opponents=("tit_for_tat",), both_seats=True).extent == "full"


def test_a_seed_that_is_given_twice_counts_once() -> None:
    assert make_plan(Options(seeds=(7, 8, 7))).play_seeds == (7, 8)


def test_the_command_of_an_evaluation_can_be_given_to_a_shell() -> None:
    goal = "Don't mind; $HOME"
    options = Options(tables=("my own=3,0,5,1",), goal=goal, games=("stag_hunt",), penalty=4.0)
    assert shlex.split(options.command) == [
        *("--games", "stag_hunt", "--table", "my own=3,0,5,1"),
        *("--goal", goal, "--penalty", "4.0"),
    ]


def test_framings_that_are_left_out_are_named() -> None:
    plan = make_plan(Options(games=("stag_hunt",)))
    told, fits = _left_out(plan)["left out"], fitting(plan.games["stag_hunt"])
    assert told.endswith("contradicting stag_hunt's payoffs")
    assert all((framing in told) != (framing in fits) for framing in FRAMINGS[1:])
    assert not _left_out(make_plan())


def test_a_folder_that_is_no_run(
    no_model: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "generalization", str(tmp_path / "none")]) == 2
    assert "there is no run folder" in capsys.readouterr().err
    assert main(["evaluate", "generalization", str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err


def test_a_run_without_a_checkpoint(
    no_model: None, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    assert main(["evaluate", "generalization", str(copy)]) == 2
    assert "has no good checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--games", "stag_hund"], "did you mean stag_hunt"),
        (["--seeds", "1,x"], "--seeds takes whole numbers"),
        (["--seeds", "-1"], "from 0 to"),
        (["--seeds", str(2**63)], f"to {2**63 - 1}"),
        (["--table", "mine=3,0,5,1", "--table", "mine=1,2,3,4"], "two games are called 'mine'"),
        (["--games", "stag_hunt", "--table", "stag_hunt=3,0,5,1"], "two games are called"),
    ],
)
def test_wrong_arguments(
    arguments: list[str],
    message: str,
    no_model: None,
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["evaluate", "generalization", str(run), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_adapter_of_another_model(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    other = tmp_path / "other"
    train(small(other, "iterations=1", "prompt=memory_one", architecture="gemma2"))
    shutil.rmtree(copy / "checkpoints")
    shutil.copytree(only_folder(other) / "checkpoints", copy / "checkpoints")
    assert main(["evaluate", "generalization", str(copy), "--quick"]) == 2
    assert "is of the base model" in capsys.readouterr().err


def test_two_learners_are_two_policies_on_their_own_seats(tmp_path: Path) -> None:
    seats = "seats=[learner:one,learner:two]"
    train(small(tmp_path, "iterations=1", "prompt=memory_one", seats))
    found = trained_policies(only_folder(tmp_path))
    assert [(one.name, one.seat) for one in found] == [("ipd:one", 0), ("ipd:two", 1)]
