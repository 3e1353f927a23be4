"""Writes the reference pages that are tables of what the package has: `python -m docs.generate`.

A page is its template in `docs/templates/`, with tables (`docs.tables`) made of what the package
says itself (`docs.parts`): the dictionaries, docstrings, fields, and the comments of the YAML
files. A part that is added there is on its page with the next run;
`tests/test_reference_pages.py` compares.
"""

from importlib import resources
from pathlib import Path

import jinja2

from comity.players.scripted import axelrod_index
from docs import tables
from docs.axelrod_table import axelrod_table

DOCS = Path(__file__).parent
PAGES = (
    "rewards",
    "players",
    "games",
    "prompts",
    "algorithms",
    "tournament-metrics",
    "population-metrics",
)
TABLES = (
    *("rewards", "strategies", "negotiators", "axelrod_strategies", "iterated_games"),
    *("split_games", "prompts", "algorithms", "tournament_metrics", "many_seats_metrics"),
    *("population_metrics", "population_optima"),
)
"""Functions of `docs.tables` that templates call."""


def page(name: str) -> str:
    """The text of one reference page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(DOCS / "templates"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    text = environment.get_template(f"{name}.md.j2").render(
        **{name: getattr(tables, name) for name in TABLES},
        iterated_parameters=", ".join(f"`{name}`" for name in tables.ITERATED),
    )
    title, rest = text.split("\n", 1)
    made = f"<!-- Made by `make docs` from the code and docs/templates/{name}.md.j2. -->"
    return f"{title}\n\n{made}\n{rest}"


def main() -> None:
    """Writes all pages, and the table of axelrod's strategies if the package is there."""
    if axelrod_index.installed_version() is not None:
        file = Path(str(resources.files(axelrod_index.__package__) / axelrod_index.TABLE))
        file.write_text(axelrod_table(), encoding="utf-8")
        axelrod_index.forget()
    for name in PAGES:
        (DOCS / "reference" / f"{name}.md").write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
