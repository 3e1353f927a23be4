"""Progress on a terminal: a bar with time left, cooperation and payoff; plain lines elsewhere.

Telling it never stops the work: where standard error takes nothing (a closed pipe, a full disk),
it is not told.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars


class Teller:
    """A text stream, standard error unless one is given, that swallows what cannot be written."""

    def __init__(self, stream: TextIO | None = None) -> None:
        # Kept, because rich puts another object into `sys.stderr` while it draws.
        self._stream = stream or sys.stderr

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        # ValueError: the stream was closed. None: it was when Python started.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return self._stream.isatty()
        return False

    def fileno(self) -> int:
        return self._stream.fileno()


def say(line: str) -> None:
    """One line on standard error, if it can be written."""
    stream = Teller()
    stream.write(f"{line}\n")
    stream.flush()


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


class Progress:
    """Where long work shows how far it is. A context manager."""

    def __init__(self) -> None:
        self.console = Console(file=Teller())  # type: ignore[arg-type]
        self._bars = Bars(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._bars.stop()

    def warn(self, message: str) -> None:
        """A line that stays."""
        self.console.print(f"warning: {message}", style="yellow", highlight=False, markup=False)

    def say(self, message: str) -> None:
        """A line that stays."""
        self.console.print(message, highlight=False, markup=False)

    @contextmanager
    def task(self, title: str, total: int, done: int = 0) -> Iterator["Task"]:
        """A piece of work of `total` parts, `done` of them finished before."""
        number = self._bars.add_task(title, total=total, completed=done, note="")
        try:
            yield Task(self, title, total, done, number)
        finally:
            self._bars.stop_task(number)


BETWEEN_LINES = 15.0
"""Seconds between the lines of many small parts, where there is no terminal."""


class Task:
    """One bar."""

    def __init__(self, progress: Progress, title: str, total: int, done: int, number: Any) -> None:
        self._progress = progress
        self._title, self._total, self._done = title, total, done
        self._number = number
        self._note = ""
        self._began = self._told = time.monotonic()
        self._first = done

    def playing(self, live: int, finished: int) -> None:
        """Matches are being played."""
        self._show(f"playing, {finished}/{live + finished} matches done")

    def learning(self) -> None:
        """Weights are being updated."""
        self._show("learning")

    def add(self, parts: int) -> None:
        """So many parts are finished, with nothing to tell of them."""
        self._done += parts
        self._progress._bars.update(self._number, advance=parts)
        if time.monotonic() - self._told >= BETWEEN_LINES or self._done == self._total:
            self._tell()

    def advance(self, metrics: Mapping[str, Any] | None = None) -> None:
        """One part is finished."""
        self._done += 1
        self._note = describe(metrics or {})
        self._progress._bars.update(self._number, advance=1, note=self._note)
        self._tell()

    def _tell(self) -> None:
        """A plain line where there is no terminal."""
        if self._progress.console.is_terminal or self._done == self._first:
            return
        self._told = time.monotonic()
        left = (self._told - self._began) / (self._done - self._first) * (self._total - self._done)
        count = f"{self._title}  {self._done}/{self._total}"
        line = "  ".join(part for part in (count, self._note, f"{left:.0f} s left") if part)
        say(line)

    def _show(self, what: str) -> None:
        note = f"{self._note}  ({what})" if self._note else f"({what})"
        self._progress._bars.update(self._number, note=note)


def describe(metrics: Mapping[str, Any]) -> str:
    """Cooperation and payoff in a few words."""
    parts = []
    if metrics.get("cooperation") is not None:
        parts.append(f"cooperation {metrics['cooperation']:.0%}")
    if metrics.get("payoff") is not None:
        parts.append(f"payoff {metrics['payoff']:.2f}")
    return "  ".join(parts)
