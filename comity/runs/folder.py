"""A run folder: everything that one run leaves behind.

    config.yaml                    the resolved config, enough to run it again
    versions.json                  libraries, code revision, machine
    reference_policies.json                baselines and reference values for the page
    metrics.jsonl                  one JSON object per iteration, appended
    decisions/000003.parquet       what was decided in iteration 3
    conversations/000003.parquet   and in which conversations
    checkpoints/000010/            see `comity.learning.state.checkpoints`
    opponent_pool/main/000010/              see `comity.learning.state.snapshots`

One process at a time writes to a run; see `comity.runs.locked_folder`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from comity.config.compose import differences, load_config
from comity.config.schema import Config
from comity.config.yaml_files import to_yaml
from comity.errors import ComityError
from comity.files import remove_partial, write_atomically
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
    check_opponents,
    check_records,
    counted_lines,
    digest,
    file_digest,
    refuse_checkpoint,
)
from comity.runs.lock import lock
from comity.runs.locked_folder import LockedFolder, folder_name, locked_new_folder
from comity.runs.versions import versions
from comity.safe_reading import read_metrics, refuse_links

__all__ = [
    "RunFolder",
    "folder_name",
    "read_columns",
    "read_conversations",
    "read_decisions",
    "read_metrics",
    "stored_config",
    "write_atomically",
]


REFERENCE_POLICIES = "reference_policies.json"
"""Baselines and reference values for a run's page."""


class RunFolder(LockedFolder):
    """The one writer of a run; a context manager that holds the run's lock."""

    config: Config

    def __init__(self, path: Path, config: Config, lock: int) -> None:
        """For `create` and `open`; `lock` is the locked file's descriptor."""
        super().__init__(path, lock)
        self.config = config
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
        path, descriptor = locked_new_folder(
            root, name or folder_name(config), numbered=name is None
        )
        run = cls(path, config, descriptor)
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
        run.mend_metrics()
        return run

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
            "opponents": {
                path.relative_to(self.path).as_posix(): file_digest(path)
                for path in sorted((self.path / "opponent_pool").glob("*/*/manifest.json"))
            },
        }

    def check_counted(self, counted: Mapping[str, Any]) -> None:
        """Raises `ComityError` unless the run is what was counted at its checkpoint.

        Metrics or records that were lost, damaged or changed would otherwise go unnoticed.
        """
        check_metrics(self.path, counted)
        records = counted.get("records", {})
        check_records(self.path, records)
        check_opponents(self.path, counted.get("opponents", {}))
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
                if path.stem.isdecimal() and int(path.stem) > iteration:
                    path.unlink()
        self._records = {n: d for n, d in self._records.items() if _iteration(n) <= iteration}


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
