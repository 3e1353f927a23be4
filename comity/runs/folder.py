"""A run folder: everything that one run leaves behind.

    config.yaml                    the resolved config, enough to run it again
    versions.json                  libraries, code revision, machine
    reference_policies.json                baselines and reference values for the page
    metrics.jsonl                  one JSON object per iteration, appended
    decisions/000003.parquet       what was decided in iteration 3
    conversations/000003.parquet   and in which conversations
    checkpoints/000010/            see `comity.learning.state.checkpoints`
    opponent_pool/main/000010/              see `comity.learning.state.snapshots`

One process at a time writes to a run: it holds a lock that the system takes back when the
process ends, however it ends. Readers need no lock.
"""

import json
import math
import os
import re
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from comity.config.compose import differences, load_config, to_yaml
from comity.config.schema import Config
from comity.errors import ComityError, WorkError
from comity.files import PARTIAL, append_line, remove_partial, write_atomically, writing
from comity.rollout.record_files import (
    conversation_table,
    decision_table,
    read_columns,
    read_conversations,
    read_decisions,
    write_table,
)
from comity.rollout.records import Conversation, Decision
from comity.runs.integrity import (
    check_metrics,
    check_records,
    counted_lines,
    digest,
    file_digest,
    refuse_checkpoint,
)
from comity.runs.lock import LOCK, lock
from comity.runs.versions import versions
from comity.safe_reading import read_bytes, read_metrics, read_object, refuse_links

__all__ = [
    "RunFolder",
    "read_columns",
    "read_conversations",
    "read_decisions",
    "read_metrics",
    "stored_config",
    "write_atomically",
]


REFERENCE_POLICIES = "reference_policies.json"
"""Baselines and reference values for a run's page."""

UNNAMED = ("experiment", "seed", "output", "sinks")
"""Overrides that a folder's name does not repeat: stated elsewhere, or no part of what the run is.
"""

LONGEST = 60
"""Most letters of a folder's name for the overrides."""


class RunFolder:
    """The one writer of a run; a context manager that holds the run's lock."""

    path: Path
    config: Config
    resume_with: str = ""
    """The command that continues it; "": that of a training run."""

    def __init__(self, path: Path, config: Config, lock: int) -> None:
        """For `create` and `open`; `lock` is the locked file's descriptor."""
        self.path = path
        self.config = config
        self._lock = lock
        self._place = _identity(path)
        self._records: dict[str, str] = {}
        """Checksums of the records that this process wrote, or found as they were counted."""

    @classmethod
    def create(
        cls, config: Config, root: Path | str | None = None, name: str | None = None
    ) -> "RunFolder":
        """A new folder below `root` (the config's `output`), named by `folder_name` or `name`.

        Raises `ComityError` if the given `name` is taken, `WorkError` if it cannot be made.
        A folder that was made but got no config before its maker was killed is not taken.
        """
        root = Path(config.output if root is None else root)
        path = _make_folder(root, name or folder_name(config), numbered=name is None)
        run = cls(path, config, lock(path))
        remove_partial(path)
        write_atomically(path / "config.yaml", to_yaml(config))
        write_atomically(path / "versions.json", json.dumps(versions(), indent=2) + "\n")
        return run

    @classmethod
    def open(cls, path: Path | str, config: Config | None = None) -> "RunFolder":
        """An existing run, to continue it; with `config`, only if it is a run of that config.

        Removes what an interrupted writer left half-written. Raises `ComityError` for a
        folder that is no run, a run of another config, or one that is being written.
        """
        path = Path(path)
        stored = stored_config(path)
        if config is not None:
            differing = differences(stored, config)
            if differing:
                raise ComityError(
                    f"{path} is a run of another config; it differs in {', '.join(differing)}"
                )
        run = cls(path, stored, lock(path))
        remove_partial(path, below=True)
        run._mend_metrics()
        return run

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
            command = self.resume_with or f"comity train --resume {self.path}"
            error.add_note(f"continue with: {command}")

    def check_place(self) -> None:
        """Raises `WorkError` where the folder was moved or removed since it was opened.

        Without this, what is left would be written into a new folder of the old name.
        """
        if _identity(self.path) != self._place:
            raise WorkError(
                f"{self.path} was moved or removed while it was written; nothing more is written. "
                "Where it is now, it can be continued from its newest checkpoint: comity train "
                "--resume FOLDER"
            )

    @property
    def checkpoints(self) -> Path:
        """Where this run's checkpoints are kept."""
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

    def _mend_metrics(self) -> None:
        """Takes a half-written last line away, and a name that the file has elsewhere."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            content = read_bytes(path)
            if not content.endswith(b"\n") or path.stat().st_nlink > 1:
                write_atomically(path, content[: content.rfind(b"\n") + 1])

    # Records

    def write_decisions(self, iteration: int, decisions: Sequence[Decision]) -> Path:
        """Writes the iteration's decisions, replacing any from before."""
        return self._write("decisions", iteration, decision_table(decisions))

    def write_conversations(self, iteration: int, conversations: Sequence[Conversation]) -> Path:
        """Writes the iteration's conversations, replacing any from before."""
        return self._write("conversations", iteration, conversation_table(conversations))

    def _write(self, kind: str, iteration: int, table: Any) -> Path:
        self.check_place()
        name = f"{kind}/{iteration:06d}.parquet"
        self._records[name] = write_table(self.path / name, table)
        return self.path / name

    # What a checkpoint counts, and what is later than it

    def counted(self, iterations: int) -> dict[str, Any]:
        """What the run consists of after so many iterations, for `check_counted`."""
        lines, beside = counted_lines(self.path)[:iterations], self.path / REFERENCE_POLICIES
        records = {
            name: kept for name, kept in self._records.items() if _iteration(name) < iterations
        }
        return {
            "metrics": {"lines": len(lines), "sha256": digest(self.path, lines)},
            "records": dict(sorted(records.items())),
            "files": {REFERENCE_POLICIES: file_digest(beside)} if beside.exists() else {},
        }

    def check_counted(self, counted: Mapping[str, Any]) -> None:
        """Raises `ComityError` unless the run is what was counted at its checkpoint.

        Metrics or records that were lost, damaged or changed would otherwise go unnoticed.
        """
        check_metrics(self.path, counted)
        records = counted.get("records", {})
        check_records(self.path, records)
        self._records.update(records)

    def truncate_after(self, iteration: int) -> None:
        """Forgets every iteration later than `iteration` (-1: all), as before it was played.

        For a resumed run, which plays them again from its checkpoint.
        """
        lines = counted_lines(self.path)
        if len(lines) > iteration + 1:
            write_atomically(self.path / "metrics.jsonl", b"".join(lines[: iteration + 1]))
        for kind in ("decisions", "conversations"):
            for path in (self.path / kind).glob("*.parquet"):
                if path.stem.isdigit() and int(path.stem) > iteration:
                    path.unlink()
        self._records = {n: d for n, d in self._records.items() if _iteration(n) <= iteration}

    def note_versions(self, found: Mapping[str, Any]) -> None:
        """Replace `versions.json`."""
        self.check_place()
        write_atomically(self.path / "versions.json", json.dumps(found, indent=2) + "\n")

    def versions(self) -> dict[str, Any]:
        """What `versions.json` holds; empty where it is not there."""
        path = self.path / "versions.json"
        return read_object(path) if path.exists() else {}


def _identity(path: Path) -> tuple[int, int] | None:
    """Identifies a folder, also if another takes its name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _iteration(name: str) -> int:
    """The iteration of `decisions/000003.parquet`."""
    return int(Path(name).stem)


def stored_config(run: Path) -> Config:
    """The config that a run or study was made with; `ComityError` for any other folder."""
    if not run.is_dir():
        raise ComityError(f"there is no run folder {run}")
    refuse_links(run)
    refuse_checkpoint(run)
    if not (run / "config.yaml").is_file():
        raise ComityError(f"{run} is not a run: it holds no config.yaml")
    return load_config(run / "config.yaml")


def folder_name(config: Config) -> str:
    """Experiment, what was changed, seed and local time: `ipd-reward-own-seed-0-20260131-235959`.

    What was changed are the command line's overrides, as many as fit.
    """
    described: list[str] = []
    for override in config.composition.overrides:
        change = override.lstrip("+~")
        if change.partition("=")[0] not in UNNAMED:
            described.append(_slug(change))
    while sum(map(len, described)) > LONGEST:
        described.pop()
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
