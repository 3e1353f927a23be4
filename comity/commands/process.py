"""The command's process: standard streams that are closed or full, Ctrl-C, and warnings."""

import contextlib
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from comity.errors import ComityWarning, printable
from comity.runs.progress import say


def occupy_standard_streams() -> None:
    """Opens the null device in place of standard streams that are closed.

    The next file that is opened would get their numbers, and what libraries print would be
    written into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def settle(stream: TextIO | None) -> OSError | None:
    """Writes out what a standard stream holds back; the error where it cannot be, and is dropped.

    Python would try once more when it ends, and fail with exit code 120.
    """
    if stream is None or stream.closed:
        return None
    try:
        stream.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
            stream.flush()
        return error
    return None


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Ctrl-C raises `KeyboardInterrupt` as ever; the list is empty while there was none."""
    seen: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGINT, interrupt)
    except ValueError:  # Not in the main thread, where signals do not come.
        yield seen
        return
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Shows our own warnings as one line each, every time."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", ComityWarning)
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, ComityWarning):
                say(f"comity: warning: {printable(str(message))}")
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = show
        yield
