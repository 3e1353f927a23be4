"""A folder with one writer: its lock, its metrics and its versions.

Training runs (`comity.runs.folder`) and populations (`comity.runs.population_folder`) are such
folders. One process at a time writes to a folder: it holds a lock that the system takes back when
the process ends, however it ends. Readers need no lock.
"""

import json
import math
import os
import re
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from comity.errors import ComityError, WorkError
from comity.files import PARTIAL, append_line, remove_partial, write_atomically, writing
from comity.runs.lock import LOCK, lock
from comity.safe_reading import read_bytes, read_metrics, read_object

UNNAMED = ("experiment", "seed", "output", "sinks")
"""Overrides that a folder's name does not repeat: stated elsewhere, or no part of what the run is.
"""

LONGEST = 100
"""Most letters of a folder's name for the overrides."""


class LockedFolder:
    """The one writer of a folder; a context manager that holds the folder's lock."""

    command: ClassVar[str] = "comity train"
    """The command that makes such folders, and continues one with `--resume`."""
    path: Path
    resume_with: str = ""
    """The command that continues it; "": `command`."""

    def __init__(self, path: Path, lock: int) -> None:
        """`lock` is the locked file's descriptor."""
        self.path = path
        self._lock = lock
        self._place = _identity(path)

    @classmethod
    def resuming(cls, path: Path | str) -> str:
        """The command that continues a folder."""
        return f"{cls.command} --resume {path}"

    def close(self) -> None:
        """Gives the lock back; the folder is complete at any time."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()
        if isinstance(error, KeyboardInterrupt):
            # The command shows the last note; in a study that is the whole study's.
            error.add_note(f"continue with: {self.resume_with or self.resuming(self.path)}")

    def check_place(self) -> None:
        """Raises `WorkError` where the folder was moved or removed since it was opened.

        Without this, what is left would be written into a new folder of the old name.
        """
        if _identity(self.path) != self._place:
            raise WorkError(
                f"{self.path} was moved or removed while it was written; nothing more is written. "
                "Where it is now, it can be continued from its newest checkpoint: "
                f"{self.resuming('FOLDER')}"
            )

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are kept."""
        return self.path / "checkpoints"

    # Metrics

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Adds one line; numbers that are not finite become null. On the disk on return."""
        self.check_place()
        line = json.dumps(_plain(row), allow_nan=False)
        append_line(self.path / "metrics.jsonl", line)

    def metrics(self) -> list[dict[str, Any]]:
        """All finished iterations' metrics, oldest first."""
        return read_metrics(self.path)

    def mend_metrics(self) -> None:
        """Takes a half-written last line away, and a name that the file has elsewhere."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            content = read_bytes(path)
            if not content.endswith(b"\n") or path.stat().st_nlink > 1:
                write_atomically(path, content[: content.rfind(b"\n") + 1])

    # Versions

    def note_versions(self, found: Mapping[str, Any]) -> None:
        """Replace `versions.json`."""
        self.check_place()
        write_atomically(self.path / "versions.json", json.dumps(found, indent=2) + "\n")

    def versions(self) -> dict[str, Any]:
        """What `versions.json` holds; empty where it is not there."""
        path = self.path / "versions.json"
        return read_object(path) if path.exists() else {}


def locked_new_folder(root: Path, name: str, *, numbered: bool) -> tuple[Path, int]:
    """Makes and locks `root/name`; a taken name gets a number where `numbered`, else is refused.

    A folder that was made but got no config before its maker was killed is not taken.
    """
    path = _make_folder(root, name, numbered=numbered)
    descriptor = lock(path)
    remove_partial(path)
    return path, descriptor


def _identity(path: Path) -> tuple[int, int] | None:
    """Identifies a folder, also if another takes its name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def folder_name(config: Any) -> str:
    """Experiment, what was changed, seed and local time: `ipd-reward-own-seed-0-20260131-235959`.

    What was changed are the command line's overrides, as many as fit.
    """
    described: list[str] = []
    for override in config.composition.overrides:
        change = override.lstrip("+~")
        room = LONGEST - sum(map(len, described))
        if change.partition("=")[0] not in UNNAMED and len(_slug(change)) <= room:
            described.append(_slug(change))
    parts = [_slug(config.name), *described, f"seed-{config.seed}", time.strftime("%Y%m%d-%H%M%S")]
    return "-".join(part for part in parts if part)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")


def _make_folder(root: Path, name: str, *, numbered: bool) -> Path:
    """Makes `root/name`; taken names get a number where `numbered`, else are refused."""
    taken = 1
    while True:
        path = root / (name if taken == 1 else f"{name}-{taken}")
        try:
            with writing(path):
                path.mkdir(parents=True)
            return path
        except WorkError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
            if not numbered and _is_barren(path):
                return path
        if not numbered:
            raise ComityError(f"{path} exists already")
        taken += 1


def _is_barren(path: Path) -> bool:
    """Nothing is in the folder but what is made before a run's config."""
    return path.is_dir() and all(
        entry.name == LOCK or entry.name.startswith(PARTIAL) for entry in path.iterdir()
    )


def _plain(value: Any) -> Any:
    """JSON's own types: numpy scalars and arrays unpacked, NaN and infinities as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
