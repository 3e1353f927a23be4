"""`build`: from run folders to the page and its numbers."""

import time
from collections.abc import Sequence
from pathlib import Path

from comity.errors import ComityError
from comity.files import write_atomically, writing
from comity.reports.loading.folders import collect
from comity.reports.page.assets import dump
from comity.reports.page.run_page import head, render
from comity.reports.page.transcripts import transcripts
from comity.reports.summary.summary import summarize

TRANSCRIPT_BUDGET = 6_000_000
"""Characters that the embedded transcripts may take; keeps the page below about 10 MB."""


def build(folders: list[Path], output: Path | None = None) -> tuple[Path, Path]:
    """Writes `report.html` and `summary.json` of run or study folders; returns both paths.

    Into `output`, which is made; by default into the folder itself, and for several into a new
    one beside the first, so that no run loses its own page. Both are written aside and renamed,
    so that a reader never sees half a page. Raises `ComityError` where the folders hold nothing
    to report or something unreadable.
    """
    folders = [Path(folder) for folder in folders]
    inputs = collect(folders)
    target = _target(folders, output)
    summary = {**head(inputs), **summarize(inputs)}
    page = render(summary, transcripts(inputs, TRANSCRIPT_BUDGET))
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
    html, numbers = target / "report.html", target / "summary.json"
    write_atomically(numbers, dump(summary, indent=2))
    write_atomically(html, page)
    return html, numbers


def _target(folders: Sequence[Path], output: Path | None) -> Path:
    """The folder of the page; `ComityError` where it would take the place of another run's."""
    if output is None:
        return folders[0] if len(folders) == 1 else _beside(folders[0])
    reported = [folder.resolve() for folder in folders]
    if (output / "config.yaml").exists() and reported != [output.resolve()]:
        raise ComityError(f"{output} is a run with a page of its own; name another folder")
    if output.exists() and not output.is_dir():
        raise ComityError(f"{output} is no folder; name one for the page")
    return output


def _beside(folder: Path) -> Path:
    """A folder for a page of several runs that is not there yet."""
    name = f"comparison-{time.strftime('%Y%m%d-%H%M%S')}"
    beside = folder.resolve().parent
    names = [name, *(f"{name}-{number}" for number in range(2, 100))]
    return next(beside / one for one in names if not (beside / one).exists())
