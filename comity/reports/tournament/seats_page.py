"""The page of a tournament of more than two seats: one HTML file that works offline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comity.reports.page.text_packing import Interner
from comity.reports.tournament import page_parts
from comity.reports.tournament.looks import look
from comity.reports.tournament.packing import Names, pack_results, pack_transcripts, short

Json = dict[str, Any]

SCRIPTS = (
    "tournament/controls.js",
    "tournament/ranking.js",
    "tournament/metagame.js",
    "tournament/mixes.js",
    "tournament/seats.js",
)


def write_seats_page(summary: Mapping[str, Any], folder: Path) -> Path:
    """Writes `report.html` from a `ManySeatsSummary` into `folder`; returns the file's path.

    Equal summaries give equal bytes. The file is written aside and renamed. Raises `ComityError`
    where the summary is of another kind or names agents that are none of its players, and
    `WorkError` where the file cannot be written.
    """
    page_parts.expect(summary, "many-seats")
    return page_parts.write(render(summary), folder)


def render(summary: Mapping[str, Any]) -> str:
    """The page as text."""
    names = Names(summary["players"])
    metrics = summary["metrics"]
    looks = {name: look(name, metric, _means(summary, name)) for name, metric in metrics.items()}
    clean = summary.get("clean")
    subsets = {"all": summary["agents"], "clean": clean} if clean else {"all": summary["agents"]}
    notes = Interner()
    matches = pack_transcripts(summary["transcripts"], names)
    data = {
        "kind": "many-seats",
        "over": "over all compositions",
        "seats": summary["seats"],
        "players": [{"name": p["name"], "kind": p["kind"]} for p in summary["players"]],
        "metrics": [
            {"name": n, "label": m["label"], "unit": m["unit"], "better": m["better"], **looks[n]}
            for n, m in metrics.items()
        ],
        "subsets": {
            key: pack_results((), found, names, metrics, notes) for key, found in subsets.items()
        },
        "notes": notes.values(),
        "unit": summary["game"]["unit"],
        "mixes": [
            [names(agent), -1 if background == "" else names(background), _points(points)]
            for agent, by_background in summary["mixes"].items()
            for background, points in by_background.items()
        ],
        "metagame": {
            "deviation_ratings": [
                [names(name), short(value)] for name, value in summary["deviation_ratings"].items()
            ],
            **{other: [] for other in ("alpha_rank", "elo", "moran")},
        },
        "schelling": summary["references"].get("schelling"),
        "matches": matches,
    }
    return page_parts.render(
        "tournament/seats.html",
        data,
        SCRIPTS,
        summary=summary,
        looks=looks,
        definitions={name: f"def-m{place}" for place, name in enumerate(metrics)},
        places=names.places,
        agents={
            key: sorted(found, key=lambda agent: agent["rank"]) for key, found in subsets.items()
        },
        subset_names=page_parts.SUBSETS,
        many=page_parts.MANY,
        few=page_parts.FEW,
        kinds=page_parts.kinds(summary),
        setting=page_parts.setting(summary["game"]["settings"]),
        answers=page_parts.ANSWERS,
        used=page_parts.totals(summary["usage"]),
        difference=page_parts.difference(summary, looks),
        verdict=verdict,
        shown={"matches": len(matches["matches"]), "given": matches["given"]},
        is_pair_game=False,
    )


def verdict(gain: Mapping[str, Any]) -> str:
    """What the best visitor's gain says about the residents."""
    mean, low, high = gain["mean"], gain["low"], gain["high"]
    exact = low is None or high is None
    if (mean if exact else low) > 0:
        return "invaded: no equilibrium"
    if (mean if exact else high) <= 0:
        return "resists every visitor"
    return "not clear: the interval includes 0"


def _points(points: list[Json]) -> list[list[Any]]:
    """[k, own, background] with estimates as [mean, low, high, n], or 0."""

    def packed(e: Json | None) -> Any:
        if e is None or e["mean"] is None:
            return 0
        return [*(short(e[key]) for key in ("mean", "low", "high")), e["n"]]

    return [[one["focal"], packed(one["own"]), packed(one["background"])] for one in points]


def _means(summary: Mapping[str, Any], name: str) -> list[float]:
    found = [agent["metrics"].get(name) for agent in summary["agents"]]
    return [e["mean"] for e in found if e and e["mean"] is not None]
