"""The command `comity config`: show an experiment's settings and run time."""

from typing import Annotated

import typer

from comity.commands.options import (
    ConfigName,
    ConfigPath,
    ExperimentName,
    Overrides,
    split_overrides,
)

CONFIG_EXAMPLES = """[bold]Examples[/bold]

comity config demo

comity config ipd game=chicken 'study.seeds=\\[0,1,2]'

comity config ipd --yaml > my_configs/mine.yaml
"""


def show_config(
    name: ExperimentName = "",
    overrides: Overrides = None,
    config_path: ConfigPath = None,
    config_name: ConfigName = None,
    whole: Annotated[
        bool, typer.Option("--yaml", help="Print every setting as YAML, without a time estimate.")
    ] = False,
    time: Annotated[
        bool, typer.Option("--time/--no-time", help="Measure the time of an iteration here.")
    ] = True,
) -> None:
    """Show what an experiment would run, and estimate its run time on this machine."""
    name, changes = split_overrides(name, overrides)
    from comity.commands.launch import show

    show(name, changes, config_path, config_name, whole, time)
