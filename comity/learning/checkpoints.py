"""Checkpoints: whole or not there, and believed only after their checksums are.

    checkpoints/000010/manifest.json              size and SHA-256 of every other file
    checkpoints/000010/main/adapter_model.safetensors
    checkpoints/000010/main/adapter_config.json
    checkpoints/000010/...                        optimizer, counters, random states

A checkpoint is written into a folder with a passing name, forced to the disk and renamed.
The last few stay complete, so that a run can continue from the one before if the newest is
damaged; of older ones only the adapters stay, so that a policy's history can be evaluated.
"""

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path

from comity.engines.identity import BASE_FILE
from comity.errors import ComityError
from comity.files import remove_partial, write_atomically, write_folder_atomically, writing

MANIFEST = "manifest.json"
ADAPTER_FILES = frozenset({"adapter_model.safetensors", "adapter_config.json", BASE_FILE})
"""What stays of a checkpoint that is not kept whole: PEFT's own names, and the base model's."""

FORMAT = 1
"""Version of the manifest."""


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)


class Checkpoints:
    """The checkpoints of one run; for the process that holds the run's lock."""

    def __init__(
        self, folder: Path | str, keep: int = 2, warn: Callable[[str], None] = _warn
    ) -> None:
        """`keep` newest ones stay whole; `warn` is told of checkpoints that are damaged."""
        if keep < 1:
            raise ComityError(f"checkpoint.keep: {keep} must be at least 1")
        self.folder = Path(folder)
        self.keep = keep
        self.warn = warn
        if self.folder.is_dir():
            remove_partial(self.folder)

    def save(self, iteration: int, write: Callable[[Path], None]) -> Path:
        """Keeps what `write` puts into the folder that it is given, as number `iteration`.

        On return it is on the disk and the oldest ones are thinned. Raises `WorkError` if
        it cannot be written; the checkpoints before it are then as they were. Whatever
        else `write` raises passes through, with the same promise.
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
        """Numbers of all checkpoints, whole or thinned, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdigit())

    def latest(self) -> tuple[int, Path] | None:
        """The newest whole checkpoint that its manifest confirms, or None.

        A damaged one is passed over with a warning that names what is wrong with it.
        """
        for number in reversed(self.numbers()):
            path = self.path(number)
            wrong = damage(path)
            if wrong is None:
                if _whole(path):
                    return number, path
            else:
                self.warn(f"checkpoint {path} is damaged ({wrong}); trying the one before it")
        return None

    def path(self, number: int) -> Path:
        """Where a checkpoint is."""
        return self.folder / f"{number:06d}"

    def _thin(self) -> None:
        """Leaves only the adapters of all but the newest `keep` undamaged-looking ones."""
        for number in self.numbers()[: -self.keep]:
            path = self.path(number)
            doomed = [
                p
                for p in path.rglob("*")
                if p.is_file() and p.name not in ADAPTER_FILES and p != path / MANIFEST
            ]
            if doomed or _whole(path):
                # The manifest first: killed in between, it does not miss what is gone.
                write_manifest(path, whole=False)
                for p in doomed:
                    p.unlink()


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None if its manifest confirms it."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        format_, files = manifest["format"], manifest["files"]
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (OSError, ValueError, TypeError, KeyError):
        return f"{MANIFEST} is unreadable"
    if format_ != FORMAT:
        return f"{MANIFEST} has format {format_}, this Comity reads {FORMAT}"
    for name, entry in files.items():
        file = path / name
        try:
            if file.stat().st_size != entry["size"]:
                return f"{name} has {file.stat().st_size} bytes instead of {entry['size']}"
            if _checksum(file) != entry["sha256"]:
                return f"{name} has another checksum"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def _whole(path: Path) -> bool:
    """The manifest says that the run can continue from here."""
    try:
        return bool(json.loads((path / MANIFEST).read_bytes())["whole"])
    except (OSError, ValueError, TypeError, KeyError):
        return False


def write_manifest(path: Path, *, whole: bool) -> None:
    """Writes down size and checksum of the folder's files; `damage` reads it."""
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
