"""What was said and claimed in the matches of negotiations, from the decisions of a tournament."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from comity.rollout.record_files import open_table

Key = tuple[str, str, int]
COLUMNS = (
    *("row", "column", "repetition", "round", "step", "seat", "kind", "move", "move_name"),
    *("text", "message_as_read", "claim", "stock"),
)


@dataclass
class Spoken:
    """The talk of one match."""

    messages: dict[int, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    """By round: seat and text of each message, in the order in which they were sent."""
    answers: dict[tuple[int, int], str] = field(default_factory=dict)
    """By round and seat: the claim ("7 of 10 coins") or the response to one."""


def read_spoken(folder: Path, matches: Collection[Key], items: Sequence[str]) -> dict[Key, Spoken]:
    """The talk of some matches; without those of which no decisions were recorded.

    `matches`: row, column, repetition. `items`: names of what is divided.
    """
    wanted, found = set(matches), dict[Key, list[dict[str, object]]]()
    for path in sorted((folder / "decisions").glob("*.parquet")):
        with open_table(path) as file:
            table = file.read(columns=list(COLUMNS))
        for row in table.to_pylist():
            key = (row["row"], row["column"], row["repetition"])
            if key in wanted and row["kind"] in ("message", "claim", "respond"):
                found.setdefault(key, []).append(row)
    return {key: _spoken(rows, items) for key, rows in found.items()}


def _spoken(rows: list[dict[str, object]], items: Sequence[str]) -> Spoken:
    spoken = Spoken()
    for row in sorted(rows, key=lambda one: (one["round"], one["step"], one["seat"])):
        place = int(str(row["round"])), int(str(row["seat"]))
        if row["kind"] == "message":
            said = str(row["message_as_read"] or row["text"] or "")
            spoken.messages[place[0]].append((place[1], said))
        else:
            spoken.answers[place] = _answer(row, items)
    return spoken


def _answer(row: dict[str, object], items: Sequence[str]) -> str:
    """A claim or a response in words."""
    if int(str(row["move"])) < 0:
        return "illegal"
    if row["kind"] == "respond":
        return str(row["move_name"])
    claim, stock = row["claim"], row["stock"]
    assert isinstance(claim, list) and isinstance(stock, list)
    parts = zip(claim, stock, items, strict=True)
    return ", ".join(f"{units:g} of {of:g} {name}" for units, of, name in parts)
