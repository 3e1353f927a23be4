"""The matches of a tournament as Parquet: what both seats did and got, round by round.

    matches/000000.parquet         one row per match, in the order of play

Decisions and conversations of language models stand beside them in the files that every run has.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from comity.errors import ComityError
from comity.rollout.record_files import open_table, write_table

MATCHES = "matches"
"""The folder of the files."""
VERSION = 2
"""Version of the schema; raised when a column changes its name or meaning."""

_TEXT, _INTEGER = pa.string(), pa.int64()
_MOVES, _REALS, _FLAGS = pa.list_(pa.int16()), pa.list_(pa.float64()), pa.list_(pa.bool_())

SCHEMA = pa.schema(
    [
        ("row", _TEXT),
        ("column", _TEXT),
        ("repetition", _INTEGER),
        ("seed", _INTEGER),
        ("deterministic", pa.bool_()),
        ("intended_row", _MOVES),
        ("intended_column", _MOVES),
        ("moves_row", _MOVES),
        ("moves_column", _MOVES),
        ("payoffs_row", _REALS),
        ("payoffs_column", _REALS),
        ("illegal_row", _INTEGER),
        ("illegal_column", _INTEGER),
        ("deal", _FLAGS),
        ("surplus", _REALS),
        ("best_surplus", _REALS),
        ("answers_row", _INTEGER),
        ("answers_column", _INTEGER),
        ("refused_row", _INTEGER),
        ("refused_column", _INTEGER),
        ("cut_off_row", _INTEGER),
        ("cut_off_column", _INTEGER),
        ("reserve_row", _MOVES),
        ("reserve_column", _MOVES),
    ],
    metadata={"comity.kind": "match"},
)


@dataclass(frozen=True)
class StoredMatch:
    """One match of an ordered pair: the row's player on seat 0. R rounds."""

    row: str
    column: str
    repetition: int
    """0..N-1; matches of one repetition share their environment seed in all pairs."""
    seed: int
    """Environment seed."""
    deterministic: bool
    """Nothing in it is random: every repetition would be equal, and only one is stored."""
    intended_row: Sequence[int]
    """`[R]`: chosen moves; -1 illegal. Claims and messages: 0 legal."""
    intended_column: Sequence[int]
    moves_row: Sequence[int]
    """`[R]`: played moves, after trembles and the rule for illegal answers; -1 none."""
    moves_column: Sequence[int]
    payoffs_row: Sequence[float]
    """`[R]`."""
    payoffs_column: Sequence[float]
    illegal_row: int
    """Answers of any kind that could not be read, failed attempts not counted; without those of
    models behind an API that were refused or cut off."""
    illegal_column: int
    deal: Sequence[bool]
    """`[R]`, split games: whether the round ended in an allocation; () in others."""
    surplus: Sequence[float]
    """`[R]`, split games: points of both seats together."""
    best_surplus: Sequence[float]
    """`[R]`, split games: points of the best split for both together."""
    answers_row: int
    """Answers of any kind that the game asked for."""
    answers_column: int
    refused_row: int
    """Answers that a model behind an API or a content filter refused."""
    refused_column: int
    cut_off_row: int
    """Answers that ended at the token limit of a model behind an API."""
    cut_off_column: int
    reserve_row: Sequence[int] = ()
    """`[R]`, split games in which every seat is paid its own points: 1 where the claim or response
    brings the seat no more than no deal does, 0 where it brings more, -1 where there was no legal
    one. () in other games, and in files of versions before this column."""
    reserve_column: Sequence[int] = ()

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies it in the tournament."""
        return self.row, self.column, self.repetition


def write_matches(folder: Path, number: int, matches: Sequence[StoredMatch]) -> None:
    """Writes a batch of matches as file `number`; all of it or nothing."""
    columns = {
        field.name: [as_plain(getattr(match, field.name)) for match in matches]
        for field in fields(StoredMatch)
    }
    metadata = {**(SCHEMA.metadata or {}), b"comity.tournament_version": str(VERSION).encode()}
    table = pa.table(columns, schema=SCHEMA.with_metadata(metadata))
    write_table(folder / MATCHES / f"{number:06d}.parquet", table)


def read_matches(folder: Path) -> Iterable[StoredMatch]:
    """All matches of a tournament, file by file.

    Raises `ComityError` for damaged files and for those of another version.
    """
    for row in read_rows(folder, b"comity.tournament_version", VERSION):
        yield StoredMatch(**row)


def read_rows(folder: Path, key: bytes, version: int) -> Iterable[dict[str, Any]]:
    """The rows of all files of matches; `key`: of the version in the files' metadata.

    Raises `ComityError` for damaged files and for those of another version.
    """
    for path in match_files(folder):
        with open_table(path) as file:
            table = file.read()
        found = (table.schema.metadata or {}).get(key, b"").decode()
        if found != str(version):
            raise ComityError(
                f"{path} has version {found or 'none'} of tournament matches, this Comity reads "
                f"{version}; play the tournament again"
            )
        names = table.column_names
        for values in zip(*(table.column(name).to_pylist() for name in names), strict=True):
            yield dict(zip(names, values, strict=True))


def match_files(folder: Path) -> list[Path]:
    """The files of matches, in the order of play."""
    return sorted(p for p in (folder / MATCHES).glob("*.parquet") if p.stem.isdecimal())


def played_by(path: Path) -> set[str]:
    """The names of all players in a file of matches, of either kind of tournament."""
    with open_table(path) as file:
        names = [name for name in ("row", "column", "agents") if name in file.schema_arrow.names]
        table = file.read(columns=names)
    found: set[str] = set()
    for name in names:
        column = table.column(name)
        found |= set(pc.unique(pc.list_flatten(column) if name == "agents" else column).to_pylist())
    return found


def as_plain(value: object) -> object:
    """A value of a record as Parquet takes it."""
    return value.tolist() if isinstance(value, np.ndarray) else value
