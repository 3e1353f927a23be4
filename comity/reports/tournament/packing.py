"""A compact copy of a tournament for the page: estimates and transcripts as short lists."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, cast

from comity.errors import ComityError
from comity.reports import formats
from comity.reports.page.text_packing import Interner, front_code
from comity.reports.tournament.seats_format import SeatedTranscript
from comity.reports.tournament.summary_format import (
    Agent,
    Estimate,
    Metric,
    Pair,
    Player,
    Transcript,
)

Json = dict[str, Any]

TRANSCRIPT_BUDGET = 6_000_000
"""Characters that transcripts may take on a page; beyond, pairs keep fewer of them."""


class Names:
    """Places of the players' names; a name that is none of them is an error of the summary."""

    def __init__(self, players: Sequence[Player]) -> None:
        self.all = [player["name"] for player in players]
        self.places = {name: place for place, name in enumerate(self.all)}
        if len(self.places) != len(self.all):
            twice = next(name for name in self.all if self.all.count(name) > 1)
            raise ComityError(f"the summary has two players called {twice!r}; rename one of them")

    def __call__(self, name: str) -> int:
        if name not in self.places:
            raise ComityError(f"the summary has results of {name!r}, who is none of its players")
        return self.places[name]


def pack_results(
    pairs: Iterable[Pair],
    agents: Iterable[Agent],
    names: Names,
    metrics: Mapping[str, Metric],
    notes: Interner,
) -> Json:
    """`pairs`: [row, column, matches, identical, estimates]; `agents`: [agent, rank, estimates].

    Estimates are in the order of the metrics: [mean, low, high, n, index of the note], or 0.
    """

    def estimates(found: Mapping[str, Estimate]) -> list[Any]:
        return [_estimate(found.get(name), notes) for name in metrics]

    return {
        "pairs": [
            [
                names(p["row"]),
                names(p["column"]),
                p["matches"],
                int(p["identical"]),
                estimates(p["metrics"]),
            ]
            for p in pairs
        ],
        "agents": [[names(a["name"]), a["rank"], estimates(a["metrics"])] for a in agents],
    }


def _estimate(e: Estimate | None, notes: Interner) -> Any:
    if e is None:
        return 0
    return [*(short(e[key]) for key in ("mean", "low", "high")), e["n"], notes(e["note"])]


def short(value: float | None, digits: int = 8) -> float | int | None:
    """A number with at most so many significant digits; None for NaN and infinities."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 2**53 else rounded


def pack_transcripts(
    transcripts: Sequence[Transcript | SeatedTranscript],
    names: Names,
    budget: int = TRANSCRIPT_BUDGET,
) -> Json:
    """Transcripts whose rounds are indices into the different `outcomes` (moves and payoffs).

    Where all would take more than the budget, every pair keeps its first ones as far as it goes.
    """
    moves, outcomes, texts = Interner(), Interner(), Interner()
    by_pair: dict[tuple[int, ...], list[Transcript | SeatedTranscript]] = defaultdict(list)
    for one in transcripts:
        by_pair[_players(one, names)].append(one)
    turns = zip_longest(*by_pair.values())
    kept: dict[tuple[int, ...], list[Json]] = {pair: [] for pair in by_pair}
    used = 0
    for turn in turns:
        for pair, one in zip(by_pair, turn, strict=True):
            if one is None or used + texts.size + outcomes.size >= budget:
                continue
            packed = _transcript(one, moves, outcomes, texts)
            kept[pair].append(_who(one, names) | packed)
            used += len(json.dumps(packed))
    return {
        "moves": moves.values(),
        "outcomes": outcomes.values(),
        "texts": front_code(texts.values()),
        "matches": [match for pair in kept.values() for match in pair],
        "given": len(transcripts),
    }


def _who(one: Transcript | SeatedTranscript, names: Names) -> Json:
    """The places of a match's players: of a pair, or by seat."""
    if "seats" in one:
        return {"seats": [names(name) for name in cast(SeatedTranscript, one)["seats"]]}
    return {"row": names(one["row"]), "column": names(one["column"])}


def _players(one: Transcript | SeatedTranscript, names: Names) -> tuple[int, ...]:
    """The ordered pair, or the composition."""
    found = _who(one, names)
    return tuple(sorted(found["seats"])) if "seats" in found else tuple(found.values())


def _transcript(
    one: Transcript | SeatedTranscript, moves: Interner, outcomes: Interner, texts: Interner
) -> Json:
    rounds, messages = [], {}
    for number, played in enumerate(one["rounds"]):
        names = tuple(moves("" if m is None else formats.words(m)) for m in played["moves"])
        rounds.append(outcomes((names, tuple(short(p) for p in played["payoffs"]))))
        said = [[seat, texts(text)] for seat, text in played.get("messages", ())]
        if said:
            messages[str(number)] = said
    # As text: a seed may have more digits than JavaScript's numbers.
    packed: Json = {"seed": str(one["seed"]), "rounds": rounds}
    return {**packed, "messages": messages} if messages else packed
