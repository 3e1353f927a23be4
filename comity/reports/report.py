"""`build`: from run folders to the page and its numbers."""

import os
import tempfile
from pathlib import Path

from comity.errors import WorkError
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
    _write(numbers, dump(summary, indent=2))
    _write(html, page)
    return html, numbers


def _write(path: Path, text: str) -> None:
    aside = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
        ) as file:
            aside = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(0o644)
        aside.replace(path)
    except OSError as error:
        if aside is not None:
            aside.unlink(missing_ok=True)
        raise WorkError(f"{path} cannot be written ({error.strerror}); free some space") from error
