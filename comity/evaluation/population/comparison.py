"""Several populations side by side, from their summaries: `compare`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.evaluation.population.folder import character, payoffs_between
from comity.evaluation.population.units import apart, difference
from comity.evaluation.statistics import CONFIDENCE

Json = dict[str, Any]

OF_ALL = ("cooperation", "cooperative_selection", "chance_selection", "joint_CC", "joint_mixed",
          "joint_DD", "collective", "equality", "minimum", "gini")  # fmt: skip
OF_TYPES = ("payoff_per_game", "reward_per_game", "payoff_per_episode", "reward_per_episode",
            "cooperation", "cooperative_selection", "chosen_per_episode",
            "games_per_episode")  # fmt: skip
CUMULATIVE = ("cumulative_payoff", "cumulative_reward")
SELFISH = ("payoff_per_game", "payoff_per_episode", "cooperation", "chosen_per_episode")
PER_GAME = ("payoff_per_game",)
"""Payoffs that lie between the game's least and greatest."""
WINDOW = "last"
RANDOM_MATCHING = "random_matching"
UNNAMED = ("agents", "output", "sinks", "checkpoint.every", "checkpoint.keep", "name")
"""Overrides that change no numbers, or are named otherwise."""


def compare(summaries: Sequence[Json], names: Sequence[str]) -> Json:
    """The numbers of a page that compares populations.

    `summaries` as `summarize` returns them; `names` (of their folders) tell populations of one
    composition apart. Raises `ComityError` for fewer than two, or summaries of another kind.
    """
    if len(summaries) < 2:
        raise ComityError("a comparison needs at least two populations")
    for one in summaries:
        if one.get("kind") != "population":
            raise ComityError("a comparison needs summaries of populations")
    labels = _labels(summaries, names)
    summaries = _with_one_name(summaries)
    mains = [next(iter(one["conditions"])) for one in summaries]
    conditions = list(dict.fromkeys(key for one in summaries for key in one["conditions"]))
    return {
        "schema": 1,
        "kind": "population_comparison",
        "title": "Populations compared",
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "confidence": CONFIDENCE,
        "populations": [
            {
                "name": label, "composition": one["composition"], "folder": name, "main": main,
                "majority": majority(one), "agents": len(one["agents"]), "types": one["types"],
                "matching": one["matching"], "game": one["game"], "runs": one["runs"],
                "episodes": one["episodes"], "window": one["headline"]["window"],
                "bins": one["bins"], "notes": one["notes"],
            }
            for label, name, one, main in zip(labels, names, summaries, mains, strict=True)
        ],
        "conditions": {
            key: next(o["conditions"][key]["label"] for o in summaries if key in o["conditions"])
            for key in conditions
        },
        "metrics": {name: m for one in summaries for name, m in one["metrics"].items()},
        "whole": [_of_all(one) for one in summaries],
        "types": [_of_types(one) for one in summaries],
        "curves": [_curves(one) for one in summaries],
        "selfish": selfish(summaries, mains),
        "pairs": _pairs(summaries),
        "versions": summaries[0]["versions"],
    }  # fmt: skip


def _with_one_name(summaries: Sequence[Json]) -> list[Json]:
    """The summaries with populations under random matching under the name of that control.

    Where others have it as a control, one composition with random partners is one condition.
    """
    if not any(RANDOM_MATCHING in one["conditions"] for one in summaries):
        return list(summaries)

    def renamed(found: Json) -> Json:
        return {RANDOM_MATCHING if key == "random" else key: one for key, one in found.items()}

    keyed = ("conditions", "totals", "curves", "end_moves")
    return [
        {**one, **{part: renamed(one[part]) for part in keyed}}
        if "random" in one["conditions"]
        else one
        for one in summaries
    ]


def majority(summary: Json) -> str | None:
    """The type that more agents have than any other; None where there is none."""
    counts = Counter({one["name"]: one["count"] for one in summary["types"]})
    (first, most), *rest = counts.most_common()
    return first if most > 1 and (not rest or rest[0][1] < most) else None


def selfish(summaries: Sequence[Json], mains: Sequence[str]) -> Json:
    """The selfish learner S in each population: `rows`, and `differences` between populations.

    Where several agents are selfish, the mean over them. Differences are taken run by run, over
    the runs that both have: each population minus the one with a selfish majority, and the mean
    over prosocial and over antisocial majorities minus it.
    """
    places = [
        place
        for place, one in enumerate(summaries)
        if any(kind["name"] == "S" for kind in one["types"])
    ]
    rows = []
    for place in places:
        one, main = summaries[place], mains[place]
        count = next(kind["count"] for kind in one["types"] if kind["name"] == "S")
        most = majority(one)
        rows.append(
            {
                "population": place,
                "count": count,
                "majority": most,
                "character": None if most is None else character(most),
                "conditions": {
                    condition: _plain(found[WINDOW]["types"]["S"], SELFISH)
                    for condition, found in one["totals"].items()
                },
                "main": main,
            }
        )
    return {"rows": rows, "differences": _differences(summaries, rows) if rows else []}


def _differences(summaries: Sequence[Json], rows: Sequence[Json]) -> list[Json]:
    base = [row for row in rows if row["character"] == "selfish"]
    if len(base) != 1:
        return []
    own = summaries[base[0]["population"]]
    games = {payoffs_between(summaries[row["population"]]["game"]) for row in rows}
    bounds = apart(games.pop()) if len(games) == 1 else None
    found: list[Json] = []
    groups: list[tuple[str, str, list[Json]]] = []
    for kind in ("prosocial", "antisocial"):
        members = [row for row in rows if row["character"] == kind]
        if members:
            article = "an" if kind == "antisocial" else "a"
            counted = f"{len(members)} population{'s' if len(members) > 1 else ''}"
            groups.append((kind, f"{counted} with {article} {kind} majority", members))
    groups += [(f"population {row['population']}", "", [row]) for row in rows if row is not base[0]]
    for key, label, members in groups:
        for condition in own["totals"]:
            every = [summaries[row["population"]] for row in members]
            if not all(condition in one["totals"] for one in every):
                continue
            shared = sorted(set(own["runs"]).intersection(*(one["runs"] for one in every)))
            if not shared:
                continue
            for metric in ("payoff_per_game", "payoff_per_episode"):
                first = np.mean([_runs(one, condition, metric, shared) for one in every], axis=0)
                second = _runs(own, condition, metric, shared)
                found.append(
                    {
                        "key": key, "label": label, "condition": condition, "metric": metric,
                        "population": members[0]["population"] if not label else None,
                        **difference(first, second, bounds if metric in PER_GAME else None),
                    }
                )  # fmt: skip
    return found


def _runs(summary: Json, condition: str, metric: str, runs: Sequence[int]) -> np.ndarray:
    """Values of the type S in the last window, `[R]`."""
    own = summary["conditions"][condition]["runs"]
    values = summary["totals"][condition][WINDOW]["types"]["S"][metric]["by_run"]
    found = [values[own.index(run)] if run in own else None for run in runs]
    return np.array([np.nan if value is None else value for value in found], dtype=float)


def _of_all(summary: Json) -> Json:
    return {
        condition: _plain(found[WINDOW]["population"]["all"], OF_ALL)
        for condition, found in summary["totals"].items()
    }


def _of_types(summary: Json) -> Json:
    """By condition and type: estimates in the last window, and the ends of cumulative curves."""
    found: Json = {}
    for condition, totals in summary["totals"].items():
        found[condition] = {}
        for kind, estimates in totals[WINDOW]["types"].items():
            one = _plain(estimates, OF_TYPES)
            for name in CUMULATIVE:
                curve = summary["curves"][condition]["types"][kind][name]
                one[name] = {key: curve[key][-1] for key in ("mean", "low", "high")}
            found[condition][kind] = one
    return found


def _curves(summary: Json) -> Json:
    """Cooperation of the population and of its selfish learners, by condition."""
    found: Json = {}
    for condition, curves in summary["curves"].items():
        whole = curves["population"]["all"]["cooperation"]
        found[condition] = {
            "cooperation": {key: whole[key] for key in ("mean", "low", "high")},
            **(
                {"selfish": curves["types"]["S"]["payoff_per_game"]}
                if "S" in curves["types"]
                else {}
            ),
        }
    return found


def _pairs(summaries: Sequence[Json]) -> Json:
    """Where all populations are fixed pairs: estimates by own type and partner's type."""
    if not all(len(one["agents"]) == 2 and "fixed" in one["totals"] for one in summaries):
        return {}
    found: Json = {}
    for one in summaries:
        types = [agent["type"] for agent in one["agents"]]
        totals, last = one["totals"]["fixed"][WINDOW], one["end_moves"]["fixed"]["last"]
        for own, other in {(types[0], types[1]), (types[1], types[0])}:
            cell = _plain(
                totals["types"][own], ("cooperation", "payoff_per_game", "reward_per_game")
            )
            for name in CUMULATIVE:
                curve = one["curves"]["fixed"]["types"][own][name]
                cell[name] = {key: curve[key][-1] for key in ("mean", "low", "high")}
            cell |= {f"last_{joint}": last[joint] for joint in ("CC", "DD")}
            cell["last_mixed"] = totals["population"]["all"]["joint_mixed"]
            cell |= one["optima"].get("types", {}).get(own, {})
            found.setdefault(own, {}).setdefault(other, _without_runs(cell))
    return found


def _plain(estimates: Json, names: Sequence[str]) -> Json:
    return _without_runs({name: estimates[name] for name in names if name in estimates})


def _without_runs(estimates: Json) -> Json:
    return {
        name: {key: value for key, value in one.items() if key != "by_run"}
        for name, one in estimates.items()
    }


def _labels(summaries: Sequence[Json], names: Sequence[str]) -> list[str]:
    """Short names that tell the populations apart."""
    majorities = [majority(one) for one in summaries]
    if None not in majorities and len(set(majorities)) == len(majorities):
        counts = [max(kind["count"] for kind in one["types"]) for one in summaries]
        return [
            f"majority {most} ({count}\u00a0of\u00a0{len(one['agents'])})"
            for most, count, one in zip(majorities, counts, summaries, strict=True)
        ]
    compositions = [one["composition"] for one in summaries]
    if len(set(compositions)) < len(compositions):
        changed = _changes(summaries)
        if len(set(compositions)) > 1:
            both = zip(compositions, changed, strict=True)
            changed = [", ".join(part for part in one if part) for one in both]
        told_apart = all(changed) and len(set(changed)) == len(changed)
        return changed if told_apart else list(names)
    if all(len(one["agents"]) == 2 for one in summaries):
        return [" and ".join(agent["type"] for agent in one["agents"]) for one in summaries]
    return compositions


def _changes(summaries: Sequence[Json]) -> list[str]:
    """The settings in which populations differ as each was given them: "game=chicken".

    One that was not given a setting that others were has the value of its config.
    """
    given = [_given(one["config"]) for one in summaries]
    keys = dict.fromkeys(key for one in given for key in one if key not in UNNAMED)
    values = [
        {key: own.get(key) or _configured(one["config"], key) for key in keys}
        for own, one in zip(given, summaries, strict=True)
    ]
    differing = [key for key in keys if len({one[key] for one in values}) > 1]
    return [" ".join(f"{key}={one[key]}" for key in differing) for one in values]


def _given(config: Mapping[str, Any]) -> dict[str, str]:
    """The overrides of a population's command, by key."""
    composition = config.get("composition")
    overrides = composition.get("overrides") if isinstance(composition, dict) else None
    words = [str(one).lstrip("+~") for one in overrides or ()]
    return {key: value for key, _, value in (one.partition("=") for one in words)}


def _configured(config: Mapping[str, Any], key: str) -> str:
    """A setting's value; of a block with a name, the name."""
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return str(found.get("name", "") if isinstance(found, dict) else found)
