"""The page that compares populations: one HTML file that works offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from comity.evaluation.population.comparison import CUMULATIVE, OF_ALL, compare
from comity.evaluation.population.optima import OPTIMA
from comity.files import write_atomically, writing
from comity.reports.page.assets import dump
from comity.reports.population import parts
from comity.reports.population.page import load
from comity.reports.tournament.page_parts import write

Json = dict[str, Any]

SCRIPTS = ("population/comparison.js",)


def write_comparison(folders: Sequence[Path], output: Path) -> Path:
    """Writes `report.html` and `summary.json` that compare populations into the folder `output`.

    Each population's summary is made where it is missing or older than its records. Raises
    `ComityError` for fewer than two folders, or one that holds no population.
    """
    paths = [Path(folder) for folder in folders]
    found = compare([load(path) for path in paths], [path.name for path in paths])
    with writing(Path(output)):
        Path(output).mkdir(parents=True, exist_ok=True)
    write_atomically(Path(output) / "summary.json", dump(found))
    return write(render(found), Path(output))


def render(found: Mapping[str, Any]) -> str:
    """The page as text."""
    conditions = dict(found["conditions"])
    shown = [
        name
        for name in OF_ALL
        if any(name in one for whole in found["whole"] for one in whole.values())
    ]
    pairs = [one["main"] == "fixed" for one in found["populations"]]
    return parts.render(
        "population/comparison.html",
        dict(found),
        SCRIPTS,
        summary=found,
        conditions=conditions,
        shown=shown,
        cumulative=CUMULATIVE,
        reachable=list(OPTIMA),
        learners=[
            (own, other, cell)
            for own, partners in found["pairs"].items()
            for other, cell in partners.items()
            if "optimum" in cell
        ],
        games=list(dict.fromkeys(parts.game_words(one["game"]) for one in found["populations"])),
        windows=list(dict.fromkeys(one["window"] for one in found["populations"])),
        runs=sorted({len(one["runs"]) for one in found["populations"]}),
        bibtex=parts.bibtex(str(found["versions"].get("comity") or ""), pairs),
    )
