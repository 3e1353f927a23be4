"""Standard streams that are closed or full, and text that would steer the terminal."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from comity.cli import main
from comity.errors import printable, warn
from comity.runs.progress import Progress
from comity.train import train
from tests.train.small import metrics, small

ROOT = Path(__file__).parents[2]


class Broken(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, error: Exception, terminal: bool = False) -> None:
        super().__init__()
        self.error, self.terminal = error, terminal

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error

    def isatty(self) -> bool:
        return self.terminal


ERRORS = [OSError(28, "No space left on device"), BrokenPipeError(32, "gone"), ValueError("closed")]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("error", ERRORS)
def test_progress_that_cannot_be_told_is_not(
    error: Exception, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Broken(error, terminal))
    with Progress() as shown:
        shown.say("a line")
        shown.warn("another")
        with shown.task("questions", 2) as task:
            task.playing(1, 1)
            task.add(1)
            task.advance({"cooperation": 0.5})


def test_no_standard_error_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Progress() as shown, shown.task("questions", 1) as task:
        shown.say("a line")
        task.advance()


def test_training_goes_on_where_nobody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listened = train(small(tmp_path / "a"), report=False)
    monkeypatch.setattr(sys, "stderr", Broken(ERRORS[0]))
    alone = train(small(tmp_path / "b"), report=False)
    assert metrics(alone) == metrics(listened)


def comity(command: str) -> subprocess.CompletedProcess[str]:
    """`comity` in a shell, which closes and fills streams."""
    environment = {**os.environ, "COMITY": f"{sys.executable} -m comity"}
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, cwd=ROOT, env=environment
    )


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", ">&- 2>&-"])
def test_a_refusal_that_cannot_be_told_is_one(where: str) -> None:
    assert comity(f"$COMITY list nothing {where}").returncode == 2


def test_a_reader_who_leaves_is_no_fault() -> None:
    done = comity("{ $COMITY list; echo $? >&2; } | true")
    assert done.stderr.strip() in ("0", "1")  # And nothing is told.


def test_a_full_disk_is_told_in_one_line() -> None:
    done = comity("$COMITY list games > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("comity: cannot ") and done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


def test_files_never_get_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    program = f"""
from comity.cli import main
main(["list", "sinks"])
print(open({str(tmp_path / "new")!r}, "w").fileno(), file=open({str(tmp_path / "told")!r}, "w"))
"""
    script = tmp_path / "script.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(["sh", "-c", f"exec {sys.executable} {script} 1>&- 2>&-"], env=environment)
    assert int((tmp_path / "told").read_text()) > 2


def test_what_would_steer_a_terminal_is_shown_instead(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "\x1b]0;title\x07\x1b[2J\u202etxt.exe"
    assert main(["report", str(folder)]) == 2
    told = capsys.readouterr().err
    assert "\\x1b]0;title\\x07\\x1b[2J\\u202etxt.exe" in told
    assert told.count("\n") == 1 and printable(told.strip()) == told.strip()


def test_warnings_are_lines_of_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned(*_: Any) -> None:
        for _ in range(2):
            warn("half of it\x1b[1m is missing")

    monkeypatch.setattr("comity.commands.listing.show", warned)
    assert main(["list", "games"]) == 0
    line = "comity: warning: half of it\\x1b[1m is missing\n"
    assert capsys.readouterr().err == line * 2


def test_an_interrupt_ends_in_one_line_whatever_a_library_makes_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OmegaConf raises an error of its own where Ctrl-C falls into its composing."""

    def composed(*_: Any, **__: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            raise AttributeError("'NoneType' object has no attribute '_flags'") from None

    monkeypatch.setattr("comity.commands.launch.composed", composed)
    assert main(["train", "smoke"]) == 130
    assert capsys.readouterr().err == "comity: interrupted\n"


def test_an_interrupt_of_any_command_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    monkeypatch.setattr("comity.commands.listing.show", interrupted)
    assert main(["list", "games"]) == 130
    assert capsys.readouterr().err == "comity: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
