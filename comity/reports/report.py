"""`build`: from run folders to the page and its numbers."""

from pathlib import Path

from comity.files import write_atomically
from comity.reports.folders import collect
from comity.reports.numbers import summarize
from comity.reports.page import dump, head, render
from comity.reports.transcripts import transcripts

TRANSCRIPT_BUDGET = 6_000_000
"""Characters that the embedded transcripts may take; keeps the page below about 10 MB."""


def build(folders: list[Path]) -> tuple[Path, Path]:
    """Writes `report.html` and `summary.json` into the first of the run or study folders.

    Both are written aside and renamed, so that a reader never sees half a page. Raises
    `ComityError` where the folders hold nothing to report or something unreadable.
    """
    material = collect([Path(folder) for folder in folders])
    summary = {**head(material), **summarize(material)}
    page = render(summary, transcripts(material, TRANSCRIPT_BUDGET))
    html, numbers = material.folder / "report.html", material.folder / "summary.json"
    write_atomically(numbers, dump(summary, indent=2))
    write_atomically(html, page)
    return html, numbers
