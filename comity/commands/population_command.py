"""The command `comity population`."""

from pathlib import Path
from typing import Annotated

import typer

from comity.commands.options import ConfigName, ConfigPath
from comity.commands.process import resumable

POPULATION_EXAMPLES = """[bold]Examples[/bold]

comity population quick

comity population 1xUT_1xaUT_1xDE --iterations 3000 --runs 5

comity population 3xS_1xX 'types.X={name: peers, others: -1}' game=chicken

comity population majority-S --multirun game=prisoners_dilemma_2_1,prisoners_dilemma_20_1

comity population dyads tabular.learning_rate_decay=0.0005

comity population majority-S --dry-run

comity population --resume populations/MINE
"""


def population(
    composition: Annotated[
        str,
        typer.Argument(
            help="COUNTxTYPE items joined by _ (comity list agents), or a preset of "
            "`comity list populations`.",
            metavar="COMPOSITION",
        ),
    ] = "",
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings: key=value or group=option.", metavar="OVERRIDES", show_default=False
        ),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Episodes. [default: 30000, or the preset's]")
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(help="Independent repetitions. [default: 20, or the preset's]"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Master seed. [default: 1]")] = None,
    output: Annotated[
        str | None,
        typer.Option(help="Parent folder of populations. [default: populations]", metavar="DIR"),
    ] = None,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="Run every combination of comma lists.")
    ] = False,
    config_path: ConfigPath = None,
    config_name: ConfigName = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a population to continue; --iterations can add episodes.",
            metavar="FOLDER",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would run, its memory and how long it takes; stop."
        ),
    ] = False,
) -> None:
    """Train a population of agents that choose their partners, and write a page."""
    from comity.commands.population_launch import start

    options = {"iterations": iterations, "runs": runs, "seed": seed, "output": output}
    words = [word for word in (composition, *(overrides or [])) if word]
    with resumable():
        folders = start(words, options, multirun, config_path, config_name, resume, dry_run)
    if dry_run:
        return
    from comity.commands.population_page import write_page, write_pages_together

    for folder in folders:
        print(f"population: {folder}\npage: {write_page(folder)}")
    if len(folders) > 1:
        print(f"page of all {len(folders)} populations: {write_pages_together(folders)}")
