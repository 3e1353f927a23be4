"""Pages of populations: one's own, and one that compares several."""

import time
from collections.abc import Sequence
from pathlib import Path

from comity.errors import ComityError
from comity.files import write_atomically
from comity.runs.population_folder import check_shown, is_population

PAIRS = "pairs"
"""Folder of the pairs of a population with several fixed pairs."""


def write_page(folder: Path, output: Path | None = None) -> Path:
    """Write the page of a population from its records, into `output` or its own folder.

    With several fixed pairs each gets a page, and the population's page compares them. Raises
    `ComityError` for records that are not what they were at the newest checkpoint.
    """
    check_shown(folder)
    pairs = pairs_of(folder)
    if pairs:
        for pair in pairs:
            write_page(pair)
        return _compare(pairs, output or folder)
    from comity.reports.population import write_page as write

    page = write(folder)
    if output is None or output.resolve() == folder.resolve():
        return page
    for name in ("summary.json", page.name):
        write_atomically(output / name, (folder / name).read_bytes())
    return output / page.name


def write_pages_together(folders: Sequence[Path], output: Path | None = None) -> Path:
    """Write a page that compares several populations; default: into a new folder beside them.

    Raises `ComityError` for a folder that holds no population.
    """
    for folder in folders:
        if not is_population(folder):
            raise ComityError(
                f"{folder} is not a population; populations and other runs have separate pages"
            )
        check_shown(folder)
    every = [one for folder in folders for one in (pairs_of(folder) or [folder])]
    if output is None:
        output = folders[0].parent / f"comparison-{time.strftime('%Y%m%d-%H%M%S')}"
    output.mkdir(parents=True, exist_ok=True)
    return _compare(every, output)


def pairs_of(folder: Path) -> list[Path]:
    """The folders of a population's pairs; [] where it is not of several fixed pairs."""
    inside = folder / PAIRS
    return sorted(one for one in inside.iterdir() if is_population(one)) if inside.is_dir() else []


def _compare(folders: Sequence[Path], output: Path) -> Path:
    from comity.reports.population import write_comparison

    return write_comparison(folders, output)
