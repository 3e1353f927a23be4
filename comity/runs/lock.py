"""One writer at a time: a run's lock, which the system takes back when a process ends."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from comity.errors import ComityError, warn
from comity.files import writing

LOCK = ".lock"
"""Name of the locked file in a run's folder."""
WITHOUT_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}
"""What file systems say that have no locks (Lustre mounted without `flock`, some NFS)."""


def lock(path: Path) -> int:
    """Locks the run for this process and returns the lock's descriptor.

    Where the file system has no locks, it warns and continues.
    """
    file = path / LOCK
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
