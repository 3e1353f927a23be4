"""What a population would run, and whether it fits: `comity population --dry-run`.

Memory is predicted from the settings (`comity.populations.memory`) and checked before anything is
made, in a dry run and at every start. Time is measured in a few episodes of the population itself,
after those in which nothing is warm; records and page come on top.
"""

import time
from collections import Counter
from dataclasses import replace

from comity.config.population_schema import PopulationConfig
from comity.engines.local.devices import memory_bytes
from comity.errors import ComityError
from comity.evaluation.population.folder import CONDITIONS
from comity.experiments.memory_needs import size
from comity.experiments.populations import language_model_config, settings_of
from comity.populations.composition import LANGUAGE_MODEL, Composition, parse
from comity.populations.memory import PopulationMemory, predict_memory
from comity.populations.settings import PopulationSettings
from comity.populations.train import agent_kinds, build_population, check, condition_names
from comity.reports.formats import counted, duration, words
from comity.runs.progress import say

SPARE = 0.05
"""Part of the free memory that a population leaves free."""
WARM_UP, SECONDS, EPISODES = 3, 3.0, 300
"""Episodes before the measurement; it ends after this time or so many episodes."""
PARTS = {
    "networks": "networks with Adam's moments and their copies in a checkpoint",
    "states": "hidden units of every state",
    "tables": "Q-tables",
    "streams": "random numbers",
    "records": "games that wait to be written",
}
"""Fields of `PopulationMemory` in words."""


def check_memory(config: PopulationConfig, settings: PopulationSettings) -> PopulationMemory:
    """The predicted memory; raises `ComityError` where it is more than this machine has free."""
    memory = _memory(config, settings)
    _, available = memory_bytes()
    if available is None or memory.total <= (1 - SPARE) * available:
        return memory
    largest = max(PARTS, key=lambda name: int(getattr(memory, name)))
    raise ComityError(
        f"this population needs about {size(memory.total)} of memory, most of it for "
        f"{PARTS[largest]} ({size(getattr(memory, largest))}), and {size(available)} are free: "
        f"{' or '.join(advice(config, settings, (1 - SPARE) * available))}"
    )


def advice(config: PopulationConfig, settings: PopulationSettings, room: float) -> list[str]:
    """What to change so that the memory fits into so many bytes."""
    found = []
    one = _memory(config, replace(settings, runs=1))
    if one.total <= room:
        found.append(f"lower --runs to at most {int(room // one.total)}")
    if settings.state == "identity":
        other = replace(settings, state="pair")
        if _memory(config, other).total <= room:
            found.append("set state=pair (identity has a state for every partner)")
    elif settings.deep_q.hidden > 1 and one.networks > room:
        found.append(f"lower deep_q.hidden (now {settings.deep_q.hidden})")
    return found or ["name fewer agents"]


def plan(config: PopulationConfig) -> list[str]:
    """The lines of a dry run; `ComityError` for what could not run."""
    settings = settings_of(config)
    composition = parse(settings.composition, settings.rewards)
    check(settings, composition)
    memory = check_memory(config, settings)
    _, available = memory_bytes()
    names = condition_names(settings)
    games = composition.size // (2 if settings.matching == "fixed" else 1)
    count = games * settings.runs * settings.iterations * len(names)
    free = "" if available is None else f" of {size(available)} free"
    models = _has_models(composition)
    beside = "; language models come on top (comity doctor)" if models else ""
    rows = [
        ("population", config.name),
        ("agents", _agents(settings, composition)),
        ("game", words(config.game)),
        ("partners", "; ".join(CONDITIONS[name] for name in names)),
        (
            "runs",
            f"{counted(settings.runs, 'run')} of {settings.iterations:,} episodes with "
            f"{counted(games, 'game')} each, {count:,} games in all",
        ),
        ("memory", f"about {size(memory.total)}{free}{beside}"),
        ("output", f"a folder in {config.output}"),
        ("time", _time(config, settings, models)),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {text}" for name, text in rows]


def _agents(settings: PopulationSettings, composition: Composition) -> str:
    """ "3: 2 S, 1 TFT (2 dqn, 1 fixed; state: partner)"."""
    types = Counter(composition.members)
    kinds = Counter(agent_kinds(settings, composition))
    return (
        f"{composition.size}: {', '.join(f'{n} {name}' for name, n in types.items())} "
        f"({', '.join(f'{n} {kind}' for kind, n in kinds.items())}; state: {settings.state})"
    )


def _time(config: PopulationConfig, settings: PopulationSettings, models: bool) -> str:
    """The estimate in words."""
    if models:
        from comity.experiments.population_models import check_language_models

        check_language_models(settings, language_model_config(config))
        return "not measured with language models; the progress line shows what is left"
    each, episodes = measured(settings)
    return (
        f"about {duration(each * settings.iterations)} on this machine without records and page: "
        f"{1e3 * each:.3g} ms per episode of all runs, measured in {counted(episodes, 'episode')}"
    )


def measured(settings: PopulationSettings) -> tuple[float, int]:
    """Seconds of an episode of all runs and conditions, and how many were measured."""
    say("measuring a few episodes ...")
    population = build_population(settings)
    for _ in range(min(WARM_UP, settings.iterations)):
        population.step()
    began, episodes = time.perf_counter(), 0
    while episodes < EPISODES and time.perf_counter() - began < SECONDS:
        population.step()
        episodes += 1
    return (time.perf_counter() - began) / episodes, episodes


def _memory(config: PopulationConfig, settings: PopulationSettings) -> PopulationMemory:
    return predict_memory(settings, config.checkpoint.every, config.record.statistics_every)


def _has_models(composition: Composition) -> bool:
    return any(member.startswith(LANGUAGE_MODEL) for member in composition.members)
