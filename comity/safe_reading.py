"""Files that somebody else may have made, read without trust.

A run folder is copied, shared and broken. Here a file is refused that is none (a pipe would
never end), that is too large for what it should be, or that is no text or JSON; and a folder
with links that lead out of it, through which a run would write elsewhere. All of it is a
`ComityError` of one line. For YAML see `comity.config.yaml_files`.
"""

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comity.errors import ComityError

MOST_JSON = 200_000_000
"""Bytes of a JSON file, or of the metrics of a run."""


def refuse_links(folder: Path) -> None:
    """Raises `ComityError` for what a run folder must not hold, anywhere below it.

    That is links that lead out of it or nowhere, and what is neither a file nor a folder.
    """
    root = os.path.realpath(folder)
    pending = [root]
    try:
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        target = os.path.realpath(entry.path)
                        if os.path.commonpath([root, target]) != root:
                            raise ComityError(
                                f"{entry.path} is a link that leads out of the folder; put what "
                                "it links to in its place"
                            )
                        if not os.path.exists(target):
                            raise ComityError(
                                f"{entry.path} is a link that leads nowhere; take it away"
                            )
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif not entry.is_file(follow_symlinks=False):
                        raise ComityError(
                            f"{entry.path} is no ordinary file (a pipe, a socket or a device); "
                            "take it away"
                        )
    except OSError as error:
        raise ComityError(f"cannot look into {folder}: {error.strerror}") from error


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The whole file; `most`: bytes that it may have at most."""
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ComityError(f"{path} is no ordinary file")
        # Should it become a pipe in between, it is not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if most is not None and size > most:
                raise ComityError(f"{path} is too large to be what it should be: {size} bytes")
            return file.read()
    except FileNotFoundError:
        raise ComityError(f"{path} does not exist") from None
    except OSError as error:
        raise ComityError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # A NUL in its name.
        raise ComityError(f"{str(path)!r} is no name of a file: {error}") from error


def read_text(path: Path, most: int | None = None) -> str:
    """The text of a file in UTF-8."""
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ComityError(f"{path} is no text in UTF-8 ({error.reason})") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds."""
    try:
        return json.loads(read_text(path, MOST_JSON))
    except (ValueError, RecursionError) as error:
        raise ComityError(f"{path} is damaged: it is no JSON ({error})") from error


def read_object(path: Path) -> dict[str, Any]:
    """What a JSON file holds, which must be an object."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise ComityError(f"{path} is damaged: it holds no JSON object")
    return found


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; none if nothing has finished yet.

    They are those of iteration 0, 1, 2 and so on. The last line may be half-written (the
    writer was killed, or is writing): without its line break it does not count. Any other line
    that is broken or not there raises `ComityError`.
    """
    path = Path(run) / "metrics.jsonl"
    if not path.exists():
        return []
    *lines, unfinished = read_bytes(path, MOST_JSON).split(b"\n")
    del unfinished  # Empty where the last line is complete.
    return parse_metrics(path, lines)


def parse_metrics(path: Path, lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Lines of metrics, of iteration 0, 1, 2 and so on; `path` is for the complaint."""
    rows = []
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
            iteration = row["iteration"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ComityError(
                f"{path}: line {number + 1} is not a line of metrics; the file is damaged"
            ) from None
        if iteration != number:
            raise ComityError(
                f"{path}: line {number + 1} is of iteration {iteration}, not {number}; lines are "
                "missing or were moved"
            )
        rows.append(row)
    return rows
