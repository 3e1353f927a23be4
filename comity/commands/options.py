"""Arguments that several commands share: an experiment, its overrides, a config folder."""

from collections.abc import Sequence
from typing import Annotated

import typer

ExperimentName = Annotated[
    str, typer.Argument(help="An experiment of `comity list experiments`.", metavar="NAME")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="group=option or key=value.", metavar="OVERRIDES", show_default=False),
]
ConfigPath = Annotated[
    str | None, typer.Option(help="Folder with your own configs.", metavar="DIR")
]
ConfigName = Annotated[
    str | None, typer.Option(help="Config file in that folder, without .yaml.", metavar="NAME")
]


def split_overrides(name: str, overrides: Sequence[str] | None) -> tuple[str, list[str]]:
    """The experiment ("": none is named) and the overrides.

    Without an experiment, the first override takes its place: `comity train --config-path DIR
    --config-name mine seed=1`.
    """
    if "=" in name or name.startswith("~"):
        return "", [name, *(overrides or [])]
    return name, list(overrides or [])
