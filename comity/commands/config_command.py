"""The command `comity config`: show an experiment's settings and run time."""

from typing import Annotated

import typer

CONFIG_EXAMPLES = """[bold]Examples[/bold]

comity config demo

comity config ipd game=chicken 'study.seeds=\\[0,1,2]'

comity config ipd --yaml > my_configs/mine.yaml
"""


def show_config(
    name: Annotated[
        str, typer.Argument(help="An experiment of `comity list experiments`.", metavar="NAME")
    ] = "",
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="group=option or key=value.", metavar="OVERRIDES", show_default=False),
    ] = None,
    config_path: Annotated[
        str | None, typer.Option(help="Folder with your own configs.", metavar="DIR")
    ] = None,
    config_name: Annotated[
        str | None, typer.Option(help="Config file in that folder, without .yaml.", metavar="NAME")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--yaml", help="Print every setting as YAML, without a time estimate.")
    ] = False,
    time: Annotated[
        bool, typer.Option("--time/--no-time", help="Measure the time of an iteration here.")
    ] = True,
) -> None:
    """Show what an experiment would run, and estimate its run time on this machine."""
    changes = list(overrides or [])
    if "=" in name or name.startswith("~"):
        changes, name = [name, *changes], ""
    from comity.commands.launch import show

    show(name, changes, config_path, config_name, whole, time)
