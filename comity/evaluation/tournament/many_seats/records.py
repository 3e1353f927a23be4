"""The matches of a tournament of N seats as Parquet: what every seat did and got, by round.

    matches/000000.parquet         one row per match, in the order of play

R rounds, N seats.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa

from comity.evaluation.tournament.records import MATCHES, as_plain, read_rows
from comity.rollout.record_files import write_table

VERSION = 1
"""Version of the schema; raised when a column changes its name or meaning."""

_MOVES = pa.list_(pa.list_(pa.int16()))
_COUNTS = pa.list_(pa.int64())

SCHEMA = pa.schema(
    [
        ("agents", pa.list_(pa.string())),
        ("repetition", pa.int64()),
        ("seed", pa.int64()),
        ("deterministic", pa.bool_()),
        ("intended", _MOVES),
        ("moves", _MOVES),
        ("payoffs", pa.list_(pa.list_(pa.float64()))),
        ("answers", _COUNTS),
        ("illegal", _COUNTS),
        ("refused", _COUNTS),
        ("cut_off", _COUNTS),
    ],
    metadata={"comity.kind": "match"},
)


@dataclass(frozen=True)
class SeatedMatch:
    """One match of a composition."""

    agents: Sequence[str]
    """The agent of each seat, `[N]`."""
    repetition: int
    """0..K-1; matches of one repetition share their environment seed and their order of seats."""
    seed: int
    """Environment seed."""
    deterministic: bool
    """Nothing in it is random: every repetition would be equal, and only one is stored."""
    intended: Sequence[Sequence[int]]
    """`[N][R]`: chosen moves; -1 illegal."""
    moves: Sequence[Sequence[int]]
    """`[N][R]`: played moves, after trembles and the rule for illegal answers; -1 none."""
    payoffs: Sequence[Sequence[float]]
    """`[N][R]`."""
    answers: Sequence[int]
    """`[N]`: answers that the game asked for."""
    illegal: Sequence[int]
    """`[N]`: answers that could not be read, without those that were refused or cut off."""
    refused: Sequence[int]
    """`[N]`: answers that a model behind an API or a content filter refused."""
    cut_off: Sequence[int]
    """`[N]`: answers that ended at the token limit of a model behind an API."""

    @property
    def composition(self) -> tuple[str, ...]:
        """Its agents, sorted."""
        return tuple(sorted(self.agents))

    @property
    def key(self) -> tuple[tuple[str, ...], int]:
        """What identifies it in the tournament."""
        return self.composition, self.repetition


def write_matches(folder: Path, number: int, matches: Sequence[SeatedMatch]) -> None:
    """Writes a batch of matches as file `number`; all of it or nothing."""
    columns = {
        field.name: [as_plain(getattr(match, field.name)) for match in matches]
        for field in fields(SeatedMatch)
    }
    metadata = {**(SCHEMA.metadata or {}), b"comity.seated_version": str(VERSION).encode()}
    table = pa.table(columns, schema=SCHEMA.with_metadata(metadata))
    write_table(folder / MATCHES / f"{number:06d}.parquet", table)


def read_matches(folder: Path) -> Iterable[SeatedMatch]:
    """All matches of a tournament, file by file.

    Raises `ComityError` for damaged files and for those of another version.
    """
    for row in read_rows(folder, b"comity.seated_version", VERSION):
        yield SeatedMatch(**row)
