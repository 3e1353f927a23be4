"""Plain lines where there is no terminal: not one for each of many small parts, but some."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import comity.commands.launch
from comity.cli import main
from comity.reports.build import build
from comity.runs import progress
from comity.runs.progress import Progress, Status, fitted
from tests.reports import synthetic


@pytest.mark.parametrize(
    ("seconds", "lines"), [(0.0, ["100/400", "200/400", "400/400"]), (60.0, ["400/400"])]
)
def test_many_small_parts(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    lines: list[str],
) -> None:
    monkeypatch.setattr(progress, "BETWEEN_LINES", seconds)
    with Progress() as shown, shown.task("questions", 400) as task:
        for parts in (100, 100, 200):
            task.add(parts)
    told = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in told] == lines
    assert told[-1] == "questions  400/400  0 s left"


def test_every_large_part_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as shown, shown.task("naive", total=5, done=3) as task:
        task.advance({"cooperation": 0.25, "payoff": 1.5})
        task.advance()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("naive  4/5  cooperation 25%  payoff 1.50  ")
    assert second.startswith("naive  5/5  ") and second.endswith("s left")


STATUS = Status(
    "robust-small-split-no-comm-naive seed 0",
    done=3,
    total=12,
    elapsed=75.0,
    left=3675.0,
    metrics={"cooperation": 0.583, "payoff": 2.58, "illegal": 0.031},
    doing="playing, 3/8 matches done",
)


@pytest.mark.parametrize("width", range(20, 200))
def test_a_line_fits_and_keeps_the_numbers(width: int) -> None:
    line = fitted(STATUS, width)
    assert len(line) <= width
    if width >= 36:
        for part in ("3/12", "1:01:15", "58%", "2.58", "3%"):
            assert part in line, line
    if width >= 40:
        assert line.startswith("robu")
    if width >= 190:
        assert "playing, 3/8" in line and "cooperation 58%" in line


def test_a_short_name_is_not_cut_before_it_must_be() -> None:
    assert fitted(replace(STATUS, title="ipd"), 46).startswith("ipd ")


def test_the_terminal_shows_it_at_40_columns() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=40, color_system=None)
    with Progress() as shown:
        shown.console = console
        column = progress._Line(console)
        with shown.task("demo", 12) as task:
            task.advance({"cooperation": 0.5, "payoff": 1.25, "illegal": 0.0})
            console.print(column.render(shown._bars.tasks[0]))
    for part in ("1/12", "50%", "1.25", "0%"):
        assert part in screen.getvalue()


def test_a_study_tells_how_long_all_of_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as shown, shown.whole("whole study", total=6, done=2):
        for arm in ("own", "utilitarian"):
            with shown.task(arm, total=2) as task:
                task.advance({"illegal": 0.25})
                task.advance()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all("whole study: " in line for line in lines)
    assert "illegal 25%" in lines[0]
    assert lines[-1].endswith("whole study: 0 s left")


@pytest.mark.parametrize("command", ["train ipd iterations=1", "config ipd"])
def test_something_is_said_before_torch_is_loaded(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "comity.train", None)  # Its import fails.
    monkeypatch.setitem(sys.modules, "comity.commands.run", None)
    monkeypatch.setitem(sys.modules, "comity.commands.plan", None)
    assert main(command.split()) == 1
    first, *_ = capsys.readouterr().err.splitlines()
    assert first == "ipd: loading torch ..."


def test_the_end_of_a_run_tells_what_it_came_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = synthetic.study(tmp_path / "study", hostile=False)
    build([study])
    monkeypatch.setattr(comity.commands.launch, "start", lambda *_: [study])
    assert main(["train", "demo"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("result: own: cooperation ")
    assert shown[1].startswith("result: utilitarian: cooperation ")
    assert "payoff " in shown[0] and "illegal 0 %" in shown[0]
    assert shown[2] == f"page: {study / 'report.html'}"
