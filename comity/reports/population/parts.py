"""What the page of a population and that of a comparison share: formats, scripts, settings."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment

from comity.evaluation.statistics import CONFIDENCE
from comity.reports import formats
from comity.reports.page.assets import page_environment
from comity.reports.page.citation import PROJECT, arxiv
from comity.reports.tournament import looks, page_parts

Json = dict[str, Any]

SCRIPTS = (*page_parts.SHARED_SCRIPTS, "population/data.js", "population/heat.js")
STYLES = (*page_parts.STYLES, "population/population.css")
CHARACTERS = ("selfish", "prosocial", "antisocial", "fixed", "other")
DYNAMICS = arxiv(
    "tennant2024dynamics",
    "Dynamics of Moral Behavior in Heterogeneous Populations of Learning Agents",
    "Tennant, Elizaveta and Hailes, Stephen and Musolesi, Mirco",
    2024,
    "2403.04202",
)
DYADS = arxiv(
    "tennant2023modeling",
    "Modeling Moral Choices in Social Dilemmas with Multi-Agent Reinforcement Learning",
    "Tennant, Elizaveta and Hailes, Stephen and Musolesi, Mirco",
    2023,
    "2301.08491",
)


def look(metric: Mapping[str, Any]) -> Json:
    """How a metric's values are written."""
    digits = 3 if metric["unit"] == "coefficient" else 2
    return {"percent": metric["unit"] == "share", "digits": digits}


@cache
def environment() -> Environment:
    """Templates with the formats of metrics."""
    found = page_environment()
    found.filters |= {
        "show": looks.show,
        "span": looks.interval,
        "look": look,
        "integer": integer,
        "signed_show": signed_show,
    }
    found.globals |= {"confidence": CONFIDENCE}
    return found


def integer(count: int) -> str:
    """30000: "30 000" with a narrow no-break space."""
    return f"{count:,}".replace(",", "\u202f")


def signed_show(value: float, look: Json) -> str:
    """A difference with its sign."""
    text = looks.show(abs(value), look)
    if text.strip("0.\u202f%") == "":
        return text
    return f"\u2212{text}" if value < 0 else f"+{text}"


def render(template: str, data: Json, scripts: tuple[str, ...], **values: Any) -> str:
    """A page from its template; `data` is what its scripts draw."""
    return page_parts.filled(environment(), template, data, STYLES, (*SCRIPTS, *scripts), **values)


def game_words(game: Any) -> str:
    """The game in a line: its name and the payoffs of all joint moves, own first."""
    if not isinstance(game, dict):
        return "" if game is None else formats.words(game)
    table: Any = game.get("payoffs", game.get("table"))
    name = str(game.get("title", game.get("name", ""))).replace("_", " ")
    try:
        cells = [
            f"{first}{second} {table[i][k][0]:g}, {table[i][k][1]:g}"
            for i, first in enumerate("CD")
            for k, second in enumerate("CD")
        ]
    except (TypeError, IndexError, ValueError, KeyError):
        return formats.words(game)
    return f"{name}: {'; '.join(cells)}" if name else "; ".join(cells)


def methods(summary: Mapping[str, Any]) -> str:
    """A sentence for a paper's methods section."""
    counts = ", ".join(f"{kind['count']} {kind['name']}" for kind in summary["types"])
    controls = [
        one["label"] for name, one in list(summary["conditions"].items())[1:] if name != "fixed"
    ]
    beside = f", beside {' and '.join(controls)}" if controls else ""
    version = str(summary["versions"].get("comity") or "")
    seed = summary["config"].get("seed")
    rooted = f" (master seed {seed})" if seed is not None else ""
    main = next(iter(summary["conditions"].values()))["label"]
    return (
        f"We simulated a population of {len(summary['agents'])} agents ({counts}) for "
        f"{integer(summary['episodes'])} episodes of {main} in "
        f"{formats.counted(len(summary['runs']), 'run')}{rooted}{beside}; game: "
        f"{game_words(summary['game']) or 'as configured'}. Intervals are "
        f"{100 * CONFIDENCE:g} % confidence intervals over runs. We used "
        f"{f'Comity {version}'.strip()}."
    )


def bibtex(version: str, pairs: Sequence[bool]) -> str:
    """BibTeX of the project and of the studies; `pairs`: which populations are fixed pairs."""
    entries = [PROJECT.replace("VERSION", version or _installed())]
    if not all(pairs):
        entries.append(DYNAMICS)
    if any(pairs):
        entries.append(DYADS)
    return "\n\n".join(entries)


def _installed() -> str:
    """Version of this Comity, for populations that do not say theirs; "" in a bare checkout."""
    try:
        return importlib.metadata.version("comity")
    except importlib.metadata.PackageNotFoundError:
        return ""
