"""`comity population`: trains a population, or goes on with one from its newest checkpoint."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from comity.commands.population_page import PAIRS
from comity.commands.population_plan import check_memory
from comity.config.population import load_population
from comity.config.population_schema import PopulationConfig
from comity.config.yaml_files import to_yaml
from comity.errors import ComityError
from comity.experiments.populations import describe, language_model_config, settings_of
from comity.files import write_atomically
from comity.learning.state.checkpoints import Checkpoints
from comity.populations.composition import LANGUAGE_MODEL, parse
from comity.populations.pair_records import (
    PairWriter,
    pair_names,
    write_pair_agents,
)
from comity.populations.records import RecordWriter, write_agents
from comity.populations.train import Population, build_population
from comity.populations.window_metrics import WindowMetrics
from comity.runs.population_folder import PopulationFolder, check_same_population, may_go_on
from comity.runs.progress import Progress, say
from comity.runs.provenance import command, note_agents
from comity.runs.sinks import SinkError, Sinks, check_sinks
from comity.runs.versions import versions
from comity.safe_reading import read_object


def run_population(config: PopulationConfig) -> Path:
    """Train a new population; returns its folder. Everything is checked before there is one."""
    check_sinks(config.sinks)
    with ExitStack() as stack:
        config, population, models = make_population(config, stack)
        progress = stack.enter_context(Progress())
        folder = stack.enter_context(PopulationFolder.create(config))
        folder.note_versions({**versions(), "command": command(config, "population")})
        note_agents(folder, models)
        try:
            train_population(folder, population, progress)
        except SinkError:
            shutil.rmtree(folder.path, ignore_errors=True)  # A refused one leaves no folder.
            raise
    return folder.path


def resume_population(path: Path, iterations: int | None = None) -> Path:
    """Go on with a population in its folder, for `iterations` episodes in all (None: as planned).

    Raises `ComityError` where the folder is not what it was at its newest checkpoint.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(PopulationFolder.open(path))
        then = load_population(folder.path / "config.yaml")
        if iterations is not None and iterations != then.iterations:
            folder.config.iterations = iterations
            if not may_go_on(folder.config, then):
                raise ComityError(
                    f"{path} was planned for {then.iterations} episodes; --iterations can only add "
                    "to them, and not where exploration depends on their number"
                )
            folder.set_iterations(iterations)
        check_sinks(folder.config.sinks)
        _, population, models = make_population(folder.config, stack)
        progress = stack.enter_context(Progress())
        note_agents(folder, models)
        train_population(folder, population, progress)
    return folder.path


def make_population(
    config: PopulationConfig, stack: ExitStack
) -> tuple[PopulationConfig, Population, Mapping[str, Mapping[str, str]]]:
    """The config with the checkpoints of frozen runs written out, its population, and its models.

    `stack` unloads the adapters of language models. Raises `ComityError` for anything invalid;
    everything that can be checked without a model is checked before one is loaded.
    """
    settings = settings_of(config)
    members = parse(settings.composition, settings.rewards).members
    check_memory(config, settings)
    if not any(member.startswith(LANGUAGE_MODEL) for member in members):
        return config, build_population(settings), {}
    experiment = language_model_config(config)
    say(f"{config.name}: loading torch ...")
    from comity.experiments.population_models import PopulationModels, pinned_members
    from comity.populations.agents.language_model import LanguageModelSettings

    config = replace(config, agents=written(pinned_members(members, experiment)))
    settings = settings_of(config)
    options = LanguageModelSettings(**vars(config.language_model))
    models = stack.enter_context(PopulationModels(settings, experiment, options))
    return config, build_population(settings, models), models.identities


def written(members: Sequence[str]) -> str:
    """The composition of some agents in this order."""
    counted = [(member, len(list(alike))) for member, alike in groupby(members)]
    return "_".join(f"{count}x{member}" for member, count in counted)


def train_population(folder: PopulationFolder, population: Population, progress: Progress) -> None:
    """Train from the newest checkpoint, or the start, to the last episode."""
    config = folder.config
    checkpoints = Checkpoints(folder.checkpoints, config.checkpoint.keep, progress.warn)
    restore(folder, population, checkpoints)
    about = describe(config, population)
    write_agents(folder.path, about)
    writer = writer_of(folder, population, about)
    window = WindowMetrics(population.composition.members)
    first, lines = population.episode, len(folder.metrics())
    with (
        Sinks(config.sinks, folder.path, asdict(config)) as sinks,
        progress.task(config.agents[:40], config.iterations, first) as task,
    ):
        began = time.perf_counter()

        def finished(games: Any) -> None:
            nonlocal began, lines
            window.add(games)
            done = population.episode
            last = done == config.iterations
            due = done % config.checkpoint.every == 0 or last
            row = None
            # A line ends at a checkpoint too, so that a resumed population writes the same ones.
            if done % config.record.metrics_every == 0 or due:
                now = time.perf_counter()
                row, began, lines = window.row(lines, done, now - began), now, lines + 1
                folder.append_metrics(row)
                sinks.log(done - 1, row)
            if due:
                writer.flush()
                checkpoints.save(done, partial(save, folder, population))
                remove_emptied(checkpoints)
            task.add(1, row)

        population.run(finished, writer, statistics_every=config.record.statistics_every)


def writer_of(
    folder: PopulationFolder, population: Population, about: dict[str, Any]
) -> RecordWriter | PairWriter:
    """The writer of the records: of several fixed pairs, each has a folder of its own."""
    numbers = population.settings.numbers
    if population.settings.matching != "fixed" or len(about["agents"]) == 2:
        return RecordWriter(folder.path, numbers)
    names = pair_names([agent["type"] for agent in about["agents"]])
    folders = [folder.path / PAIRS / name for name in names]
    write_pair_agents(folders, about)
    return PairWriter(folders, numbers)


def save(folder: PopulationFolder, population: Population, target: Path) -> None:
    """Write a checkpoint: the population's state, the config, and what the folder consists of."""
    population.save(target)
    write_atomically(target / "config.yaml", to_yaml(folder.config))
    counted = {"episode": population.episode, **folder.counted()}
    write_atomically(target / "state.json", json.dumps(counted, indent=1) + "\n")


def remove_emptied(checkpoints: Checkpoints) -> None:
    """Remove old checkpoints: nothing is left in them, since a population has no adapter files."""
    for number in checkpoints.numbers()[: -checkpoints.keep]:
        shutil.rmtree(checkpoints.path(number), ignore_errors=True)


def restore(folder: PopulationFolder, population: Population, checkpoints: Checkpoints) -> None:
    """Restore the newest checkpoint, and forget what was recorded later."""
    newest = checkpoints.latest()
    if newest is None:
        folder.forget_later(None)
        return
    _, path = newest
    check_same_population(folder.path, folder.config, load_population(path / "config.yaml"))
    counted = read_object(path / "state.json")
    folder.check_counted(counted)
    population.load(path)
    folder.forget_later(counted)
