"""Files that are never seen half-written.

A file is written aside in its own folder, forced to the disk and renamed; whoever reads
the name sees the old content or the new one, also after a kill or a power cut.
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
"""What the names of unfinished files and folders begin with."""

_HOST = re.sub(r"[^A-Za-z0-9.]", "_", platform.node())[:40] or "_"
"""This machine, in the names of its unfinished files."""

Content = bytes | str | Callable[[IO[bytes]], object]
"""What to write: bytes, text (UTF-8), or a function that writes into an open binary file."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an `OSError` while `path` is written into one line with the free space."""
    try:
        yield
    except OSError as error:
        raise WorkError(
            f"cannot write {path}: {error.strerror or error} ({free_space(path)} free there)"
        ) from error


def free_space(path: Path) -> str:
    """Free space, in words, on the disk of the nearest existing folder above `path`."""
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
    """Writes the whole file or nothing, in a folder that is there.

    A folder is never made on the way: one that was moved would be made anew in its old place.
    What killed processes left of the same file goes away. Raises `WorkError` (a full disk, no
    permission) after removing what was begun; the file that `path` named before is then still
    there, unchanged.
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
            # After a failure only: the rename has taken the name away otherwise. What
            # cannot be removed either (a dead disk) must not hide the first error.
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def append_line(path: Path, text: str) -> None:
    """Adds a line to a file, all of it or nothing; on the disk on return. Raises `WorkError`."""
    line = memoryview(text.encode() + b"\n")
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


def write_folder_atomically(final: Path, write: Callable[[Path], None]) -> None:
    """Makes the folder `final` of what `write` puts into the folder that it is given, or nothing.

    On return it is on the disk; it takes the place of a folder that was there before. Raises
    `WorkError` where it cannot be written, and whatever else `write` raises; there is then
    what was there before.
    """
    partial, replaced = _aside(final), _aside(final, "replaced-")
    with writing(final):
        try:
            final.parent.mkdir(exist_ok=True)
            partial.mkdir()
            write(partial)
            _sync_tree(partial)
            if final.exists():
                # A damaged or forgotten one; played again, its number comes back.
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
    """Forces a written file to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Forces a folder's list of names to the disk, so that a rename survives a power cut.

    Some file systems of networks know this for files only; there it is left out.
    """
    try:
        sync_file(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def _sync_tree(folder: Path) -> None:
    """Forces every file and folder below `folder` to the disk."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            sync_file(path)
    sync_folder(folder)


def _remove_left(path: Path) -> None:
    """Removes what killed processes left of a file."""
    for left in path.parent.glob(f"{PARTIAL}*-{glob.escape(path.name)}"):
        if _is_left(left.name, elsewhere=False):
            with contextlib.suppress(OSError):
                left.unlink()


def remove_partial(folder: Path, below: bool = False) -> None:
    """Removes what interrupted writers left in `folder`, with `below` in all folders below too.

    For a folder's one writer. What a process of this machine is writing stays.
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
    """Where a file or folder is written until it is whole; its name says by whom."""
    return path.with_name(f"{PARTIAL}{_HOST}-{os.getpid()}-{more}{path.name}")


def _is_left(name: str, elsewhere: bool) -> bool:
    """The writer of an unfinished file is gone; `elsewhere`: what to think of other machines'."""
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
