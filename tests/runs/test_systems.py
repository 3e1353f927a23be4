"""Machines that lack what a laptop has: file systems without locks, users without a home folder."""

import errno
import fcntl
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from comity.cli import main
from comity.config.compose import compose
from comity.errors import ComityError, ComityWarning
from comity.files import write_atomically
from comity.runs.folder import RunFolder
from tests.worlds import tiny_folder

HOMES = (
    *("HOME", "COMITY_CACHE", "XDG_CACHE_HOME"),
    *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"),
)


def refusing(number: int) -> Any:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_without_locks_a_run_goes_on_with_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    with (
        pytest.warns(ComityWarning, match="has no locks"),
        RunFolder.create(compose("smoke"), tmp_path) as run,
    ):
        run.append_metrics({"iteration": 0})
    with pytest.warns(ComityWarning, match="has no locks"), RunFolder.open(run.path) as again:
        assert len(again.metrics()) == 1


def test_other_trouble_with_locks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(errno.EIO))
    with pytest.raises(ComityError, match="cannot lock"):
        RunFolder.create(compose("smoke"), tmp_path)


def test_folders_that_cannot_be_synced_are_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of a container that was started with `--user 1234`."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for variable in HOMES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("name", "variable"), [("smollm2-135m", "COMITY_CACHE"), ("owner/model", "HF_HOME")]
)
def test_without_a_home_folder_the_variable_is_named(
    name: str, variable: str, nobody: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "fetch", name]) == 2
    told = capsys.readouterr().err
    assert variable in told and told.count("\n") == 1


def test_without_a_home_folder_a_model_folder_is_trained(
    nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [f"model.name={tiny_folder('llama')}", "model.dtype=float32", "matches=2"]
    assert main(["train", "smoke", "iterations=1", *given]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
