"""Records as Parquet: one explicit schema each for decisions and conversations.

A column is a field of `Decision` or `Conversation`, under its own name and in its order.
The file's metadata says which kind it holds and the version of the schema, and a reader
refuses anything else. A table may carry further columns (a cross-play adds `pairing`);
readers of records ignore them, `read_columns` returns them too.

The metadata also hold the SHA-256 of the whole file with zeros in that place. Readers of
a file check it first: a single changed bit, wherever it is, is an error.
"""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from comity.errors import ComityError, warn
from comity.files import write_atomically, writing
from comity.rollout.records import Conversation, Decision, Piece
from comity.safe_reading import read_bytes

VERSION = 5
"""Version of both schemas; raised when a column changes its name or meaning."""

CHECKSUM = b"comity.sha256"
"""Key of the metadata under which the checksum stands."""
_BEFORE = CHECKSUM + b"\x18\x40"
"""What stands before it in the file: the key, and the Thrift header of a text of 64 bytes."""
_EMPTY = b"0" * 64
FOOTER = 100_000
"""Bytes at the end of a file in which its metadata are."""
NOT_AGAIN = (
    "restore it from a copy (resuming the run rewrites only what is later than its newest "
    "checkpoint)"
)
"""What to do about a damaged file."""

INTEGER, REAL, TEXT, FLAG = pa.int64(), pa.float64(), pa.string(), pa.bool_()
INTEGERS, REALS, TEXTS = pa.list_(INTEGER), pa.list_(REAL), pa.list_(TEXT)
PIECES = pa.list_(pa.struct([("kind", TEXT), ("start", INTEGER), ("end", INTEGER), ("text", TEXT)]))

DECISION = pa.schema(
    [
        ("iteration", INTEGER),
        ("match", INTEGER),
        ("group", INTEGER),
        ("seed", INTEGER),
        ("seat", INTEGER),
        ("round", INTEGER),
        ("step", INTEGER),
        ("kind", TEXT),
        ("player", TEXT),
        ("adapter", TEXT),
        ("version", INTEGER),
        ("controller", TEXT),
        ("trained", FLAG),
        ("conversation", INTEGER),
        ("start", INTEGER),
        ("tokens", INTEGERS),
        ("logprob", REAL),
        ("token_logprobs", REALS),
        ("legal", TEXTS),
        ("probabilities", REALS),
        ("text", TEXT),
        ("move", INTEGER),
        ("move_name", TEXT),
        ("played", INTEGER),
        ("state", INTEGERS),
        ("payoff", REAL),
        ("reward", REAL),
        ("return_", REAL),
        ("advantage", REAL),
        ("lenient_move", INTEGER),
        ("parse_status", TEXT),
        ("normalized_reward", REAL),
        ("rewards", pa.map_(TEXT, REAL)),
        ("claim", INTEGERS),
        ("stock", INTEGERS),
        ("values", REALS),
        ("allocation", REALS),
        ("max_welfare", REAL),
        ("attempts", INTEGER),
        ("constrained", FLAG),
        ("message_as_read", TEXT),
        ("offsets", INTEGERS),
        ("grammar", TEXT),
        ("finish_reason", TEXT),
    ]
)

CONVERSATION = pa.schema(
    [
        ("iteration", INTEGER),
        ("conversation", INTEGER),
        ("match", INTEGER),
        ("seat", INTEGER),
        ("adapter", TEXT),
        ("ids", INTEGERS),
        ("pieces", PIECES),
    ]
)

SCHEMAS: dict[str, pa.Schema] = {"decision": DECISION, "conversation": CONVERSATION}


def decision_table(
    decisions: Sequence[Decision], extra: Mapping[str, Sequence[Any]] | None = None
) -> pa.Table:
    """A table of decisions; `extra` holds further columns, one value per decision."""
    return _table("decision", [vars(decision) for decision in decisions], extra)


def conversation_table(
    conversations: Sequence[Conversation], extra: Mapping[str, Sequence[Any]] | None = None
) -> pa.Table:
    """A table of conversations; `extra` holds further columns, one value per conversation."""
    rows = [{**vars(c), "pieces": [vars(piece) for piece in c.pieces]} for c in conversations]
    return _table("conversation", rows, extra)


def write_table(path: Path, table: pa.Table) -> str:
    """Writes Parquet (zstd) atomically, with its checksum, which is returned."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({CHECKSUM.decode(): _EMPTY.decode()})
    data = buffer.getvalue()
    place = _place(data)
    if place is None:
        raise ValueError("pyarrow writes metadata in another way than is known here")
    digest = hashlib.sha256(data).hexdigest()
    with writing(path):
        path.parent.mkdir(exist_ok=True)
    write_atomically(path, data[:place] + digest.encode() + data[place + len(_EMPTY) :])
    return digest


def open_table(path: Path) -> pq.ParquetFile:
    """A file of records whose checksum holds.

    Raises `ComityError` for a damaged file and for records of another schema version. A file that
    another program rewrote has no checksum: it is read, with a warning.
    """
    data = read_bytes(path)
    digest = _checked(path, data)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
    except (OSError, pa.ArrowException) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ComityError(f"{path} cannot be read as Parquet: {first}; {NOT_AGAIN}") from error
    version = (file.schema_arrow.metadata or {}).get(b"comity.schema_version")
    if version is not None:
        _check_version(path, version.decode())
    if digest is None:
        warn(
            f"{path} holds no checksum, so it was written by another program; damage to it would "
            "not be noticed"
        )
    return file


def checksum(path: Path) -> str:
    """The checksum of a file that `write_table` wrote; `ComityError` where it does not hold."""
    return _checked(path, read_bytes(path)) or "none"


def _checked(path: Path, data: bytes) -> str | None:
    """The checksum in a file's bytes; None: none. `ComityError` where it is not theirs."""
    place = _place(data)
    if place is None:
        # The same in other surroundings is a checksum whose surroundings are damaged.
        if re.search(b"@[0-9a-f]{64}|[0-9a-f]{64}\x00", data[-FOOTER:]):
            raise ComityError(f"{path} is damaged: its checksum is; {NOT_AGAIN}")
        return None
    stated = data[place : place + len(_EMPTY)]
    rest = memoryview(data)
    digest = hashlib.sha256(rest[:place])
    digest.update(_EMPTY)
    digest.update(rest[place + len(_EMPTY) :])
    if stated != digest.hexdigest().encode():
        raise ComityError(f"{path} is damaged: its checksum does not hold; {NOT_AGAIN}")
    return stated.decode()


def _place(data: bytes) -> int | None:
    """Where the checksum stands; None: nowhere."""
    # The metadata are the last thing in the file.
    found = data.rfind(_BEFORE)
    return None if found < 0 else found + len(_BEFORE)


def read_decisions(path: Path) -> list[Decision]:
    """All decisions of a file, in the order they were written."""
    names = [field.name for field in fields(Decision)]
    rows = _read("decision", path).select(names).to_pylist()
    return [Decision(**{**row, "rewards": dict(row["rewards"])}) for row in rows]


def read_conversations(path: Path) -> list[Conversation]:
    """All conversations of a file, in the order they were written."""
    names = [field.name for field in fields(Conversation)]
    rows = _read("conversation", path).select(names).to_pylist()
    for row in rows:
        row["pieces"] = [Piece(**piece) for piece in row["pieces"]]
    return [Conversation(**row) for row in rows]


def read_columns(path: Path, kind: str) -> dict[str, list[Any]]:
    """Every column of a file by name, further ones too; `kind`: a key of `SCHEMAS`."""
    columns: dict[str, list[Any]] = _read(kind, path).to_pydict()
    return columns


def _check_version(path: Path, version: str) -> None:
    """Raises `ComityError` unless records of this schema version can be read."""
    if version != str(VERSION):
        raise ComityError(
            f"{path} has schema version {version or 'none'}, this Comity reads {VERSION}; read it "
            "with the version of Comity in the run's versions.json, or run the experiment again"
        )


def _table(
    kind: str, rows: list[dict[str, Any]], extra: Mapping[str, Sequence[Any]] | None
) -> pa.Table:
    schema = SCHEMAS[kind].with_metadata(
        {"comity.kind": kind, "comity.schema_version": str(VERSION)}
    )
    columns = {name: [row[name] for row in rows] for name in schema.names}
    table = pa.table(columns, schema=schema)
    for name, values in (extra or {}).items():
        table = table.append_column(name, pa.array(values))
    return table


def _read(kind: str, path: Path) -> pa.Table:
    with open_table(path) as file:
        table = file.read()
    metadata = table.schema.metadata or {}
    found = metadata.get(b"comity.kind", b"").decode()
    version = metadata.get(b"comity.schema_version", b"").decode()
    if found != kind:
        raise ComityError(f"{path} holds no {kind} records (its kind: {found or 'none'})")
    _check_version(path, version)
    for field in SCHEMAS[kind]:
        if field.name not in table.column_names:
            raise ComityError(f"{path} lacks the column {field.name!r}")
        actual = table.schema.field(field.name).type
        if actual != field.type:
            raise ComityError(f"{path}: column {field.name!r} is {actual}, not {field.type}")
    return table
