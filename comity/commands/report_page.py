"""`comity report` of a tournament or an exploit run."""

from collections.abc import Sequence
from pathlib import Path

from comity.errors import ComityError

KINDS = ("tournament", "exploit")
"""Evaluations with a page of their own; a folder holds KIND.json."""


def is_evaluation(folder: Path) -> bool:
    """Whether a folder holds a tournament or an exploit run."""
    return any((folder / f"{kind}.json").is_file() for kind in KINDS)


def report_alone(folders: Sequence[Path], output: Path | None) -> Path:
    """Write the page of the only folder into `output` or itself; `ComityError` for several."""
    if len(folders) > 1:
        raise ComityError(
            "tournaments and exploit runs have a page each; give one of them to comity report, or "
            "add players to a tournament: comity tournament --resume TOURNAMENT PLAYER ..."
        )
    from comity.commands import exploit, tournament_page

    (folder,) = folders
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    page = tournament_page if (folder / tournament_page.FILE).is_file() else exploit
    return page.write_page(folder, output)
