"""Atomic file writes.

A file is written under a temporary name in its own folder, synced to disk and renamed: readers
see the old content or the new one, also after a kill or a power cut.
"""

import contextlib
import errno
import glob
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from comity.errors import WorkError

PARTIAL = ".tmp-"
"""Prefix of the names of unfinished files and folders."""

_HOST = re.sub(r"[^A-Za-z0-9.]", "_", platform.node())[:40] or "_"
"""This machine's name, in the names of its unfinished files."""

Content = bytes | str | Callable[[IO[bytes]], object]
"""What to write: bytes, text (UTF-8), or a function that writes into an open binary file."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an `OSError` while `path` is written into a `WorkError` with the free space."""
    try:
        yield
    except OSError as error:
        raise WorkError(
            f"cannot write {path}: {error.strerror or error} ({free_space(path)} free there)"
        ) from error


def free_space(path: Path) -> str:
    """Free disk space at the nearest existing folder above `path`, as text ("1.2 GB")."""
    folder = Path(path).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        free = float(shutil.disk_usage(folder).free)
    except OSError:
        return "unknown space"
    for unit in ("bytes", "kB", "MB"):
        if free < 1000:
            return f"{free:.0f} {unit}"
        free /= 1000
    return f"{free:.1f} GB"


def write_atomically(path: Path, content: Content) -> None:
    """Writes the whole file or nothing, in an existing folder.

    Missing folders are not created: a run folder that was moved would reappear in its old place.
    Partial files of killed writers of the same file are removed. On failure (a full disk, no
    permission) raises `WorkError`, removes the partial file and leaves an existing file unchanged.
    """
    path = Path(path)
    partial = _aside(path)
    with writing(path):
        _remove_left(path)
        try:
            with open(partial, "wb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            sync_folder(path.parent)
        finally:
            # The name exists after a failure only. If removing it fails too (a dead disk),
            # the first error must stay visible.
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def append_line(path: Path, text: str) -> None:
    """Appends a whole line or nothing, synced to disk on return. Raises `WorkError`."""
    line = memoryview(text.encode() + b"\n")
    with writing(path), open(path, "ab", buffering=0) as file:
        before = file.tell()
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError:
            # Half a line would corrupt the next one.
            with contextlib.suppress(OSError):
                os.truncate(path, before)
            raise


def write_folder_atomically(final: Path, write: Callable[[Path], None]) -> None:
    """Creates or replaces the folder `final`; `write` fills the temporary folder it is given.

    Synced to disk on return. Raises `WorkError` if it cannot be written, and whatever else `write`
    raises; the previous folder, if any, is then unchanged.
    """
    partial, replaced = _aside(final), _aside(final, "replaced-")
    with writing(final):
        try:
            final.parent.mkdir(exist_ok=True)
            partial.mkdir()
            write(partial)
            _sync_tree(partial)
            if final.exists():
                # A damaged checkpoint: the resumed run writes the same number again.
                final.rename(replaced)
            partial.rename(final)
            sync_folder(final.parent)
        except Exception as error:
            # safetensors reports a full disk as its own error, not as an OSError.
            if not isinstance(error, OSError) and "I/O error" in str(error):
                raise OSError(str(error)) from error
            raise
        finally:
            if replaced.exists() and not final.exists():
                replaced.rename(final)
            for leftover in (partial, replaced):
                shutil.rmtree(leftover, ignore_errors=True)


def sync_file(path: Path) -> None:
    """Syncs a written file to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Syncs a folder's entries to disk, so that a rename survives a power cut.

    Does nothing on file systems that support this for files only (some network ones).
    """
    try:
        sync_file(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def _sync_tree(folder: Path) -> None:
    """Syncs every file and folder below `folder` to disk."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            sync_file(path)
    sync_folder(folder)


def _remove_left(path: Path) -> None:
    """Removes partial files of killed writers of `path`."""
    for left in path.parent.glob(f"{PARTIAL}*-{glob.escape(path.name)}"):
        if _is_left(left.name, elsewhere=False):
            with contextlib.suppress(OSError):
                left.unlink()


def remove_partial(folder: Path, below: bool = False) -> None:
    """Removes partial files of interrupted writers in `folder`; with `below`, recursively.

    Only the folder's sole writer may call it. Files that a live process of this machine is
    writing stay.
    """
    folder = Path(folder)
    found = (folder.rglob if below else folder.glob)(f"{PARTIAL}*")
    for path in list(found):
        if _is_left(path.name, elsewhere=True):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def _aside(path: Path, more: str = "") -> Path:
    """The temporary name of a file or folder: host and process of its writer, then its name."""
    return path.with_name(f"{PARTIAL}{_HOST}-{os.getpid()}-{more}{path.name}")


def _is_left(name: str, elsewhere: bool) -> bool:
    """Whether the writer of a partial file is gone; `elsewhere`: the answer for other machines."""
    host, _, rest = name.removeprefix(PARTIAL).partition("-")
    process = rest.partition("-")[0]
    if host != _HOST or not process.isdigit():
        return elsewhere
    if int(process) == os.getpid():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False
