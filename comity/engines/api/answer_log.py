"""The answer log: every answer of an endpoint, appended as it arrives.

It is what a killed run resumes from, and a cache. A record is found by a hash of the whole request
and of its place (match, seat, round, step, attempt), so that a changed prompt or parameter is asked
anew, and equal prompts in two matches are two answers. Transport failures are not in it: they are
asked again.
"""

import hashlib
import json
import operator
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import IO, Any

from comity.engines.api.outcomes import STATUSES, Completion
from comity.engines.api.usage import Totals, Usage
from comity.errors import WorkError


def answer_key(body: Mapping[str, Any], base_url: str, place: Sequence[int | str]) -> str:
    """The key of an answer, 32 hexadecimal digits.

    `body`: the whole request. `place`: identity of the match, seat, round, step, attempt.
    """
    whole = json.dumps([body, base_url, list(place)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


class AnswerLog:
    """Answers by key; in memory only, or also in a file (JSON lines).

    Of a file, only the positions of its records are kept in memory.
    """

    def __init__(self, path: Path | None = None, read_only: bool = False) -> None:
        """`read_only`: a half-written last line is left as it is, because it may be in work."""
        self.path = path
        self._lock = threading.Lock()
        self._memory: dict[str, dict[str, Any]] = {}
        self._places: dict[bytes, int] = {}
        self._file: IO[bytes] | None = None
        self._totals: dict[str, Totals] = {}
        if path is not None and path.exists():
            self._index(path, read_only)

    def _index(self, path: Path, read_only: bool) -> None:
        """Find the records; a last line that was half written is removed, unless `read_only`."""
        end = 0
        for start, line in _lines(path):
            if not line.endswith(b"\n"):
                break
            end = start + len(line)
            record = _record(line)
            if record is not None and bytes.fromhex(record["key"]) not in self._places:
                self._places[bytes.fromhex(record["key"])] = start
                self._count(record)
        if end < path.stat().st_size and not read_only:
            os.truncate(path, end)

    def __len__(self) -> int:
        return len(self._memory) + len(self._places)

    def find(self, key: str) -> Completion | None:
        """The answer to a request; None if it is not known."""
        record = self._memory.get(key)
        place = self._places.get(bytes.fromhex(key))
        if place is not None and self.path is not None:
            with self._lock, self.path.open("rb") as file:
                file.seek(place)
                record = _record(file.readline())
        return None if record is None else _completion(record)

    def totals(self, endpoint: str) -> Totals:
        """Sums over all answers of an endpoint (`Endpoint.name`)."""
        return self._totals.setdefault(endpoint, Totals())

    @property
    def cost(self) -> float:
        """US dollars of all answers, of all endpoints; 0 for endpoints without any known cost.

        An answer of which the server did not count the tokens is taken to cost what others of its
        endpoint do on average.
        """
        return sum(
            one.cost * one.answers / max(1, one.answers - one.unpriced)
            for one in self._totals.values()
        )

    def _count(self, record: Mapping[str, Any]) -> None:
        answer = _completion(record)
        endpoint, cost = str(record.get("endpoint", "")), record.get("cost")
        self.totals(endpoint).add(answer.status, answer.usage, cost)

    def append(self, key: str, answer: Completion, beside: Mapping[str, Any]) -> None:
        """Add an answer; `beside` is written with it: the `endpoint`, its `cost`, its place.

        Raises `WorkError` if it cannot be written.

        Flushed at once, so that a killed process loses nothing.
        """
        usage = None if answer.usage is None else asdict(answer.usage)
        record = {"key": key, **beside, **vars(answer), "usage": usage}
        with self._lock:
            self._count(record)
            if self.path is None:
                self._memory[key] = record
                return
            try:
                if self._file is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._file = self.path.open("ab")
                start = self._file.tell()
                self._file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
                self._file.flush()
            except OSError as error:
                raise WorkError(f"{self.path} cannot be written: {error}") from error
            self._places[bytes.fromhex(key)] = start

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with the positions where they begin."""
    start = 0
    with path.open("rb") as file:
        for line in file:
            yield start, line
            start += len(line)


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None for a line that is none."""
    try:
        record = json.loads(line)
        bytes.fromhex(record["key"])
        valid = isinstance(record["text"], str) and record["status"] in STATUSES
        _completion(record)
        cost = record.get("cost")
        known = cost is None or (isinstance(cost, int | float) and isfinite(cost))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if valid and known and len(record["key"]) == 32 else None


def _completion(record: Mapping[str, Any]) -> Completion:
    """The answer of a record; `TypeError` or `ValueError` for usage that is none."""
    usage = record.get("usage")
    if isinstance(usage, Mapping):
        usage = {name: operator.index(value) for name, value in usage.items()}
    return Completion(
        record["text"],
        record["status"],
        str(record.get("finish_reason", "")),
        Usage(**usage) if isinstance(usage, Mapping) else None,
        str(record.get("model", "")),
    )
