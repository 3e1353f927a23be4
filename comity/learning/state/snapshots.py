"""Snapshots: a learner's past adapters, kept for the opponent pool.

    opponent_pool/main/000010/
        adapter_model.safetensors, adapter_config.json  the learner `main` after 10 updates (PEFT)
        base.json                                       its base model
        manifest.json                                   size and SHA-256 of all of them
    opponent_pool-initial/main/000040/...               copied from an earlier run, likewise

A snapshot is written atomically. Unlike checkpoints, from which a run continues, all of them are
kept. A run that resumes at iteration n removes those of n updates and more and takes them again;
so it has the same snapshots as a run without interruption.
"""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from comity.engines.local.identity import BASE_FILE
from comity.errors import ComityError, WorkError
from comity.files import remove_partial, write_folder_atomically, writing
from comity.learning.state.checkpoints import ADAPTER_FILES, find_damage, write_manifest

START = "start-"
"""Prefix of labels of an earlier run's snapshots."""


@dataclass(frozen=True)
class Snapshot:
    """A learner's adapter after some number of updates."""

    learner: str
    label: str
    """Its number of updates in six digits; for an earlier run's, `start-` and a folder's name."""
    version: int
    """Its number of updates."""
    folder: Path

    @property
    def handle(self) -> str:
        """Its adapter's name in the engine. (No learner's name has an @.)"""
        return f"{self.learner}@{self.label}"

    def check(self) -> None:
        """Raises `WorkError` unless its files are intact."""
        wrong = find_damage(self.folder)
        if wrong is not None:
            raise WorkError(f"the snapshot {self.folder} is damaged: {wrong}; restore it")


class Snapshots:
    """The snapshots of one run; for the process that holds the run's lock."""

    def __init__(self, run: Path) -> None:
        self._own = run / "opponent_pool"
        self._start = run / "opponent_pool-initial"

    def of(self, learner: str) -> list[Snapshot]:
        """A learner's snapshots, oldest first; before them those of an earlier run."""
        return [
            Snapshot(learner, prefix + folder.name, version_of(folder), folder)
            for root, prefix in ((self._start, START), (self._own, ""))
            for folder in _folders(root / learner)
        ]

    def save(self, learner: str, version: int, write: Callable[[Path], None]) -> None:
        """Save the adapter that `write` puts into a given folder."""
        # One level at a time: the run's folder itself is never recreated.
        with writing(self._own):
            self._own.mkdir(exist_ok=True)
        _save(self._own / learner / f"{version:06d}", write)

    def remove_from(self, version: int) -> None:
        """Remove snapshots of `version` updates and more, and partially written ones."""
        for learner in _folders(self._own):
            remove_partial(learner)
            for folder in _folders(learner):
                if version_of(folder) >= version:
                    shutil.rmtree(folder)

    @property
    def has_earlier_run(self) -> bool:
        """Whether adapters of an earlier run were copied already."""
        return self._start.is_dir()

    def copy_earlier_run(self, given: Mapping[str, Sequence[Path]]) -> None:
        """Copy adapters for each learner, all of them or none."""

        def write(root: Path) -> None:
            for learner, folders in given.items():
                for folder in folders:
                    target = root / learner / label(folder, learner)
                    target.mkdir(parents=True)
                    for name in sorted(ADAPTER_FILES):
                        if name == BASE_FILE and not (folder / name).exists():
                            continue  # adapters of other programs have no such file
                        shutil.copyfile(folder / name, target / name)
                    write_manifest(target, whole=False)

        write_folder_atomically(self._start, write)


def find_adapters(folder: Path, learner: str) -> list[Path]:
    """The adapters for a learner below a folder: a run's `opponent_pool` or `checkpoints`, or any.

    Those in `LEARNER/*`, else those in `*/LEARNER`, else those in `*`. Raises `ComityError` if
    there is none, or if two would have the same label.
    """
    for pattern in (f"{learner}/*", f"*/{learner}", "*"):
        found = [p for p in sorted(folder.glob(pattern)) if (p / "adapter_config.json").is_file()]
        known: dict[str, Path] = {}
        for one in found:
            if (other := known.setdefault(label(one, learner), one)) != one:
                raise ComityError(
                    f"opponent_pool.initial_snapshots: '{other}' and '{one}' would both be called "
                    f"{label(one, learner)}; rename one"
                )
        if found:
            return found
    raise ComityError(
        f"opponent_pool.initial_snapshots: there is no adapter for the learner {learner!r} in the "
        f"folder '{folder}'; give a run's opponent_pool or checkpoints, or a folder of adapter "
        "folders"
    )


def label(folder: Path, learner: str) -> str:
    """The label of an adapter's folder: `000010` for `000010/main`, else its name."""
    name = folder.parent.name if folder.name == learner else folder.name
    # It becomes part of a module's name, where a dot is not allowed.
    return re.sub(r"[^\w-]", "_", name)


def version_of(folder: Path) -> int:
    """A snapshot's number of updates, from its folder's name; 0 if that is no number."""
    return int(folder.name) if folder.name.isdecimal() else 0


def _save(final: Path, write: Callable[[Path], None]) -> None:
    def whole(folder: Path) -> None:
        write(folder)
        write_manifest(folder, whole=False)

    write_folder_atomically(final, whole)


def _folders(root: Path) -> list[Path]:
    """The completely written folders in a folder, sorted by name."""
    if not root.is_dir():
        return []
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
