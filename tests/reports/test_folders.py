"""What is found in folders, and the one-line errors where it is not."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from comity.errors import ComityError
from comity.reports.build import build
from comity.reports.loading.folders import collect
from tests.reports import synthetic


def test_seeds_of_one_config_are_one_policy(tmp_path: Path) -> None:
    runs = [synthetic.run(tmp_path / f"r{s}", seed=s, iterations=1) for s in (0, 1)]
    inputs = collect(runs)
    assert inputs.policies == ("ipd",)
    assert [run.seed for run in inputs.runs] == [0, 1]


def test_runs_that_differ_are_named_by_what_differs(tmp_path: Path) -> None:
    runs = [synthetic.run(tmp_path / p, p, iterations=1) for p in ("own", "utilitarian")]
    assert collect(runs).policies == ("ipd (reward=own)", "ipd (reward=utilitarian)")


def test_the_report_of_a_run_goes_into_its_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    runs = [synthetic.run(tmp_path / p, p, iterations=1) for p in ("own", "utilitarian")]
    before = {path.name for path in runs[0].iterdir()}
    assert build(runs[:1]) == (runs[0] / "report.html", runs[0] / "summary.json")
    assert {path.name for path in runs[0].iterdir()} - before == {"report.html", "summary.json"}
    page, _ = build(runs)
    assert page.parent not in runs and not (runs[1] / "report.html").exists()


def test_an_arm_without_iterations_is_left_out_and_said_so(tmp_path: Path) -> None:
    study = synthetic.study(tmp_path / "study", seeds=(0, 1), iterations=1)
    shutil.rmtree(study / "own" / "seed-1")
    inputs = collect([study])
    assert len(inputs.runs) == 3
    assert inputs.notes == ("own, seed-1 has no finished iteration yet and was left out.",)
    page, _ = build([study])
    assert inputs.notes[0] in page.read_text()


def test_a_killed_run_may_have_a_half_written_last_line(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", iterations=2)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 2, "rew')
    assert len(collect([run]).runs[0].metrics) == 2


def refused(folders: list[Path], *words: str) -> None:
    with pytest.raises(ComityError) as caught:
        build(folders)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_nothing_given(tmp_path: Path) -> None:
    refused([], "no run to report")
    refused([tmp_path / "absent"], "there is no folder")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    refused([tmp_path], "is no run or study", "config.yaml")


def test_an_empty_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: ipd\n")
    refused([tmp_path], "no finished iteration yet")


def test_broken_config_and_study(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: [ipd\n")
    refused([tmp_path], "config.yaml is not valid YAML")
    (tmp_path / "study.json").write_text('{"arms": 3}')
    refused([tmp_path], "cannot be read as a study")


def test_unreadable_parquet(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", iterations=2)
    path = run / "decisions" / "000001.parquet"
    path.write_bytes(path.read_bytes()[:200])
    refused([run], "000001.parquet cannot be read", "restore it from a copy")


def test_decisions_of_another_iteration(tmp_path: Path) -> None:
    decisions = synthetic.run(tmp_path / "run", iterations=2) / "decisions"
    (decisions / "000000.parquet").replace(decisions / "000001.parquet")
    refused([tmp_path / "run"], "000001.parquet holds decisions of iteration 0")


def test_missing_columns(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", iterations=1)
    path = run / "decisions" / "000000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["payoff", "move"]), path)
    refused([run], "has no column move, payoff")


def test_records_of_another_version_are_refused(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", iterations=1)
    path = run / "decisions" / "000000.parquet"
    table = pq.read_table(path)
    metadata = {"comity.kind": "decision", "comity.schema_version": "4"}
    pq.write_table(table.rename_columns({"return_": "ret"}).replace_schema_metadata(metadata), path)
    refused([run], "has schema version 4", "run the experiment again")


def test_nothing_trained_and_nothing_decided(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", iterations=1)
    path = run / "decisions" / "000000.parquet"
    table = pq.read_table(path)
    index = table.schema.get_field_index("controller")
    pq.write_table(table.set_column(index, "controller", [["frozen"] * len(table)]), path)
    refused([run], "no trained decisions")
    pq.write_table(table.slice(0, 0), path)
    refused([run], "holds no decisions")


def test_strange_pairings(tmp_path: Path) -> None:
    study = synthetic.study(tmp_path / "study", seeds=(0,), iterations=1)
    path = study / "crossplay" / "decisions.parquet"
    table = pq.read_table(path)
    index = table.schema.get_field_index("pairing")
    pq.write_table(table.set_column(index, "pairing", [["own and base"] * len(table)]), path)
    refused([study], "row|column|seed")
    pq.write_table(table.set_column(index, "pairing", [["x|y|0"] * len(table)]), path)
    refused([study], "sits in the pairing of 'x' and 'y'")


def test_the_same_run_twice(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", iterations=1)
    shutil.copytree(run, tmp_path / "copy")
    refused([run, tmp_path / "copy"], "are both ipd, seed 0")
