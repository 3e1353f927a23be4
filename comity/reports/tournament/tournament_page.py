"""The page of a tournament: one HTML file that works offline."""

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
    "tournament/matrix.js",
    "tournament/matrix_drawing.js",
    "tournament/metagame.js",
    "tournament/sheets.js",
    "tournament/tournament.js",
)
PARTS = ("outcomes", "usage", "references", "metagame", "populations")
EXPECTED = {
    "references": ("equilibria", "welfare", "minimax", "schelling"),
    "metagame": ("equilibria", "replicator", "alpha_rank", "deviation_ratings", "elo", "moran"),
}
"""What a part may lack."""


def write_tournament_page(summary: Mapping[str, Any], folder: Path) -> Path:
    """Writes `report.html` from a `TournamentSummary` into `folder`; returns the file's path.

    Equal summaries give equal bytes. The file is written aside and renamed. Raises `ComityError`
    where the summary is of another kind or names agents that are none of its players, and
    `WorkError` where the file cannot be written.
    """
    page_parts.expect(summary, "tournament")
    return page_parts.write(render(summary), folder)


def render(summary: Mapping[str, Any]) -> str:
    """The page as text."""
    whole = {**dict.fromkeys(PARTS), **summary}
    whole |= {part: whole[part] or {} for part in PARTS}
    for part, keys in EXPECTED.items():
        if whole[part]:
            whole[part] = {**dict.fromkeys(keys), **whole[part]}
    names = Names(summary["players"])
    metrics = summary["metrics"]
    looks = {name: look(name, metric, _means(summary, name)) for name, metric in metrics.items()}
    clean = summary.get("clean")
    subsets = {"all": summary, "clean": clean} if clean else {"all": summary}
    notes = Interner()
    matches = pack_transcripts(summary["transcripts"], names)
    data = {
        "kind": "tournament",
        "over": "over all opponents",
        "players": [{"name": p["name"], "kind": p["kind"]} for p in summary["players"]],
        "metrics": [
            {"name": n, "label": m["label"], "unit": m["unit"], "better": m["better"], **looks[n]}
            for n, m in metrics.items()
        ],
        "subsets": {
            key: pack_results(found["pairs"], found["agents"], names, metrics, notes)
            for key, found in subsets.items()
        },
        "notes": notes.values(),
        "unit": summary["game"]["unit"],
        "metagame": _metagame(whole["metagame"], names),
        "schelling": whole["references"].get("schelling"),
        "matches": matches,
    }
    return page_parts.render(
        "tournament/tournament.html",
        data,
        SCRIPTS,
        summary=whole,
        looks=looks,
        definitions={name: f"def-m{place}" for place, name in enumerate(metrics)},
        places=names.places,
        agents={key: _by_rank(found) for key, found in subsets.items()},
        subset_names=page_parts.SUBSETS,
        many=page_parts.MANY,
        few=page_parts.FEW,
        kinds=page_parts.kinds(summary),
        setting=page_parts.setting(summary["game"]["settings"]),
        answers=page_parts.ANSWERS,
        used=page_parts.totals(whole["usage"]),
        difference=page_parts.difference(summary, looks),
        shown={"matches": len(matches["matches"]), "given": matches["given"]},
        is_pair_game=all(len(e["strategies"]) == 2 for e in _stage_equilibria(whole)),
    )


def _means(summary: Mapping[str, Any], name: str) -> list[float]:
    found = [pair["metrics"].get(name) for pair in summary["pairs"]]
    return [e["mean"] for e in found if e and e["mean"] is not None]


def _by_rank(found: Mapping[str, Any]) -> list[Json]:
    return sorted(found["agents"], key=lambda agent: agent["rank"])


def _stage_equilibria(summary: Mapping[str, Any]) -> list[Json]:
    found: list[Json] = summary["references"].get("equilibria") or []
    return found


def _metagame(found: Mapping[str, Any], names: Names) -> Json:
    """What the page draws of the meta-game; mixtures and ratings by place of the agent."""

    def values(by_name: Mapping[str, float] | None) -> list[list[Any]]:
        return [[names(name), short(value)] for name, value in (by_name or {}).items()]

    replicator = found.get("replicator") or {"points": [], "trajectories": []}
    return {
        "alpha_rank": values(found.get("alpha_rank")),
        "deviation_ratings": values(found.get("deviation_ratings")),
        "elo": values((found.get("elo") or {}).get("ratings")),
        "moran": values((found.get("moran") or {}).get("fixation")),
        "points": [
            {"mixture": values(point["mixture"]), "basin": short(point["basin"])}
            for point in replicator["points"]
        ],
        "trajectories": [
            [[short(share, 4) for share in moment] for moment in path]
            for path in replicator["trajectories"]
        ],
    }
