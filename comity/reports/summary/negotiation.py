"""Statistics of negotiation on the page of runs of split games.

Definitions are those of `comity.evaluation.negotiation.statistics`. Estimates are those of
`comity.reports.summary.estimates` with n matches; curves have one per recorded iteration, and
`last` is over the last iteration that all seeds have.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from comity.evaluation.negotiation.outcomes import (
    COLUMNS,
    NegotiationOutcomes,
    from_columns,
    is_split,
)
from comity.evaluation.negotiation.statistics import STATISTICS, applicable, counts
from comity.evaluation.payoff_ranges import (
    Range,
    max_units,
    payoff_range,
    requires_exact_claims,
    stored_game,
)
from comity.reports.loading.decisions import pairing_parts, read_parquet
from comity.reports.loading.folders import ReportInputs, Run, last_iterations
from comity.reports.summary.estimates import GROUPS, SHARE, Json, interval, over_opponents, together

NEEDED = (*(name for name in COLUMNS if name != "characters"), "message_as_read")

CURVES = (
    "payoff",
    "percent_of_max",
    "stock_claimed",
    "claim_higher",
    "claim_equal",
    "claim_lower",
    "agreement",
    "over_claimed",
    "messages",
    "exceeded",
    "characters",
    "tokens",
    "empty_messages",
    "illegal_messages",
    "illegal_claims",
    "retries",
    "constrained",
)
"""What is drawn over the iterations."""
IF_CHANGING = ("messages",)
"""Of these only what is not always the same, as it is where all seats write all messages."""

Part = tuple[NegotiationOutcomes, np.ndarray]
"""Answers, and which of them (bool `[D]`) are meant."""


def negotiation(inputs: ReportInputs, policies: Mapping[str, Json]) -> Json:
    """The whole section; `{}` without split games.

    `policies`: what `negotiation_curves` has for each learner. Besides them `crossplay` by
    player, `definitions` of what is counted, names of the `items`, and the exact `references`.
    """
    policies = {name: one for name, one in policies.items() if one}
    crossplay = {}
    if inputs.crossplay is not None:
        crossplay = _crossplay(inputs.crossplay / "decisions.parquet", stored_game(inputs.config))
    found = [*(one["last"] for one in policies.values()), *crossplay.get("players", {}).values()]
    if not found:
        return {}
    return {
        "definitions": {
            name: {"title": one.title, "text": one.text, "unit": one.unit}
            for name, one in STATISTICS.items()
            if any(described.get(name) for described in found)
        },
        "items": _common(run.reference_policies.get("items", []) for run in inputs.runs) or [],
        "expected_payoffs": _common(
            run.reference_policies.get("expected_payoffs", {}) for run in inputs.runs
        )
        or {},
        "policies": policies,
        "crossplay": crossplay,
    }


def negotiation_curves(runs: Sequence[Run], player: str) -> Json:
    """Curves and last iterations of the learner called `player`; `{}` unless it splits.

    `facing`: the last iteration by kind of opponent, where there are several. `seats`: by seat.
    """
    ends = last_iterations(list(runs))
    games = {run.seed: stored_game(run.config) for run in runs}
    bounds = bounds_of(list(games.values()))
    final = [_read(run.decisions(ends[str(run.seed)]), games[run.seed]) for run in runs]
    last = [(b, _of(b, player)) for b in final if b is not None]
    if len(last) < len(runs):
        return {}
    iterations = sorted({iteration for run in runs for iteration in run.iterations})
    have = _shared(b for b, _ in last)
    curves: dict[str, list[Json | None]] = {name: [] for name in CURVES}
    for iteration in iterations:
        found = [
            _read(run.decisions(iteration), games[run.seed])
            for run in runs
            if iteration in run.iterations
        ]
        parts = [(b, _of(b, player)) for b in found if b is not None]
        have &= _shared(b for b, _ in parts)
        at = _described([[part] for part in parts], have, bounds)
        for name, values in curves.items():
            values.append(at.get(name))
    kinds = sorted({str(kind) for b, who in last for kind in b.opponent_kind[who]})
    seats = sorted({int(seat) for b, who in last for seat in b.seat[who]})

    def described(**only: Any) -> Json:
        return _described([[(b, who & _where(b, only))] for b, who in last], have, bounds)

    return {
        "iteration": iterations,
        "curves": {
            n: values
            for n, values in curves.items()
            if n in have and any(values) and (n not in IF_CHANGING or _changes(values))
        },
        "last": described(),
        "by_opponent": {kind: described(opponent_kind=kind) for kind in kinds}
        if len(kinds) > 1
        else {},
        "by_seat": {str(seat): described(seat=seat) for seat in seats},
    }


def _changes(values: Sequence[Json | None]) -> bool:
    """A curve is no level line."""
    return len({one["mean"] for one in values if one}) > 1


def _where(b: NegotiationOutcomes, only: Mapping[str, Any]) -> np.ndarray:
    """bool `[D]`: the answers whose fields have these values."""
    found = b.all_answers
    for name, value in only.items():
        found = found & (getattr(b, name) == value)
    return found


def _of(b: NegotiationOutcomes, player: str) -> np.ndarray:
    """The answers of a learner that count as trained; of any player if there is no learner."""
    return np.asarray((b.trained | (not b.trained.any())) & (b.player == player))


def _shared(several: Iterable[NegotiationOutcomes]) -> set[str]:
    """Statistics that all have."""
    found = [set(applicable(b)) for b in several]
    return set.intersection(*found) if found else set()


Bounds = Mapping[str, Range | None]
"""Range of each statistic."""


def bounds_of(games: Sequence[Any]) -> dict[str, Range | None]:
    """The range of every statistic in these games; None where it is not known, or they differ."""
    paid, units = ({of(game) for game in games} for of in (payoff_range, max_units))
    known: dict[str, Range | None] = {
        "points": paid.pop() if len(paid) == 1 else None,
        "units": units.pop() if len(units) == 1 else None,
        "share": SHARE,
    }
    # What is counted has no known most; who takes more than the own best share has more than 1.
    found = {name: known.get(one.unit, (0.0, np.inf)) for name, one in STATISTICS.items()}
    return {**found, "own_share": (0.0, np.inf)}


def _described(seeds: Sequence[Sequence[Part]], names: set[str], bounds: Bounds) -> Json:
    """Estimates over the seeds, each with what was played under it."""
    return {name: _estimated(name, seeds, bounds) for name in STATISTICS if name in names}


def _estimated(statistic: str, seeds: Sequence[Sequence[Part]], bounds: Bounds) -> Json | None:
    """Mean over seeds, or over one seed's groups of matches; n counts matches."""
    by_seed, n, over = [], 0, ""
    for parts in seeds:
        counted = np.concatenate([counts(b, statistic, who) for b, who in parts])
        groups = np.concatenate([b.group[np.unique(b.match[who])] for b, who in parts])
        sums, over = together(counted, groups, np.arange(len(counted)))
        by_seed.append(sums)
        n += len(counted)
    found = interval(by_seed, bounds[statistic], over)
    # Where denominators are points or units, their sum says nothing.
    return found and {**found, "n": n}


def _crossplay(path: Path, game: Any = None) -> Json:
    """`players`: statistics of each against all; `percent_of_max`: `{row: {column: ...}}`."""
    raw = read_parquet(path, (*NEEDED, "pairing"))
    if not is_split(pc.unique(raw["kind"]).to_pylist()):
        return {}
    met = {}
    for pairing in pc.unique(raw["pairing"]).to_pylist():
        key, rows = pairing_parts(pairing, path), raw.filter(pc.equal(raw["pairing"], pairing))
        met[key] = _outcomes(rows, game)
    have, bounds = _shared(met.values()), bounds_of([game])
    names = dict.fromkeys(name for row, column, _ in met for name in (row, column))

    def of_pair(keys: Iterable[tuple[str, str, int]]) -> Any:
        """What both players had together."""
        parts: dict[int, list[Part]] = {}
        for key in keys:
            parts.setdefault(key[2], []).append((met[key], met[key].all_answers))
        return _estimated("percent_of_max", list(parts.values()), bounds)

    def of_player(statistic: str, name: str) -> Any:
        """Of its answers against all, whom it met weighing the same."""
        rows = []
        for (row, column, seed), b in met.items():
            if name in (row, column):
                who = b.player == name
                counted = counts(b, statistic, who)
                groups = b.group[np.unique(b.match[who])]
                other = column if row == name else row
                rows += [(*pair, seed, g, other) for pair, g in zip(counted, groups, strict=True)]
        top, bottom, seeds, groups, others = (np.array(part) for part in zip(*rows, strict=True))
        values = over_opponents(np.stack([top, bottom], axis=1), seeds, groups, others)
        found = interval(values, bounds[statistic], GROUPS)
        return found and {**found, "n": len(rows)}

    cells: dict[str, Json] = {name: {} for name in names}
    for row, column in dict.fromkeys((row, column) for row, column, _ in met):
        keys = [key for key in met if key[:2] == (row, column)]
        cells[row][column] = cells[column][row] = of_pair(keys)
    players = {
        name: {
            statistic: of_player(statistic, name) for statistic in STATISTICS if statistic in have
        }
        for name in names
    }
    return {"players": players, "percent_of_max": cells}


def _read(path: Path, game: Any) -> NegotiationOutcomes | None:
    """The answers of an iteration; None where the game is no split game."""
    if not is_split(pc.unique(read_parquet(path, ("kind",))["kind"]).to_pylist()):
        return None
    return _outcomes(read_parquet(path, NEEDED), game)


def _outcomes(raw: pa.Table, game: Any) -> NegotiationOutcomes:
    columns: dict[str, Any] = {name: raw[name].to_pylist() for name in NEEDED if name != "tokens"}
    columns["characters"] = pc.utf8_length(raw["message_as_read"]).to_pylist()
    columns["tokens"] = pc.list_value_length(raw["tokens"]).to_pylist()
    return from_columns(columns, requires_exact_claims(game))


def _common(values: Iterable[Any]) -> Any:
    """What all runs share; None where they differ or there is none."""
    found = list(values)
    return found[0] if found and all(value == found[0] for value in found) else None


def columns(section: Json) -> Json:
    """What the page's tables show: columns of `title`, `policy`, `part`, `described`.

    `columns`: the learners, all opponents together and kind by kind (without learners, the
    cross-play's players); `seat_columns`; `cross_columns`; exact `references` by statistic.
    """
    if not section:
        return {"expected_payoffs": {}}
    policies, players = section["policies"], section["crossplay"].get("players", {})
    main, seats = [], []
    for name, one in policies.items():
        main.append(_column(name, "all opponents" if one["by_opponent"] else "", one["last"]))
        main += [_column(name, f"against {kind}", of) for kind, of in one["by_opponent"].items()]
        if len(one["by_seat"]) > 1:
            seats += [_column(name, f"seat {seat}", of) for seat, of in one["by_seat"].items()]
    cross = [_column(name, "", described) for name, described in players.items()]
    return {
        "columns": main or cross,
        "seat_columns": seats,
        "cross_columns": cross,
        "expected_payoffs": {
            title: _exact(section["expected_payoffs"][key])
            for title, key in (("welfare maximum", "cooperators"), ("greedy pair", "greedy"))
            if section["expected_payoffs"].get(key)
        },
    }


def _exact(reference: Json) -> Json:
    """A reference by statistic; points of several seats are averaged."""
    names = {"payoff": "points", "efficiency": "e1", "percent_of_max": "e2"}
    known = {name: reference.get(key) for name, key in names.items()}
    return {name: float(np.mean(value)) for name, value in known.items() if value is not None}


def _column(policy: str, part: str, described: Json) -> Json:
    return {"title": policy, "policy": policy, "part": part, "described": described}
