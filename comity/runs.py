"""A run folder: everything that one run leaves behind.

    config.yaml                    the resolved config, enough to run it again
    versions.json                  libraries, code revision, machine
    yardsticks.json                what the page holds its curves against
    metrics.jsonl                  one JSON object per iteration, appended
    decisions/000003.parquet       what was decided in iteration 3
    conversations/000003.parquet   and in which conversations
    checkpoints/000010/            see `comity.learning.checkpoints`
    past/main/000010/              see `comity.learning.snapshots`

One process at a time writes to a run: it holds a lock that the system takes back when the
process ends, however it ends. Readers need no lock.
"""

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from comity.config import Config, differences, load_config, to_yaml
from comity.errors import ComityError, WorkError, warn
from comity.files import PARTIAL, remove_partial, write_atomically, writing
from comity.rollout.records import Conversation, Decision
from comity.rollout.tables import (
    conversation_table,
    decision_table,
    read_columns,
    read_conversations,
    read_decisions,
    write_table,
)
from comity.versions import versions

__all__ = [
    "RunFolder",
    "read_columns",
    "read_conversations",
    "read_decisions",
    "read_metrics",
    "stored_config",
    "write_atomically",
]


UNNAMED = ("experiment", "seed", "output", "sinks")
"""Overrides that a folder's name does not repeat: told elsewhere, or not what the run is."""

LONGEST = 60
"""Most letters of a folder's name for the overrides."""


class RunFolder:
    """The one writer of a run; a context manager that holds the run's lock."""

    path: Path
    config: Config

    def __init__(self, path: Path, config: Config, lock: int) -> None:
        """For `create` and `open`; `lock` is the locked file's descriptor."""
        self.path = path
        self.config = config
        self._lock = lock

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
        run = cls(path, config, _lock(path))
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
        run = cls(path, stored, _lock(path))
        for folder in (path, path / "decisions", path / "conversations"):
            remove_partial(folder)
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
            error.add_note(f"continue with: comity train --resume {self.path}")

    @property
    def checkpoints(self) -> Path:
        """Where this run's checkpoints are kept."""
        return self.path / "checkpoints"

    # Metrics

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Adds one line; numbers that are not finite become null. On the disk on return."""
        path = self.path / "metrics.jsonl"
        line = memoryview(json.dumps(_plain(row), allow_nan=False).encode() + b"\n")
        with writing(path), open(path, "ab", buffering=0) as file:
            before = file.tell()
            try:
                while line:
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
            except OSError:
                # Half a line would spoil the next one.
                with contextlib.suppress(OSError):
                    os.truncate(path, before)
                raise

    def metrics(self) -> list[dict[str, Any]]:
        """All finished iterations' metrics, oldest first."""
        return read_metrics(self.path)

    def _mend_metrics(self) -> None:
        path = self.path / "metrics.jsonl"
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            self._rewrite_metrics(self.metrics())

    def _rewrite_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        lines = [json.dumps(row, allow_nan=False) + "\n" for row in rows]
        write_atomically(self.path / "metrics.jsonl", "".join(lines))

    # Records

    def write_decisions(self, iteration: int, decisions: Sequence[Decision]) -> Path:
        """Writes the iteration's decisions, replacing any from before."""
        path = self.path / "decisions" / f"{iteration:06d}.parquet"
        write_table(path, decision_table(decisions))
        return path

    def write_conversations(self, iteration: int, conversations: Sequence[Conversation]) -> Path:
        """Writes the iteration's conversations, replacing any from before."""
        path = self.path / "conversations" / f"{iteration:06d}.parquet"
        write_table(path, conversation_table(conversations))
        return path

    def truncate_after(self, iteration: int) -> None:
        """Forgets every iteration later than `iteration` (-1: all), as before it was played.

        For a resumed run, which plays them again from its checkpoint.
        """
        rows = self.metrics()
        kept = [row for row in rows if row["iteration"] <= iteration]
        if len(kept) < len(rows):
            self._rewrite_metrics(kept)
        for kind in ("decisions", "conversations"):
            for path in (self.path / kind).glob("*.parquet"):
                if path.stem.isdigit() and int(path.stem) > iteration:
                    path.unlink()


def stored_config(run: Path) -> Config:
    """The config that a run or study was made with; `ComityError` for any other folder."""
    if not run.is_dir():
        raise ComityError(f"there is no run folder {run}")
    if not (run / "config.yaml").is_file():
        raise ComityError(f"{run} is not a run: it holds no config.yaml")
    return load_config(run / "config.yaml")


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; none if nothing has finished yet.

    The last line may be half-written (the writer was killed, or is writing) and then does
    not count; a broken line before it raises `ComityError`.
    """
    path = Path(run) / "metrics.jsonl"
    if not path.exists():
        return []
    *lines, unfinished = path.read_bytes().split(b"\n")
    del unfinished  # Empty where the last line is complete.
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            row["iteration"]
        except (ValueError, TypeError, KeyError):
            raise ComityError(f"{path}: line {number} is not a line of metrics") from None
        rows.append(row)
    return rows


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
        entry.name == ".lock" or entry.name.startswith(PARTIAL) for entry in path.iterdir()
    )


WITHOUT_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}
"""What file systems say that have no locks (Lustre mounted without `flock`, some NFS)."""


def _lock(path: Path) -> int:
    """Locks the run for this process and returns the lock's descriptor.

    Where the file system has no locks, it warns and goes on.
    """
    file = path / ".lock"
    with writing(file):
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 100).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise ComityError(
            f"{path} is being written by another process (id {holder}); wait for it or stop it"
        ) from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            os.close(descriptor)
            raise ComityError(f"cannot lock {file}: {error.strerror}") from error
        warn(
            f"the file system of {path} has no locks ({error.strerror}); make sure that no other "
            "process writes to this run"
        )
    # For the message above only; the lock itself is the system's. A file with another name
    # elsewhere is left alone.
    if os.fstat(descriptor).st_nlink == 1:
        with contextlib.suppress(OSError):
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


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
