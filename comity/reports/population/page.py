"""The page of a population: one HTML file that works offline."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comity.errors import ComityError
from comity.evaluation.population.optima import OPTIMA
from comity.evaluation.population.summary import FILE, SCHEMA, summarize
from comity.reports.page.citation import settings_yaml
from comity.reports.population import parts
from comity.reports.tournament.page_parts import write

Json = dict[str, Any]

SCRIPTS = (
    "population/curves.js",
    "population/selection.js",
    "population/network.js",
    "population/pair.js",
    "population/population.js",
)
WINDOWS = ("last", "first", "all")
"""Windows of the table of types, in its order."""
OF_TYPES = (
    "cooperation", "cooperative_selection", "payoff_per_game", "reward_per_game",
    "payoff_per_episode", "games_per_episode", "chosen_per_episode", "illegal_moves",
    "illegal_selections",
)  # fmt: skip


def write_page(folder: Path) -> Path:
    """Writes `report.html` of a population from its `summary.json`; returns the page's path.

    The summary is made first where there is none, or where games were recorded after it. Equal
    summaries give equal bytes. Raises `ComityError` where the folder holds no population.
    """
    return write(render(load(Path(folder))), Path(folder))


def load(folder: Path) -> Json:
    """The summary of a population, made where it is missing or older than the records."""
    path = folder / FILE
    try:
        made = path.stat().st_mtime_ns
        newest = max(p.stat().st_mtime_ns for p in folder.glob("games/*/part-*.parquet"))
        if newest <= made:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.get("kind") == "population" and found.get("schema") == SCHEMA:
                return dict(found)
    except (OSError, ValueError, AttributeError):
        pass
    return summarize(folder)


def render(summary: Mapping[str, Any]) -> str:
    """The page as text."""
    if summary.get("kind") != "population":
        raise ComityError(f"this is no summary of a population, but of {summary.get('kind')!r}")
    names = list(summary["conditions"])
    main = names[0]
    pair = main == "fixed"
    totals = {window: summary["totals"][main][window]["types"] for window in WINDOWS}
    kinds = Counter(agent["kind"].replace("_", " ") for agent in summary["agents"])
    return parts.render(
        "population/population.html",
        dict(summary),
        SCRIPTS,
        summary=summary,
        main=main,
        pair=pair,
        chooses=not pair,
        labels={name: one["label"] for name, one in summary["conditions"].items()},
        window_labels={w["key"]: w["label"] for w in summary["windows"]},
        totals=totals,
        reachable=list(OPTIMA),
        of_types=[
            name
            for name in OF_TYPES
            if any(_seen(name, one.get(name)) for one in totals["all"].values())
        ],
        kinds=", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        characters=_characters(summary),
        game=parts.game_words(summary["game"]),
        methods=parts.methods(summary),
        bibtex=parts.bibtex(str(summary["versions"].get("comity") or ""), [pair]),
        settings=settings_yaml(summary["config"]) if summary["config"] else "",
        command=summary["versions"].get("command"),
    )


def _seen(name: str, estimate: Mapping[str, Any] | None) -> bool:
    """Whether a column says anything: illegal answers only where there were any."""
    if estimate is None or estimate["mean"] is None:
        return False
    return not name.startswith("illegal") or estimate["mean"] > 0


def _characters(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Types by their character, in words."""
    found = []
    for character in parts.CHARACTERS:
        names = [
            f"{kind['count']} {kind['name']}"
            for kind in summary["types"]
            if kind["character"] == character
        ]
        if names:
            found.append((character, ", ".join(names)))
    return found
