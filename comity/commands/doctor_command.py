"""The command `comity doctor`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from comity.commands.options import (
    ConfigName,
    ConfigPath,
    ExperimentName,
    Overrides,
    split_overrides,
)
from comity.config.schema import Config

DOCTOR_EXAMPLES = """[bold]Examples[/bold]

comity doctor

comity doctor ipd

comity doctor ipd matches=256 algorithm.microbatch_tokens=8192

comity doctor ipd model.name=Qwen/Qwen3-0.6B --json
"""


def doctor(
    name: ExperimentName = "",
    overrides: Overrides = None,
    config_path: ConfigPath = None,
    config_name: ConfigName = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of tables.")
    ] = False,
) -> None:
    """Show what this machine offers, and whether an experiment fits into its memory.

    The exit code is 1 if it does not fit. Nothing is loaded or trained.
    """
    name, changes = split_overrides(name, overrides)
    from comity.commands.launch import launch

    found: list[Config] = []

    def keep(config: Config) -> Path:
        found.append(config)
        return Path(config.output)

    if name or changes or config_path or config_name:
        launch(keep, name, changes, config_dir=config_path, config_name=config_name)
    # Imports torch, so only after the config was checked.
    from comity.commands.doctor import as_json as plain
    from comity.commands.doctor import examine, lines

    machine, needs = examine(found[0] if found else None)
    if as_json:
        print(json.dumps(plain(machine, needs)))
    else:
        print("\n".join(lines(machine, needs)))
    if any(need.fits is False for need in needs):
        raise typer.Exit(1)
