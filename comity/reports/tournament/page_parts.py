"""What the pages of tournaments and exploit runs share: template filters, scripts and writing."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from comity.errors import ComityError
from comity.evaluation.statistics import CONFIDENCE
from comity.files import write_atomically, writing
from comity.reports import formats
from comity.reports.page.assets import embedded, page_environment, page_style, script
from comity.reports.page.citation import PROJECT
from comity.reports.tournament import looks

Json = dict[str, Any]

SUBSETS = {"all": "All matches", "clean": "Without illegal answers and forfeits"}
MANY = 100
"""A table with more rows than this is folded."""
FEW = 12
"""Up to so many players are named in the header, and have a sheet below each other."""
ANSWERS = {
    "answered": "answered",
    "illegal": "illegal",
    "refused": "refused or filtered",
    "cut_off": "cut off",
    "failed": "failed in transport",
}

SHARED_SCRIPTS = (
    "elements.js",
    "save.js",
    "figure.js",
    "charts.js",
    "sections.js",
    "values.js",
    "tournament/definitions.js",
    "tournament/sorting.js",
    "tournament/whiskers.js",
)
"""Scripts of the pages of tournaments, exploit runs and populations."""
SCRIPTS = (
    *SHARED_SCRIPTS,
    "unpack.js",
    "tournament/data.js",
    "tournament/matches.js",
    "tournament/long_tables.js",
)
STYLES = ("page.css", "tournament/tournament.css")
KINDS = {
    "scripted": ("scripted strategy", "scripted strategies"),
    "axelrod": ("axelrod strategy", "axelrod strategies"),
    "run": ("trained policy", "trained policies"),
    "model": ("base model", "base models"),
    "api": ("API model", "API models"),
    "human": ("human", "humans"),
}
"""Kinds of players in words: one of them, several of them."""


@cache
def environment() -> Environment:
    """Templates with the formats of metrics."""
    found = page_environment()
    found.filters |= {
        "show": looks.show,
        "span": looks.interval,
        "in_words": looks.in_words,
        "saved": saved,
        "kind": lambda kind: KINDS.get(kind, (kind, kind))[0],
        "integer": lambda count: f"{count:,}".replace(",", "\u202f"),
        "mixed": mixed,
    }
    found.globals |= {"SHARE": looks.SHARE, "DECIMAL": looks.DECIMAL, "confidence": CONFIDENCE}
    return found


def saved(e: Mapping[str, Any]) -> Json:
    """An estimate in a saved table."""
    return {key: e[key] for key in ("mean", "low", "high", "n", "note")}


def mixed(mixture: Mapping[str, float]) -> list[tuple[str, float]]:
    """The parts of a mixture that are in it, the largest first."""
    parts = [(name, share) for name, share in mixture.items() if share > 5e-4]
    return sorted(parts, key=lambda part: -part[1])


def render(template: str, data: Json, scripts: tuple[str, ...], **values: Any) -> str:
    """A page from its template; `data` is what its script draws."""
    summary = values["summary"]
    version = summary.get("version") or summary.get("versions", {}).get("comity") or ""
    values["bibtex"] = PROJECT.replace("VERSION", str(version))
    return filled(environment(), template, data, STYLES, (*SCRIPTS, *scripts), **values)


def filled(
    environment: Environment,
    template: str,
    data: Json,
    styles: tuple[str, ...],
    scripts: tuple[str, ...],
    **values: Any,
) -> str:
    """A template filled with its data, the texts of its styles and scripts, and values."""
    code, code_hash = script(*scripts)
    return environment.get_template(template).render(
        style=Markup(page_style(*styles)),
        script=code,
        script_hash=code_hash,
        data=Markup(embedded(data)),
        **values,
    )


def expect(summary: Mapping[str, Any], kind: str) -> None:
    """Raises `ComityError` for a summary of another kind or a newer schema."""
    if summary.get("kind") != kind:
        raise ComityError(f"this is no summary of kind {kind!r}, but {summary.get('kind')!r}")
    if summary.get("schema", 1) != 1:
        raise ComityError(
            f"this summary has schema {summary['schema']}; update comity to make its page"
        )


def write(page: str, folder: Path) -> Path:
    """Writes `report.html` into the folder, which is made; returns its path."""
    path = Path(folder) / "report.html"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    # Half a surrogate pair, which only a broken text has, has no bytes in UTF-8.
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


def setting(game: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The game's settings in words."""
    return [
        (key.replace("_", " ").capitalize(), formats.words(value)) for key, value in game.items()
    ]


def kinds(summary: Mapping[str, Any]) -> str:
    """ "3 scripted strategies, 1 API model"."""
    counts = Counter(player["kind"] for player in summary["players"])
    named = {kind: KINDS.get(kind, (kind, kind)) for kind in counts}
    return ", ".join(f"{count} {named[kind][count > 1]}" for kind, count in counts.items())


def totals(usage: Mapping[str, Mapping[str, Any]]) -> Json:
    """All players' usage together; the cost is None if one of them has no price."""
    keys = ("requests", "input_tokens", "output_tokens", "retries")
    costs = [one["cost"] for one in usage.values()]
    total = None if None in costs else sum(costs)
    return {**{key: sum(one[key] for one in usage.values()) for key in keys}, "cost": total}


def difference(summary: Mapping[str, Any], looks: Mapping[str, Json]) -> Json:
    """How differences are written: like payoffs, on bars as far below 0 as above it."""
    ends = [
        abs(one["difference"][key])
        for one in summary["comparisons"]
        for key in ("mean", "low", "high")
        if one["difference"][key] is not None
    ]
    most = max(ends, default=0.0) or 1.0
    digits = looks["payoff"]["digits"] if "payoff" in looks else 2
    return {"percent": False, "digits": digits, "most": most}
