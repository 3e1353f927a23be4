"""Starts populations from the arguments of `comity population`: one, several, or one's rest."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from comity.commands.launch import launch_kind
from comity.config.compose import register_schema
from comity.config.population import POPULATION, split_words, text_override
from comity.config.population_schema import PopulationConfig
from comity.errors import ComityError


def start(
    words: Sequence[str],
    options: Mapping[str, Any],
    multirun: bool = False,
    config_path: str | None = None,
    config_name: str | None = None,
    resume: Path | None = None,
    is_dry: bool = False,
) -> list[Path]:
    """Train what the arguments ask for; returns the folders. `is_dry`: print the plan only.

    `words`: a preset or a composition, then overrides. `options`: iterations, runs, seed and
    output, None where they were not given; they take precedence over the overrides.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if resume is not None:
        more = {**given}
        iterations = more.pop("iterations", None)
        if words or more or multirun or config_path or config_name or is_dry:
            raise ComityError(
                "--resume goes on with the settings of the folder; only --iterations can be given"
            )
        from comity.commands.population import resume_population

        return [resume_population(resume, iterations)]
    register_schema(config_path)
    if config_path is not None and config_name is None and words and "=" not in words[0]:
        # As in `comity train`: the first word is the file.
        name, overrides = words[0], split_words(["seed=1", *words[1:]])[1][1:]
    else:
        name, overrides = split_words(words)
    overrides = [*overrides, *(text_override(key, str(value)) for key, value in given.items())]
    return launch_kind(
        *(POPULATION, dry_run if is_dry else run_one, name, overrides),
        multirun=multirun,
        config_dir=config_path,
        config_name=config_name,
    )


def run_one(config: PopulationConfig) -> Path:
    """Train one population; returns its folder."""
    from comity.commands.population import run_population

    return run_population(config)


def dry_run(config: PopulationConfig) -> Path:
    """Print what would run, its memory and the estimated time."""
    from comity.commands.population_plan import plan

    print("\n".join(plan(config)))
    return Path(config.output)
