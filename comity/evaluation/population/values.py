"""Curves of values that are recorded by name: Q-values of tabular agents, update statistics."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from comity.errors import ComityError
from comity.evaluation.population.folder import PopulationFolder
from comity.evaluation.population.intervals import means_over_runs, numbers
from comity.evaluation.population.units import reaching

Json = dict[str, Any]

POINTS = 100
"""Most points of a curve; of more recorded episodes, evenly spaced ones are kept."""


def q_values(folder: PopulationFolder) -> Json:
    """Q-values over time: `episodes`, and by agent, state and action curves over runs.

    {} where none are recorded, or the population is no fixed pair.
    """
    if not folder.is_pair:
        return {}
    columns = ("condition", "run", "episode", "agent", "state", "action", "value")
    rows = read_columns(sorted((folder.path / "q_values").glob("*.parquet")), columns)
    if rows is None:
        return {}
    here = rows.pop("condition") == folder.conditions[0].name
    rows = {name: column[here] for name, column in rows.items()}
    keep = _thinned(rows["episode"])
    rows = {name: column[np.isin(rows["episode"], keep)] for name, column in rows.items()}
    found: Json = {}
    for agent in np.unique(rows["agent"]):
        for state in sorted(set(rows["state"][rows["agent"] == agent].tolist())):
            for action in np.unique(rows["action"]):
                here = (rows["agent"] == agent) & (rows["state"] == state)
                here &= rows["action"] == action
                if here.any():
                    curve = _curve(rows, here, keep)
                    found.setdefault(str(agent), {}).setdefault(str(state), {})[_action(action)] = (
                        curve
                    )
    names = folder.about.get("states", [])
    return {"episodes": [int(e) for e in keep], "states": names, "agents": found}


def update_statistics(folder: PopulationFolder) -> Json:
    """Statistics of the first condition's updates by name and type, averaged over its agents."""
    columns = ("condition", "run", "episode", "agent", "name", "value")
    rows = read_columns(sorted((folder.path / "statistics").glob("part-*.parquet")), columns)
    if rows is None:
        return {}
    here = rows.pop("condition") == folder.conditions[0].name
    rows = {name: column[here] for name, column in rows.items()}
    kinds = np.array(folder.type_of)[rows["agent"].astype(int)]
    found: Json = {}
    for name in sorted(set(rows["name"].tolist())):
        named = rows["name"] == name
        keep = _thinned(rows["episode"][named])
        kept = named & np.isin(rows["episode"], keep)
        curves = {
            kind: _curve(rows, kept & (kinds == place), keep, range_of(str(name)))
            for place, kind in enumerate(folder.types)
            if (kept & (kinds == place)).any()
        }
        found[str(name)] = {"episodes": [int(e) for e in keep], "types": curves}
    return found


def range_of(name: str) -> tuple[float, float] | None:
    """Least and greatest value that a statistic of updates can have; None: unknown."""
    if name.startswith("p_"):
        return 0.0, 1.0
    positive = name in ("decisions", "gradient_norm") or name.endswith("entropy")
    return (0.0, np.inf) if positive else None


def _curve(
    rows: dict[str, np.ndarray],
    here: np.ndarray,
    episodes: np.ndarray,
    bounds: tuple[float, float] | None = None,
) -> Json:
    """Means over runs, by episode, of the rows that are chosen."""
    runs, run = np.unique(rows["run"][here], return_inverse=True)
    at = np.searchsorted(episodes, rows["episode"][here])
    values = rows["value"][here].astype(float)
    known = np.isfinite(values)
    cell = (run * len(episodes) + at)[known]
    size = len(runs) * len(episodes)
    counted = np.bincount(cell, minlength=size)
    sums = np.bincount(cell, values[known], minlength=size)
    each = np.divide(sums, counted, out=np.full(size, np.nan), where=counted > 0)
    by_run = each.reshape(len(runs), len(episodes))
    means = means_over_runs(by_run, reaching(bounds, by_run))
    return {key: numbers(getattr(means, key), 5) for key in ("mean", "low", "high")}


def read_columns(paths: Sequence[Path], columns: Iterable[str]) -> dict[str, np.ndarray] | None:
    """Columns of several parts, one after the other; None where there are no rows."""
    tables = []
    for path in paths:
        try:
            tables.append(pq.read_table(path, columns=list(columns)))
        except (pa.ArrowException, OSError, KeyError) as error:
            raise ComityError(f"{path} cannot be read: {error}") from error
    whole = pa.concat_tables(tables) if tables else None
    if whole is None or not whole.num_rows:
        return None
    return {name: whole.column(name).to_numpy() for name in columns}


def _thinned(episodes: np.ndarray) -> np.ndarray:
    """The recorded episodes, at most `POINTS` of them, first and last included."""
    found = np.unique(episodes)
    if len(found) <= POINTS:
        return found
    return found[np.unique(np.linspace(0, len(found) - 1, POINTS).round().astype(int))]


def _action(action: Any) -> str:
    """The name of a move."""
    return {0: "C", 1: "D"}.get(action, str(action))
