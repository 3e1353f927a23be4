"""Reads files of untrusted origin, such as a shared run folder.

Refused with a one-line `ComityError` are: pipes and devices (reading could block forever),
files above a size limit, invalid text or JSON, and folders with symbolic links that point
outside (a run would write through them). For YAML see `comity.config.yaml_files`.
"""

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comity.errors import ComityError

MOST_JSON = 200_000_000
"""Largest size in bytes of a JSON file, or of a run's metrics."""


def refuse_links(folder: Path) -> None:
    """Raises `ComityError` for anything below `folder` that a run folder must not contain.

    That is symbolic links that are broken or point outside, and anything that is neither a
    regular file nor a folder.
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
                                f"{entry.path} is a link that points outside the folder; replace "
                                "it by its target"
                            )
                        if not os.path.exists(target):
                            raise ComityError(f"{entry.path} is a broken link; delete it")
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif not entry.is_file(follow_symlinks=False):
                        raise ComityError(
                            f"{entry.path} is not a regular file (a pipe, a socket or a device); "
                            "delete it"
                        )
    except OSError as error:
        raise ComityError(f"cannot list {folder}: {error.strerror}") from error


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The file's bytes; `most`: its largest allowed size in bytes."""
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ComityError(f"{path} is not a regular file")
        # O_NONBLOCK: do not block if it was replaced by a pipe in between.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if most is not None and size > most:
                raise ComityError(f"{path} is too large: {size} bytes, at most {most} allowed")
            return file.read()
    except FileNotFoundError:
        raise ComityError(f"{path} does not exist") from None
    except OSError as error:
        raise ComityError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # A NUL in its name.
        raise ComityError(f"{str(path)!r} is not a valid file name: {error}") from error


def read_text(path: Path, most: int | None = None) -> str:
    """The text of a UTF-8 file."""
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ComityError(f"{path} is not valid UTF-8 ({error.reason})") from error


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    try:
        return json.loads(read_text(path, MOST_JSON))
    except (ValueError, RecursionError) as error:
        raise ComityError(f"{path} is damaged: invalid JSON ({error})") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise ComityError(f"{path} is damaged: not a JSON object")
    return found


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's `metrics.jsonl`, iteration 0 first; empty before the first is done.

    A last line without a line break is ignored: its writer was killed, or is still writing.
    Any other invalid or missing line raises `ComityError`.
    """
    path = Path(run) / "metrics.jsonl"
    if not path.exists():
        return []
    *lines, unfinished = read_bytes(path, MOST_JSON).split(b"\n")
    del unfinished  # Empty where the last line is complete.
    return parse_metrics(path, lines)


def parse_metrics(path: Path, lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """The rows of lines of metrics, iteration 0 first; `path` is named in errors."""
    rows = []
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
            iteration = row["iteration"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ComityError(
                f"{path} is damaged: line {number + 1} is not a line of metrics"
            ) from None
        if iteration != number:
            raise ComityError(
                f"{path} is damaged: line {number + 1} is of iteration {iteration}, not {number}; "
                "lines are missing or were reordered"
            )
        rows.append(row)
    return rows
