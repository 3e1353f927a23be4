"""The overview of experiments by study: `comity list experiments` without a filter."""

import textwrap
from collections.abc import Iterator

from comity.config.groups import Sentences
from comity.config.presets import FIRST, experiments
from comity.config.presets.families import Family, Row, columns, families

BELOW = 36
"""Descriptions of names longer than this are printed below them."""


def overview(width: int) -> Iterator[str]:
    """Lines of at most `width` characters; headings are not indented."""
    for line, says in _lines():
        blank = " " * len(line)
        yield from textwrap.wrap(
            says, width, initial_indent=line, subsequent_indent=blank, break_on_hyphens=False
        ) or [line.rstrip()]


Line = tuple[str, str]
"""The beginning of a line, and a description that is wrapped after it."""


def _lines() -> Iterator[Line]:
    known = experiments()
    yield "Get started", ""
    yield from _table({name: known[name] for name in FIRST})
    for family in families():
        yield "", ""
        yield f"{family.name}: {family.title}", ""
        yield from _family(family)
    yield "", ""
    yield "More", ""
    yield from _table(
        {
            "comity list experiments WORD ...": "list the experiments whose line contains WORD",
            "comity config NAME": "show what an experiment would run, and its run time here "
            "(those above: with native bfloat16)",
            "comity train NAME": "run an experiment",
        }
    )


def _family(family: Family) -> Iterator[Line]:
    yield from _table(family.files)
    yield from _table(family.places)
    if family.pattern:
        yield f"  {family.pattern}", ""
    for part, options in family.parts.items():
        yield f"    {part}", ""
        yield from _table(options, 6)
    if family.rows:
        yield from _grid(family.rows)
    if family.others:
        yield "  Other names:" if family.rows else "  NAME:", ""
        width = max(map(len, family.others))
        for name, row in family.others.items():
            yield f"    {name:<{width}}  {row.sizes['']:<3}  ", row.says


def _grid(rows: dict[str, Row]) -> Iterator[Line]:
    """Methods by games, with the games' names in a staircase above their columns."""
    width = max(map(len, rows))
    games = columns(rows)
    for number, game in enumerate(games):
        title = "METHOD" if game == games[-1] else ""
        yield f"    {title:<{width}}  {'|   ' * number}{game}", ""
    for method, row in rows.items():
        sizes = " ".join(f"{row.sizes.get(game, ''):<3}" for game in games)
        yield f"    {method:<{width}}  {sizes}  ", row.says


def _table(described: Sentences, indent: int = 2) -> Iterator[Line]:
    """Names with descriptions beside them, or below if the names are long."""
    width = max(map(len, described))
    blank = " " * indent
    for name, sentence in described.items():
        if width > BELOW and len(sentence) > BELOW:
            yield f"{blank}{name}", ""
            yield f"{blank}    ", sentence
        else:
            yield f"{blank}{name:<{width}}  ", sentence
