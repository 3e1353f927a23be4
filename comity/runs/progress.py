"""Progress on a terminal: a line per piece of work with what it came to; plain lines elsewhere.

A line has as much as the terminal is wide for: the numbers stay longest, the bar and the words
go first.

Progress never stops the work: if standard error cannot be written (a closed pipe, a full disk),
nothing is shown.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import ProgressColumn
from rich.progress import Task as Bar
from rich.text import Text

from comity.distributed.environment import rank


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


def say(line: str, every_rank: bool = False) -> None:
    """One line on standard error, if it can be written.

    Of several ranks only the first one speaks, unless `every_rank`.
    """
    if rank() > 0 and not every_rank:
        return
    stream = Teller()
    stream.write(f"{line}\n")
    stream.flush()


@dataclass(frozen=True)
class Status:
    """What a line says about a piece of work."""

    title: str
    done: int
    total: int
    elapsed: float = 0.0
    """Seconds since it began here."""
    left: float | None = None
    """Seconds to go; None: not known yet."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Of the last part that was finished: a line of metrics.jsonl."""
    doing: str = ""
    beside: str = ""
    """Usage so far (tokens and cost of models behind an API)."""


def fitted(status: Status, width: int) -> str:
    """One line of at most `width` letters: the fullest that fits."""
    count, left = f"{status.done}/{status.total}", f"{clock(status.left)} left"
    long, short = describe(status.metrics), describe(status.metrics, short=True)
    long = "  ".join(part for part in (long, status.beside) if part)
    share = status.done / status.total if status.total else 1.0
    bar = "\u2588" * round(24 * share) + "\u2591" * (24 - round(24 * share))
    doing = f"({status.doing})" if status.doing else ""
    numbers = f"{count} {clock(status.left)} {short}".rstrip()
    lines = [
        "  ".join(part for part in parts if part)
        for parts in (
            (status.title, bar, count, clock(status.elapsed), left, long, doing),
            (status.title, bar, count, left, long),
            (status.title, count, left, long),
        )
    ]
    # The title gives way before the numbers do; a few letters of it still distinguish runs.
    lines.append(f"{status.title} {numbers}")
    room = width - len(numbers) - 1
    if room >= 4:
        lines.append(f"{status.title[: room - 1]}\u2026 {numbers}")
    lines += [numbers, f"{count} {short}", short or count]
    return next((line for line in lines if len(line) <= width), lines[-1][:width])


def clock(seconds: float | None) -> str:
    """75: "1:15"; 3675: "1:01:15"; None: "-:--"."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _Line(ProgressColumn):
    """A task in one line of the terminal's width."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Bar) -> Text:
        status = task.fields["status"]()
        return Text(fitted(status, self._console.width), no_wrap=True, overflow="crop")


class Progress:
    """Where long work shows how far it is. A context manager."""

    def __init__(self, quiet: bool = False) -> None:
        """`quiet`: only warnings are shown, because another process shows how far all is.

        Of several ranks only the first one shows anything.
        """
        self.quiet = quiet or rank() > 0
        self.console = Console(file=Teller())  # type: ignore[arg-type]
        self._bars = Bars(_Line(self.console), console=self.console)
        self._whole: Task | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.quiet:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal and not self.quiet:
            self._bars.stop()

    def warn(self, message: str) -> None:
        """A line that stays."""
        if rank() > 0:
            return
        self.console.print(
            f"warning: {message}", style="yellow", highlight=False, markup=False, soft_wrap=True
        )

    def say(self, message: str) -> None:
        """A line that stays."""
        if self.quiet:
            return
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def task(
        self, title: str, total: int, done: int = 0, beside: Callable[[], str] = str
    ) -> Iterator["Task"]:
        """A piece of work of `total` parts, `done` of them finished before.

        `beside`: usage so far, asked for whenever the line is drawn.
        """
        task = Task(self, title, total, done, beside)
        number = self._bars.add_task(title, total=None, status=task.status)
        try:
            yield task
        finally:
            self._bars.stop_task(number)

    @contextmanager
    def whole(self, title: str, total: int, done: int = 0) -> Iterator[None]:
        """Several pieces of work with `total` parts together: their lines show the time left."""
        with self.task(title, total, done) as task:
            self._whole = task
            try:
                yield
            finally:
                self._whole = None


BETWEEN_LINES = 15.0
"""Seconds between the lines of many small parts, where there is no terminal."""


class Task:
    """One piece of work."""

    def __init__(
        self, progress: Progress, title: str, total: int, done: int, beside: Callable[[], str] = str
    ) -> None:
        self._progress = progress
        self._title, self._total, self._done = title, total, done
        self._metrics: Mapping[str, Any] = {}
        self._doing = ""
        self._beside = beside
        self._began = self._told = time.monotonic()
        self._first = done

    def status(self) -> Status:
        """What the line says now."""
        elapsed = time.monotonic() - self._began
        return Status(
            *(self._title, self._done, self._total, elapsed, self.left()),
            *(self._metrics, self._doing, self._beside()),
        )

    def left(self) -> float | None:
        """Seconds to go at the pace so far; None before a part is finished."""
        if self._done == self._first:
            return None
        pace = (time.monotonic() - self._began) / (self._done - self._first)
        return pace * (self._total - self._done)

    def playing(self, live: int, finished: int) -> None:
        """Matches are being played."""
        self._doing = f"playing, {finished}/{live + finished} matches done"

    def learning(self) -> None:
        """Weights are being updated."""
        self._doing = "learning"

    def waiting(self, doing: str) -> None:
        """Others do the work; `doing`: how they stand. A line where there is no terminal."""
        changed = doing != self._doing
        self._doing = doing
        quiet = self._progress.console.is_terminal or self._progress.quiet
        if doing and changed and not quiet:
            say(f"{self._title}  {self._done}/{self._total}  ({doing})")

    def add(self, parts: int, metrics: Mapping[str, Any] | None = None) -> None:
        """So many parts are finished, without a line of their own; `metrics`: newer ones."""
        self._done += parts
        self._metrics = metrics or self._metrics
        if time.monotonic() - self._told >= BETWEEN_LINES or self._done == self._total:
            self._tell()

    def advance(self, metrics: Mapping[str, Any] | None = None) -> None:
        """One part is finished."""
        self._done += 1
        self._metrics, self._doing = metrics or {}, ""
        whole = self._progress._whole
        if whole is not None:
            whole._done += 1
        self._tell()

    def _tell(self) -> None:
        """A plain line where there is no terminal."""
        left = self.left()
        if self._progress.console.is_terminal or self._progress.quiet or left is None:
            return
        self._told = time.monotonic()
        count = f"{self._title}  {self._done}/{self._total}"
        parts = [count, describe(self._metrics), self._beside(), f"{left:.0f} s left"]
        whole = self._progress._whole
        if whole is not None and whole is not self and (all_left := whole.left()) is not None:
            parts.append(f"{whole._title}: {all_left:.0f} s left")
        say("  ".join(part for part in parts if part))


def describe(metrics: Mapping[str, Any], short: bool = False) -> str:
    """Cooperation, payoff and illegal answers in a few words, or in as few letters as can be."""
    shown = (
        ("cooperation", "C", ".0%"),
        ("payoff", "pay", ".2f"),
        ("illegal", "ill", ".0%"),
    )
    parts = [
        f"{brief if short else name} {metrics[name]:{form}}"
        for name, brief, form in shown
        if metrics.get(name) is not None
    ]
    return (" " if short else "  ").join(parts)
