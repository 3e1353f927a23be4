"""Snapshots: what a learner's adapter was earlier in its run, kept as an opponent for later.

    opponent_pool/main/000010/
        adapter_model.safetensors, adapter_config.json  the learner `main` after 10 updates (PEFT)
        base.json                                       its base model
        manifest.json                                   size and SHA-256 of all of them
    opponent_pool-initial/main/000040/...               copied from an earlier run, likewise

A snapshot appears whole or not at all. Unlike checkpoints, from which a run continues, they are
all kept. A run that continues from iteration n forgets those of n updates and more, which it
takes again; so it has the same ones as a run that was never stopped.
"""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from comity.engines.local.identity import BASE_FILE
from comity.errors import ComityError, WorkError
from comity.files import remove_partial, write_folder_atomically, writing
from comity.learning.state.checkpoints import ADAPTER_FILES, damage, write_manifest

START = "start-"
"""What the labels of snapshots of an earlier run begin with."""


@dataclass(frozen=True)
class Snapshot:
    """One learner as it was once."""

    learner: str
    label: str
    """Updates that it had seen, in six digits; `start-` and a folder's name: an earlier run's."""
    version: int
    """Updates that it had seen."""
    folder: Path

    @property
    def handle(self) -> str:
        """Its adapter's name in the engine. (No learner's name has an @.)"""
        return f"{self.learner}@{self.label}"

    def check(self) -> None:
        """Raises `WorkError` unless its files are as they were written."""
        wrong = damage(self.folder)
        if wrong is not None:
            raise WorkError(f"the snapshot {self.folder} is damaged: {wrong}; bring it back")


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
        """Keep the adapter that `write` puts into the folder that it is given."""
        # One level after the other: the run's folder itself is never made anew.
        with writing(self._own):
            self._own.mkdir(exist_ok=True)
        _save(self._own / learner / f"{version:06d}", write)

    def forget_from(self, version: int) -> None:
        """Remove those of so many updates and more, and what was left half-written."""
        for learner in _folders(self._own):
            remove_partial(learner)
            for folder in _folders(learner):
                if version_of(folder) >= version:
                    shutil.rmtree(folder)

    @property
    def started(self) -> bool:
        """Adapters of an earlier run were copied already."""
        return self._start.is_dir()

    def start(self, given: Mapping[str, Sequence[Path]]) -> None:
        """Copy adapters for each learner, all of them or none."""

        def write(root: Path) -> None:
            for learner, folders in given.items():
                for folder in folders:
                    target = root / learner / label(folder, learner)
                    target.mkdir(parents=True)
                    for name in sorted(ADAPTER_FILES):
                        if name == BASE_FILE and not (folder / name).exists():
                            continue  # adapters of other programs have none
                        shutil.copyfile(folder / name, target / name)
                    write_manifest(target, whole=False)

        write_folder_atomically(self._start, write)


def find_adapters(folder: Path, learner: str) -> list[Path]:
    """The adapters for a learner below a folder: a run's `opponent_pool` or `checkpoints`, or any.

    Those in `LEARNER/*`, else those in `*/LEARNER`, else those in `*`. Raises `ComityError`
    where there is none, or where two would be called alike.
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
    """What tells an adapter's folder from others: `000010` of `000010/main`, else its name."""
    name = folder.parent.name if folder.name == learner else folder.name
    # A dot would not do in the name of a module of the model.
    return re.sub(r"[^\w-]", "_", name)


def version_of(folder: Path) -> int:
    """Updates that a snapshot had seen: the number that its folder is named by, else 0."""
    return int(folder.name) if folder.name.isdigit() else 0


def _save(final: Path, write: Callable[[Path], None]) -> None:
    def whole(folder: Path) -> None:
        write(folder)
        write_manifest(folder, whole=False)

    write_folder_atomically(final, whole)


def _folders(root: Path) -> list[Path]:
    """The finished folders in a folder, by name."""
    if not root.is_dir():
        return []
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
