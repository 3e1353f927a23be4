"""A compact copy of the matches for the page's browser of transcripts.

- Identical matches of one iteration (or pairing) are *folded*: one is kept, with the numbers
  of the others.
- Every text and every list of token ids is kept once, and only from where it departs from its
  neighbour in sorted order (front coding), so that shared prompt prefixes are stored once.
- Where all matches would be too much, a sample is kept: last and first iterations first, then
  ever finer steps in between, alternating with the pairings of the cross-play.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from comity.reports.loading.decisions import read_parquet
from comity.reports.loading.folders import ReportInputs, Run, learner_name
from comity.reports.page.text_packing import Interner, front_code

Json = dict[str, Any]
Row = dict[str, Any]

MATCHES_PER_CELL = 24
"""Distinct matches of one iteration of one run, or of one pairing, that are kept at most."""

COLUMNS = (
    "seat",
    "round",
    "step",
    "agent",
    "conversation",
    "piece",
    "tokens",
    "logprob",
    "legal",
    "probabilities",
    "text",
    "move",
    "name",
    "kind",
    "parse_status",
    "played",
    "payoff",
    "reward",
    "return_",
    "advantage",
    "trained",
    "extra",
)
"""Order of the values of a decision. `agent`, `legal`, `name`, `kind`, `parse_status`, `text`,
`tokens`, `conversation` and `extra` are indices into the tables beside; -1: none."""

EXTRA = (
    "claim",
    "stock",
    "values",
    "allocation",
    "max_welfare",
    "message_as_read",
    "attempts",
    "constrained",
    "controller",
)
"""Order of the values of an extra: what a split and its deal were, and how the answer came
about. `message_as_read` is an index into the texts."""
PIECES = {"prompt": 0, "answer": 1, "exploration": 2}
"""How kinds of the pieces of conversations are written."""
SETTLING = ("message", "claim", "respond")
"""Kinds of decisions that have an extra in any case."""

DECISION_COLUMNS = (
    "match",
    "seed",
    "seat",
    "round",
    "step",
    "kind",
    "player",
    "adapter",
    "version",
    "trained",
    "conversation",
    "start",
    "tokens",
    "logprob",
    "legal",
    "probabilities",
    "text",
    "move",
    "move_name",
    "parse_status",
    "played",
    "payoff",
    "reward",
    "return_",
    "advantage",
    *EXTRA,
)
CONVERSATION_COLUMNS = ("match", "conversation", "ids", "pieces")


class Collector:
    """Gathers matches until the budget is used up."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self.texts = Interner()
        self.ids = Interner()
        self.legal = Interner()
        self.names = Interner()
        self.agents = Interner()
        self.extras = Interner()
        self.conversations = Interner()
        self.matches: list[Json] = []
        self.played = 0
        """Matches that were played."""
        self.shown = 0
        """Matches that are kept or folded into a kept one."""

    @property
    def full(self) -> bool:
        tables = (self.texts, self.ids, self.conversations)
        return self.used + sum(table.size for table in tables) >= self.budget

    def add(self, head: Json, rows: list[Row], talks: dict[tuple[int, int], Row]) -> None:
        """Adds the matches of one cell: an iteration of a run, or a pairing."""
        matches: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            if row["controller"] == "live":
                row["player"] = learner_name(head["policy"], row["player"])
            matches[row["match"]].append(row)
        self.played += len(matches)
        folded: dict[Any, list[int]] = defaultdict(list)
        for number, decisions in matches.items():
            decisions.sort(key=lambda d: (d["round"], d["step"], d["seat"]))
            folded[_identity(decisions, talks)].append(number)
        often_first = sorted(folded.values(), key=lambda numbers: (-len(numbers), numbers[0]))
        for numbers in often_first[:MATCHES_PER_CELL]:
            if self.full:
                return
            kept = {**head, **self._match(matches[numbers[0]], talks)}
            kept["same"] = numbers
            self.matches.append(kept)
            self.shown += len(numbers)
            self.used += len(json.dumps(kept))

    def _match(self, decisions: list[Row], talks: dict[tuple[int, int], Row]) -> Json:
        players = {row["seat"]: row["player"] for row in decisions}
        return {
            "match": decisions[0]["match"],
            # As text: it may have more digits than JavaScript's numbers.
            "environment": str(decisions[0]["seed"]),
            "players": [players[seat] for seat in sorted(players)],
            "decisions": [self._decision(row, talks) for row in decisions],
        }

    def _decision(self, row: Row, talks: dict[tuple[int, int], Row]) -> list[Any]:
        talk = talks.get((row["match"], row["conversation"]))
        conversation, piece = self._conversation(talk, row["start"]) if talk else (-1, -1)
        probabilities = row["probabilities"] or []
        return [
            row["seat"],
            row["round"],
            row["step"],
            self.agents((row["player"], row["adapter"], row["version"])),
            conversation,
            piece,
            self.ids(tuple(row["tokens"])) if row["tokens"] else -1,
            _short(row["logprob"]),
            self.legal(tuple(row["legal"])) if row["legal"] else -1,
            [_short(probability) for probability in probabilities],
            self.texts(row["text"] or ""),
            row["move"],
            self.names(row["move_name"] or ""),
            self.names(row["kind"] or ""),
            self.names(row["parse_status"] or ""),
            row["played"],
            *(_short(row[key]) for key in ("payoff", "reward", "return_", "advantage")),
            int(row["trained"]),
            self._extra(row),
        ]

    def _extra(self, row: Row) -> int:
        """Index of what only some decisions have; -1: nothing of it."""
        plain = row["kind"] not in SETTLING and row["attempts"] == 1 and not row["constrained"]
        if plain and row["controller"] != "api":
            return -1
        lists = (tuple(_short(v) for v in row[name] or ()) for name in EXTRA[:4])
        best, said = _short(row["max_welfare"]), self.texts(row["message_as_read"] or "")
        how = row["attempts"], int(row["constrained"]), row["controller"] or ""
        return self.extras((*lists, best, said, *how))

    def _conversation(self, talk: Row, start: int) -> tuple[int, int]:
        """Index of a conversation, and of the piece in it that begins at token `start`."""
        flat: list[int] = []
        for piece in talk["pieces"]:
            first, end = piece["start"], piece["end"]
            ids = tuple(talk["ids"][first:end])
            flat += (PIECES.get(piece["kind"], 0), self.texts(piece["text"]), self.ids(ids))
        before = sum(piece["start"] < start for piece in talk["pieces"])
        return self.conversations(tuple(flat)), before

    def as_json(self) -> Json:
        return {
            "columns": COLUMNS,
            "texts": front_code(self.texts.values()),
            "ids": front_code(self.ids.values()),
            "legal": self.legal.values(),
            "names": self.names.values(),
            "agents": self.agents.values(),
            "extra": EXTRA,
            "extras": self.extras.values(),
            "conversations": self.conversations.values(),
            "matches": self.matches,
            "played": self.played,
            "shown": self.shown,
        }


def _identity(decisions: list[Row], talks: dict[tuple[int, int], Row]) -> Any:
    """Equal for matches with identical prompts, answers, moves and payoffs."""
    said = []
    for row in decisions:
        talk = talks.get((row["match"], row["conversation"]))
        # A growing conversation is identified by a hash of all its tokens.
        conversation = hash(tuple(talk["ids"])) if talk else None
        seen = (row["text"], tuple(row["tokens"] or ()), tuple(row["legal"] or ()))
        done = (row["move"], row["played"], row["payoff"])
        place = (row["seat"], row["round"], row["step"], row["player"], row["adapter"])
        sample_instance = tuple(tuple(row[name] or ()) for name in EXTRA[:4])
        how = (row["message_as_read"], row["attempts"], row["constrained"], row["controller"])
        said.append((place, seen, done, conversation, sample_instance, how))
    return tuple(said)


def _short(value: float | None) -> float | int | None:
    """Four significant digits; None for NaN and infinities, which JSON cannot hold."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded.is_integer() else rounded


Talks = dict[tuple[int, int], Row]
"""Conversations by (match, conversation)."""


@dataclass(frozen=True)
class Cell:
    """Matches that are folded together: an iteration of a run, or a pairing."""

    head: Json
    """What its matches have in common."""
    count: Callable[[], int]
    """Number of its matches, without reading them."""
    read: Callable[[], tuple[list[Row], Talks]]


def transcripts(inputs: ReportInputs, budget: int) -> Json:
    """Matches for the browser; `budget` is about the characters of JSON that they may take."""
    collector = Collector(budget)
    turns = zip_longest(_training_cells(inputs), _crossplay_cells(inputs))
    for cell in (cell for pair in turns for cell in pair if cell is not None):
        if collector.full:
            collector.played += cell.count()
        else:
            collector.add(cell.head, *cell.read())
    return collector.as_json()


def _training_cells(inputs: ReportInputs) -> Iterator[Cell]:
    for turn in zip_longest(*(_coarse_to_fine(run.iterations) for run in inputs.runs)):
        for run, iteration in zip(inputs.runs, turn, strict=True):
            if iteration is not None:
                yield Cell(
                    {"policy": run.policy, "seed": run.seed, "iteration": iteration, **_items(run)},
                    partial(_count, run.decisions(iteration)),
                    partial(_read, run.decisions(iteration), run.conversations(iteration)),
                )


def _items(run: Run) -> Json:
    """Names of what is split, where they are known."""
    return {"items": run.reference_policies["items"]} if "items" in run.reference_policies else {}


def _crossplay_cells(inputs: ReportInputs) -> Iterator[Cell]:
    """One cell a pairing; the pairings of the first seed come first."""
    if inputs.crossplay is None:
        return
    decisions = read_parquet(inputs.crossplay / "decisions.parquet", (*DECISION_COLUMNS, "pairing"))
    path = inputs.crossplay / "conversations.parquet"
    conversations = read_parquet(path, CONVERSATION_COLUMNS) if path.is_file() else None
    pairings = pc.unique(decisions["pairing"]).to_pylist()
    items = _items(inputs.runs[0]) if inputs.runs else {}
    for pairing in sorted(pairings, key=lambda pairing: int(pairing.rsplit("|", 1)[1])):
        row, column, seed = pairing.split("|")
        rows = decisions.filter(pc.equal(decisions["pairing"], pairing))
        matches = pc.unique(rows["match"])
        talks = None
        if conversations is not None:
            talks = conversations.filter(pc.is_in(conversations["match"], value_set=matches))
        yield Cell(
            {"policy": row, "opponent": column, "seed": int(seed), **items},
            partial(len, matches),
            partial(_listed, rows, talks),
        )


def _coarse_to_fine(iterations: Sequence[int]) -> list[int]:
    """Last, first, middle, quarters, ...: every iteration once."""
    count = len(iterations)
    places = [count - 1, 0]
    step = count
    while step > 1:
        step = (step + 1) // 2
        places += range(step, count, step)
    return [iterations[place] for place in dict.fromkeys(places)]


def _count(decisions: Path) -> int:
    return len(pc.unique(read_parquet(decisions, ("match",))["match"]))


def _read(decisions: Path, conversations: Path) -> tuple[list[Row], Talks]:
    rows = read_parquet(decisions, DECISION_COLUMNS)
    talks = read_parquet(conversations, CONVERSATION_COLUMNS) if conversations.is_file() else None
    return _listed(rows, talks)


def _listed(decisions: pa.Table, conversations: pa.Table | None) -> tuple[list[Row], Talks]:
    talks = [] if conversations is None else conversations.to_pylist()
    return decisions.to_pylist(), {(talk["match"], talk["conversation"]): talk for talk in talks}
