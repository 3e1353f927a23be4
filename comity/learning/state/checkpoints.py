"""Checkpoints: written atomically, and loaded only if their checksums match.

    checkpoints/000010/manifest.json              size and SHA-256 of every other file
    checkpoints/000010/main/adapter_model.safetensors
    checkpoints/000010/main/adapter_config.json
    checkpoints/000010/...                        optimizer, counters, random states

A checkpoint is written into a temporary folder, synchronized to the disk and renamed. The last
few stay complete, so that a run can continue from an earlier one if the newest is damaged; of
older ones only the adapters are kept, so that past policies can be evaluated.
"""

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from comity.engines.local.identity import BASE_FILE
from comity.errors import ComityError, warn
from comity.files import remove_partial, write_atomically, write_folder_atomically, writing
from comity.safe_reading import read_object

MANIFEST = "manifest.json"
STATE = "state.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = frozenset({"adapter_model.safetensors", ADAPTER_CONFIG, BASE_FILE})
"""Files that are kept of old checkpoints: PEFT's, and the base model's identity."""

FORMAT = 1
"""Version of the manifest."""


@dataclass(frozen=True)
class SavedPolicies:
    """The adapters of a checkpoint."""

    number: int
    """Finished iterations."""
    folder: Path
    """Holds a folder for each learner."""
    skipped: tuple[str, ...]
    """Damage of newer checkpoints, which are skipped; empty: this is the newest."""


class Checkpoints:
    """The checkpoints of one run; for the process that holds the run's lock."""

    def __init__(
        self, folder: Path | str, keep: int = 2, warn: Callable[[str], None] = warn
    ) -> None:
        """`keep`: newest checkpoints that stay complete; `warn`: called for damaged ones."""
        if keep < 1:
            raise ComityError(f"checkpoint.keep: {keep} must be at least 1")
        self.folder = Path(folder)
        self.keep = keep
        self.warn = warn
        if self.folder.is_dir():
            remove_partial(self.folder)

    def save(self, iteration: int, write: Callable[[Path], None]) -> Path:
        """Saves the files that `write` puts into a given folder as checkpoint `iteration`.

        On return it is on the disk, and older ones are reduced to their adapters. Raises
        `WorkError` if it cannot be written; other errors of `write` pass through. In both cases
        earlier checkpoints are unchanged.
        """
        final = self.path(iteration)

        def whole(folder: Path) -> None:
            write(folder)
            write_manifest(folder, whole=True)

        write_folder_atomically(final, whole)
        with writing(final):
            self._thin()
        return final

    def numbers(self) -> list[int]:
        """Numbers of all checkpoints, complete or reduced, oldest first."""
        return numbers(self.folder)

    def latest(self) -> tuple[int, Path] | None:
        """The newest complete checkpoint that its manifest confirms, or None.

        Damaged ones are skipped with a warning that names the damage.
        """
        for number in reversed(self.numbers()):
            path = self.path(number)
            wrong = find_damage(path)
            if wrong is None:
                if _whole(path):
                    return number, path
            else:
                self.warn(f"checkpoint {path} is damaged ({wrong}); trying the one before it")
        return None

    def path(self, number: int) -> Path:
        """Folder of a checkpoint."""
        return self.folder / f"{number:06d}"

    def _thin(self) -> None:
        """Reduces all but the newest `keep` checkpoints to their adapters."""
        for number in self.numbers()[: -self.keep]:
            path = self.path(number)
            doomed = [
                p
                for p in path.rglob("*")
                if p.is_file() and p.name not in ADAPTER_FILES and p != path / MANIFEST
            ]
            if doomed or _whole(path):
                # The manifest first: if the process is killed in between, it lists no missing file.
                write_manifest(path, whole=False)
                for p in doomed:
                    p.unlink()


def newest_policies(run: Path) -> SavedPolicies:
    """The adapters of a run's newest checkpoint in which they are undamaged.

    Damage of other files is ignored. Warns if newer checkpoints were skipped. Raises
    `ComityError` if there is none.
    """
    folder = run / "checkpoints"
    skipped: list[str] = []
    for number in reversed(numbers(folder)):
        path = folder / f"{number:06d}"
        wrong = find_damage(path, ADAPTER_FILES)
        if wrong is None:
            if skipped:
                warn(f"{run}: the policies after {number} iterations are used: {skipped[0]}")
            return SavedPolicies(number, path, tuple(skipped))
        skipped.append(f"checkpoint {path.name} is damaged ({wrong})")
    damaged = f" ({skipped[0]})" if skipped else ""
    raise ComityError(f"{run} has no good checkpoint{damaged}; train it first")


def policies_at(run: Path, number: int) -> SavedPolicies:
    """The adapters of a run's checkpoint after `number` iterations.

    Raises `ComityError` where there is none, or one whose adapters are damaged.
    """
    folder = run / "checkpoints"
    path = folder / f"{number:06d}"
    if not path.is_dir():
        there = ", ".join(map(str, numbers(folder))) or "none"
        raise ComityError(f"{run} has no checkpoint after {number} iterations; it has: {there}")
    wrong = find_damage(path, ADAPTER_FILES)
    if wrong is not None:
        raise ComityError(f"checkpoint {path} is damaged ({wrong}); choose another")
    return SavedPolicies(number, path, ())


def numbers(folder: Path) -> list[int]:
    """Numbers of the checkpoints in a folder, complete or reduced, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal() and p.name.isascii())


def find_damage(path: Path, only: Collection[str] | None = None) -> str | None:
    """The damage of a checkpoint, in a few words; None if its manifest confirms it.

    `only`: names of files to check; damage of others is ignored.
    """
    try:
        manifest = read_object(path / MANIFEST)
        format_, files = manifest["format"], dict(manifest["files"])
        listed = {name: (e["size"], str(e["sha256"])) for name, e in files.items()}
    except (ComityError, ValueError, TypeError, KeyError):
        there = (path / MANIFEST).exists()
        return f"{MANIFEST} is unreadable" if there else f"it has no {MANIFEST}"
    if format_ != FORMAT:
        return f"{MANIFEST} has format {format_}, this Comity reads {FORMAT}"
    if only is not None and not listed:
        return f"{MANIFEST} lists no files"
    if (done := _iterations(path)) not in (None, path.name.lstrip("0") or "0"):
        return f"it is the one after {done} iterations"
    for name, (size, sha256) in listed.items():
        if only is not None and Path(name).name not in only:
            continue
        file = path / name
        try:
            if not file.resolve().is_relative_to(path.resolve()):
                return f"{MANIFEST} names {name}, which is not in the checkpoint"
            if file.stat().st_size != size:
                return f"{name} has {file.stat().st_size} bytes instead of {size}"
            if not file.is_file() or _checksum(file) != sha256:
                return f"{name} has another checksum"
        except FileNotFoundError:
            return f"{name} is missing"
        except (OSError, ValueError) as error:
            return f"{name} cannot be read: {getattr(error, 'strerror', None) or error}"
    return None


def _iterations(path: Path) -> str | None:
    """The iterations after which a run's checkpoint was made; None where it does not say."""
    try:
        found = read_object(path / STATE).get("iterations")
    except ComityError:  # Older ones hold adapters only.
        return None
    return None if found is None else str(found)


def _whole(path: Path) -> bool:
    """Whether the checkpoint is complete, so that a run can continue from it."""
    try:
        return bool(read_object(path / MANIFEST)["whole"])
    except (ComityError, KeyError):
        return False


def write_manifest(path: Path, *, whole: bool) -> None:
    """Writes sizes and checksums of the folder's files, for `find_damage`."""
    files = {
        p.relative_to(path).as_posix(): {"size": p.stat().st_size, "sha256": _checksum(p)}
        for p in sorted(path.rglob("*"))
        if p.is_file() and p != path / MANIFEST and (whole or p.name in ADAPTER_FILES)
    }
    manifest = {"format": FORMAT, "whole": whole, "files": files}
    write_atomically(path / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
