"""A population's folder: everything that `comity population` leaves behind.

config.yaml                            the resolved config, enough to run it again
versions.json                          libraries, code revision, machine, command
agents.json                            agents, conditions, game (`comity.populations.records`)
games/CONDITION/part-000000.parquet    one row per game
statistics/part-000000.parquet         statistics of updates
q_values/part-000000.parquet           values that deep Q and tabular learners have learned
policies/part-000000.parquet           how players of fixed pairs answer to their latest moves
pairs/S-UT/...                         the same of each of several fixed pairs
metrics.jsonl                          means over a number of episodes each
checkpoints/001000/                    see `comity.learning.state.checkpoints`
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comity.config.compose import differences
from comity.config.population import load_population
from comity.config.population_schema import PopulationConfig
from comity.config.yaml_files import to_yaml
from comity.errors import ComityError
from comity.files import remove_partial, write_atomically
from comity.runs.integrity import (
    check_metrics,
    counted_lines,
    digest,
    newest_counted,
    refuse_checkpoint,
)
from comity.runs.lock import lock
from comity.runs.locked_folder import LockedFolder, folder_name, locked_new_folder
from comity.runs.versions import versions
from comity.safe_reading import read_object, refuse_links

CHANGEABLE = ("checkpoint.every", "checkpoint.keep", "sinks")
"""Config keys that may be edited before a population is resumed: they change no numbers."""

RECORDS = ("games", "statistics", "q_values", "policies", "pairs")
"""Folders of records."""


class PopulationFolder(LockedFolder):
    """The one writer of a population's folder."""

    command = "comity population"
    config: PopulationConfig

    def __init__(self, path: Path, config: PopulationConfig, lock: int) -> None:
        """For `create` and `open`; `lock` is the locked file's descriptor."""
        super().__init__(path, lock)
        self.config = config
        self._digests: dict[str, str] = {}
        """Checksums of records, which are never changed once they are written."""

    @classmethod
    def create(cls, config: PopulationConfig) -> "PopulationFolder":
        """A new folder below the config's `output`; `WorkError` if it cannot be made."""
        path, descriptor = locked_new_folder(
            Path(config.output), folder_name(config), numbered=True
        )
        folder = cls(path, config, descriptor)
        write_atomically(path / "config.yaml", to_yaml(config))
        write_atomically(path / "versions.json", json.dumps(versions(), indent=2) + "\n")
        return folder

    @classmethod
    def open(cls, path: Path | str) -> "PopulationFolder":
        """An existing folder, to continue it; removes what an interrupted writer left half-written.

        Raises `ComityError` for a folder that is no population or is being written.
        """
        path = Path(path)
        config = population_config(path)
        folder = cls(path, config, lock(path))
        remove_partial(path, below=True)
        folder.mend_metrics()
        return folder

    def set_iterations(self, iterations: int) -> None:
        """Let it be trained for more episodes than it was begun with."""
        self.config.iterations = iterations
        self.check_place()
        write_atomically(self.path / "config.yaml", to_yaml(self.config))

    def records(self) -> list[Path]:
        """All files of records."""
        found = [path for kind in RECORDS for path in (self.path / kind).rglob("part-*.parquet")]
        return sorted(found)

    def counted(self) -> dict[str, Any]:
        """What the folder consists of now, for `check_counted`."""
        lines = counted_lines(self.path)
        records = {}
        for path in self.records():
            name = path.relative_to(self.path).as_posix()
            records[name] = self._digests.get(name) or _digest(path)
        self._digests = records
        metrics = {"lines": len(lines), "sha256": digest(self.path, lines)}
        return {"metrics": metrics, "records": records}

    def check_counted(self, counted: Mapping[str, Any]) -> None:
        """Raises `ComityError` unless the folder holds what was counted at its checkpoint."""
        check_records(self.path, counted)
        self._digests = dict(counted.get("records", {}))

    def forget_later(self, counted: Mapping[str, Any] | None) -> None:
        """Remove records and metrics that are newer than what was counted; None: all of them."""
        kept = counted.get("records", {}) if counted is not None else {}
        count = counted["metrics"]["lines"] if counted is not None else 0
        for path in self.records():
            if path.relative_to(self.path).as_posix() not in kept:
                path.unlink()
        lines = counted_lines(self.path)
        if len(lines) > count:
            write_atomically(self.path / "metrics.jsonl", b"".join(lines[:count]))


def check_records(folder: Path, counted: Mapping[str, Any]) -> None:
    """Raises `ComityError` unless metrics and records are those that a checkpoint counted."""
    check_metrics(folder, counted)
    for name, kept in counted.get("records", {}).items():
        path = folder / name
        if not path.is_file() or _digest(path) != kept:
            wrong = "is another file" if path.is_file() else "is missing"
            raise ComityError(
                f"{folder} is not what it was at its newest checkpoint: {name} {wrong}; "
                "bring it back from a copy"
            )


def check_shown(folder: Path) -> None:
    """Raises `ComityError` where a population's page would show other numbers than it had.

    It is compared with its newest complete checkpoint; without one nothing is checked.
    """
    checkpoint = newest_counted(folder)
    if checkpoint is not None:
        check_records(folder, read_object(checkpoint / "state.json"))


def is_population(folder: Path) -> bool:
    """Whether a folder holds a population."""
    return (folder / "agents.json").is_file()


def population_config(folder: Path) -> PopulationConfig:
    """The config of a population's folder; `ComityError` for any other folder."""
    if not folder.is_dir():
        raise ComityError(f"there is no population folder {folder}")
    refuse_links(folder)
    refuse_checkpoint(folder)
    if not (folder / "config.yaml").is_file() or not is_population(folder):
        raise ComityError(f"{folder} is not a population: it needs config.yaml and agents.json")
    return load_population(folder / "config.yaml")


def check_same_population(folder: Path, now: PopulationConfig, then: PopulationConfig) -> None:
    """Raises `ComityError` where the config was edited since its checkpoint was made."""
    edited = [key for key in differences(now, then) if key not in CHANGEABLE]
    if "iterations" in edited and may_go_on(now, then):
        edited.remove("iterations")
    if edited:
        raise ComityError(
            f"{folder / 'config.yaml'} was edited since the newest checkpoint: "
            f"{', '.join(edited)}; put it back, or start a new population"
        )


def may_go_on(now: PopulationConfig, then: PopulationConfig) -> bool:
    """Whether more iterations are more of the same: no schedule depends on their number."""
    return now.iterations > then.iterations and then.tabular.epsilon_last is None


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
