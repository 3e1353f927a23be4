"""The few numbers that stand first on a population's page. Numbers only, no verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from comity.evaluation.population.counts import Counts
from comity.evaluation.population.folder import PopulationFolder, character, payoff_bounds
from comity.evaluation.population.intervals import means_over_runs
from comity.evaluation.population.metrics import denominators, ends, measure
from comity.evaluation.population.units import apart, difference, payoff_against, reaching
from comity.evaluation.population.windows import Window

Json = dict[str, Any]

SHOWN = ("cooperation", "cooperative_selection", "chance_selection", "collective", "equality",
         "minimum", "gini")  # fmt: skip
DIFFERENCES = {
    "above_chance": "Cooperative selection minus chance level",
    "above_matching": "Cooperation minus that under random matching",
}


def headline(
    population: PopulationFolder, counts: Mapping[str, Counts], windows: Sequence[Window]
) -> Json:
    """In the last window: `rows` of the population's metrics by condition, `differences` over
    runs, and `selfish`, what a selfish learner earns per game against partners of each character.
    """
    last = next(place for place, window in enumerate(windows) if window.key == "last")
    payoffs = payoff_bounds(population)
    everybody = np.ones((1, len(population.agents)))
    main = population.conditions[0].name
    values: dict[str, dict[str, np.ndarray]] = {}
    rows: Json = {}
    for kind in population.conditions:
        condition, one = kind.name, counts[kind.name]
        for name in SHOWN:
            if name.endswith("selection") and not kind.chooses:
                continue
            found = measure(name, one.windows, everybody)[:, last, 0]
            values.setdefault(name, {})[condition] = found
            n = denominators(name, one.windows, everybody)[last, 0]
            means = means_over_runs(found, reaching(ends(name, payoffs), found))
            rows.setdefault(name, {})[condition] = means.estimate((), n)
    return {
        "window": windows[last].label,
        "rows": rows,
        "differences": _differences(population, values, main),
        "selfish": _selfish(population, counts[main], last),
    }


def _differences(
    population: PopulationFolder, values: Mapping[str, Mapping[str, np.ndarray]], main: str
) -> Json:
    found: Json = {}
    taken = values.get("cooperative_selection", {})
    if main in taken:
        chance = values["chance_selection"][main]
        found["above_chance"] = difference(taken[main], chance, (-1.0, 1.0))
    runs = {condition.name: condition.runs for condition in population.conditions}
    if "random_matching" in runs and main == "selection":
        shared = sorted(set(runs[main]) & set(runs["random_matching"]))
        pair = [
            values["cooperation"][name][[runs[name].index(run) for run in shared]]
            for name in (main, "random_matching")
        ]
        found["above_matching"] = difference(pair[0], pair[1], (-1.0, 1.0))
    return {key: {"label": DIFFERENCES[key], **one} for key, one in found.items()}


def _selfish(population: PopulationFolder, counts: Counts, last: int) -> Json:
    """Payoff per game of the type S against prosocial, antisocial, selfish and fixed partners."""
    if "S" not in population.types:
        return {}
    row = population.types.index("S")
    by_kind: dict[str, list[int]] = {}
    for place, name in enumerate(population.types):
        by_kind.setdefault(character(name), []).append(place)
    found: Json = {}
    bounds = payoff_bounds(population)
    values = {}
    for kind, places in by_kind.items():
        paid = payoff_against(counts.pairs, last, row, places)
        if np.isfinite(paid).any():
            values[kind] = paid
            games = counts.pairs.games[last][:, row, places].sum()
            means = means_over_runs(paid, reaching(bounds, paid))
            found[kind] = means.estimate((), games)
    if "prosocial" in values:
        for kind in ("selfish", "antisocial"):
            if kind in values:
                gain = difference(values["prosocial"], values[kind], apart(bounds))
                found[f"prosocial_minus_{kind}"] = gain
    return found
