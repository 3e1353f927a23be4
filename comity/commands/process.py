"""The command's process: closed or full standard streams, Ctrl-C, and warnings."""

import contextlib
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from comity.errors import ComityError, ComityWarning, printable
from comity.runs.progress import say


class StoppedByUserError(ComityError):
    """The user pressed Ctrl-C; the text says how to continue."""

    exit_code = 130


@contextmanager
def resumable() -> Iterator[None]:
    """Turns Ctrl-C into one line that says how to continue: the interrupt's last note."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        notes = getattr(interrupt, "__notes__", [])
        hint = notes[-1] if notes else "nothing was saved yet"
        raise StoppedByUserError(f"interrupted; {hint}") from interrupt


def occupy_standard_streams() -> None:
    """Opens the null device in place of closed standard streams.

    Otherwise the next file to be opened would get their descriptors, and libraries' output
    would be written into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def flush_or_drop(stream: TextIO | None) -> OSError | None:
    """Flushes a standard stream; if that fails, drops its buffer and returns the error.

    Python would flush once more at exit, and fail with exit code 120.
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
    """Records each Ctrl-C in the yielded list, and raises `KeyboardInterrupt` as usual."""
    seen: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGINT, interrupt)
    except ValueError:  # Not in the main thread, which alone gets signals.
        yield seen
        return
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Shows every `ComityWarning` as one line, also when it is repeated."""
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
