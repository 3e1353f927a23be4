"""`comity report` of tournaments, exploit runs and populations."""

from collections.abc import Sequence
from pathlib import Path

from comity.errors import ComityError

KINDS = ("tournament", "exploit")
"""Evaluations with a page of their own; a folder holds KIND.json."""


def has_own_page(folder: Path) -> bool:
    """Whether a folder holds a tournament, an exploit run or a population."""
    from comity.runs.population_folder import is_population

    return is_population(folder) or any((folder / f"{kind}.json").is_file() for kind in KINDS)


def report_alone(folders: Sequence[Path], output: Path | None) -> Path:
    """Write the page of the only folder into `output` or itself.

    Populations are compared on one page; `ComityError` for several folders of other kinds.
    """
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    from comity.runs.population_folder import is_population

    if any(map(is_population, folders)):
        from comity.commands.population_page import write_page, write_pages_together

        several = len(folders) > 1
        return write_pages_together(folders, output) if several else write_page(folders[0], output)
    if len(folders) > 1:
        raise ComityError(
            "tournaments and exploit runs have a page each; give one of them to comity report, or "
            "add players to a tournament: comity tournament --resume TOURNAMENT PLAYER ..."
        )
    from comity.commands import exploit, tournament_page

    (folder,) = folders
    page = tournament_page if (folder / tournament_page.FILE).is_file() else exploit
    return page.write_page(folder, output)
