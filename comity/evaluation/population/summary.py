"""All numbers of a population's page: `summarize` writes them to `summary.json`."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from comity.evaluation.population import folder as folders
from comity.evaluation.population.counts import AGENT_MATRICES, Counts, count
from comity.evaluation.population.folder import PopulationFolder
from comity.evaluation.population.headline import headline
from comity.evaluation.population.metrics import METRICS, Metric
from comity.evaluation.population.optima import OPTIMA, Reachable, optima
from comity.evaluation.population.pairs import relative_curves
from comity.evaluation.population.units import (
    AGENT_CURVES,
    chance_of_types,
    curves,
    end_moves,
    interactions,
    selection_matrices,
    totals,
    units_of,
)
from comity.evaluation.population.values import q_values, update_statistics
from comity.evaluation.population.windows import (
    Window,
    bin_ends,
    bin_width,
    default_windows,
    given_windows,
)
from comity.evaluation.statistics import CONFIDENCE
from comity.files import write_atomically

Json = dict[str, Any]

SCHEMA = 1
FILE = "summary.json"


def summarize(folder: Path, windows: Sequence[tuple[int, int]] = ()) -> Json:
    """The numbers of a population, also written to `summary.json` in its folder.

    `windows`: further stretches of episodes, (first, last), for matrices and totals. Raises
    `ComityError` where the folder holds no population or damaged records, `ValueError` for windows
    outside of the recorded episodes.
    """
    population = folders.open_population(folder)
    found = summary(population, windows)
    text = json.dumps(found, allow_nan=False, separators=(",", ":"))
    write_atomically(population.path / FILE, text)
    return found


def summary(population: PopulationFolder, stretches: Sequence[tuple[int, int]] = ()) -> Json:
    """The same without writing anything."""
    episodes = max(condition.episodes for condition in population.conditions)
    agents = len(population.agents)
    windows = default_windows(episodes, tenths=agents <= AGENT_MATRICES)
    windows += given_windows(stretches, episodes)
    counts = {
        condition.name: count(condition, population.type_of, windows, episodes)
        for condition in population.conditions
    }
    width = bin_width(episodes)
    ends = bin_ends(episodes, width)
    main = population.conditions[0]
    reachable = optima(population, counts[main.name].last)
    definitions: dict[str, Metric | Reachable] = {**METRICS, **(OPTIMA if reachable else {})}
    return {
        "schema": SCHEMA,
        "kind": "population",
        "title": population.composition,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "confidence": CONFIDENCE,
        "composition": population.composition,
        "agents": [
            {"index": a.index, "type": a.type, "kind": a.kind, "label": a.label}
            for a in population.agents
        ],
        "types": [
            {
                "name": name,
                "count": int((population.type_of == place).sum()),
                "character": folders.character(name),
            }
            for place, name in enumerate(population.types)
        ],
        "matching": population.about.get("matching", main.name),
        "iterations": population.about.get("iterations"),
        "episodes": episodes,
        "runs": list(main.runs),
        "game": population.about.get("game"),
        "about": dict(population.about),
        "config": dict(population.config),
        "versions": dict(population.versions),
        "conditions": {
            c.name: {
                "label": folders.CONDITIONS[c.name],
                "episodes": c.episodes,
                "runs": list(c.runs),
                "recorded": int(counts[c.name].bins.episodes.sum()),
                "games": int(counts[c.name].bins.joint.sum()),
            }
            for c in population.conditions
        },
        "bins": {"width": width, "ends": ends},
        "windows": [
            {"key": w.key, "label": w.label, "first": w.start, "last": w.stop - 1} for w in windows
        ],
        "metrics": {
            name: {"label": m.label, "definition": m.definition, "formula": m.formula,
                   "unit": m.unit, "source": m.source}
            for name, m in definitions.items()
        },
        "headline": headline(population, counts, windows),
        **_measured(population, counts, windows, width, ends),
        "chance_types": chance_of_types(population.type_of),
        "end_moves": {
            name: {"first": end_moves(one.first), "last": end_moves(one.last)}
            for name, one in counts.items()
        },
        "q_values": q_values(population),
        "optima": reachable,
        "update_statistics": update_statistics(population),
        "notes": _notes(population, counts),
    }  # fmt: skip


def _measured(
    population: PopulationFolder,
    counts: dict[str, Counts],
    windows: Sequence[Window],
    width: int,
    ends: Sequence[int],
) -> Json:
    """Curves, totals and matrices by condition."""
    payoffs = folders.payoff_bounds(population)
    levels = units_of(population.types, population.type_of)
    lengths = np.diff([-1, *ends]).astype(float)
    found: Json = {"curves": {}, "totals": {}, "selections": {}, "interactions": {}, "relative": {}}
    few = len(population.agents) <= AGENT_CURVES
    shared = len(population.types) < len(population.agents)
    for condition in population.conditions:
        name, one, chooses = condition.name, counts[condition.name], condition.chooses
        found["curves"][name] = {
            units.level: curves(one.bins, units, lengths, payoffs, chooses)
            for units in levels
            if units.level != "agents" or (few and shared)
        }
        at = {w.key: place for place, w in enumerate(windows)}
        found["totals"][name] = {
            key: {
                units.level: totals(one.windows, place, units, payoffs, chooses) for units in levels
            }
            for key, place in at.items()
            if not key.startswith("tenth")
        }
        found["interactions"][name] = {
            key: interactions(one.pairs, place, payoffs, population.types)
            for key, place in at.items()
        }
        if not chooses:
            found["relative"][name] = relative_curves(one.bins, lengths)
        else:
            found["selections"][name] = {
                key: selection_matrices(one.pairs, place) for key, place in at.items()
            }
    return found


def _notes(population: PopulationFolder, counts: dict[str, Counts]) -> list[str]:
    """What a reader has to know before the numbers."""
    notes = []
    main = population.conditions[0]
    if len(main.runs) == 1:
        notes.append(
            "One run: nothing shows how far another would be from it, so no number has an interval."
        )
    planned = population.about.get("iterations")
    if isinstance(planned, int) and main.episodes < planned:
        notes.append(f"{main.episodes} of {planned} episodes are recorded.")
    names = {condition.name for condition in population.conditions}
    missing = {"random_matching", "random_selection"} - names
    if main.name == "selection" and missing:
        labels = " and ".join(folders.CONDITIONS[name] for name in sorted(missing))
        notes.append(f"Not recorded, and so not drawn as a control: {labels}.")
    for condition in population.conditions:
        expected = condition.episodes * len(condition.runs)
        recorded = int(counts[condition.name].bins.episodes.sum())
        if recorded < expected:
            notes.append(
                f"{folders.CONDITIONS[condition.name].capitalize()}: {recorded} of {expected} "
                "episodes (all runs together) are recorded; the others are not counted."
            )
    return notes
