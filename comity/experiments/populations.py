"""From a population's config to its settings."""

from collections.abc import Sequence
from typing import Any

from comity.config.population_schema import PopulationConfig
from comity.config.schema import Config, ModelConfig
from comity.errors import ComityError
from comity.games import make_game
from comity.populations.composition import FROZEN, LANGUAGE_MODEL, parse
from comity.populations.payoffs import check_game
from comity.populations.settings import DeepQ, PopulationSettings, Tabular
from comity.populations.train import Population
from comity.populations.types import FIXED_TYPES, reward_block


def settings_of(config: PopulationConfig) -> PopulationSettings:
    """The settings; `ComityError` for a composition or a game that is invalid."""
    game = check_game(make_game(config.game))
    return PopulationSettings(
        composition=config.agents,
        iterations=config.iterations,
        runs=config.runs,
        seed=config.seed,
        matching=config.matching,
        state=config.state,
        learner=config.learner,
        game=game,
        rewards=reward_blocks(config),
        xi=config.xi,
        beta=config.beta,
        deep_q=DeepQ(**vars(config.deep_q)),
        tabular=Tabular(**vars(config.tabular)),
        random_matching=config.controls.random_matching,
        random_selection=config.controls.random_selection,
    )


def language_model_config(config: PopulationConfig) -> Config:
    """What language models need of an experiment's config.

    Raises `ComityError` where types with the prefix LLM: that learn have no model. Frozen runs
    have their own.
    """
    members = parse(config.agents, config.types).members
    models = [one for one in members if one.startswith(LANGUAGE_MODEL)]
    learning = [one for one in models if not one.startswith(FROZEN)]
    if learning and config.model is None:
        raise ComityError(
            f"{learning[0]} is a language model, and the population has none: add "
            "model=smollm2-135m, or another of comity list models"
        )
    return Config(
        name=config.name,
        seed=config.seed,
        model=config.model or ModelConfig(),
        adapter=config.adapter,
        game=config.game,
        prompt=config.prompt,
        answer=config.answer,
        temperature=config.temperature,
        reward={"name": "own"},  # Unused: rewards are the business of the types.
        algorithm=config.algorithm,
        optimizer=config.optimizer,
        seats=["base", "base"],
    )


def reward_blocks(config: PopulationConfig) -> dict[str, dict[str, Any]]:
    """Reward blocks by type; without a name it is the type's own reward (`types.VM.beta=0.2`)."""
    found = {}
    for kind, block in config.types.items():
        if kind in FIXED_TYPES:
            raise ComityError(f"types.{kind}: {kind} is a fixed strategy; choose another name")
        own = {} if "name" in block else reward_block(kind, config.xi, config.beta)
        found[kind] = {**own, **block}
    return found


def describe(config: PopulationConfig, population: Population) -> dict[str, Any]:
    """What `agents.json` says: types as they are written in the composition, the game's name."""
    about = population.about()
    names = short_names(population.composition.members)
    numbers = population.composition.numbers
    for agent, name, number in zip(about["agents"], names, numbers, strict=True):
        agent |= {"type": name, "label": f"{name} {number}"}
    about["game"] = {"name": str(config.game["name"]), **about["game"]}
    return about


def short_names(members: Sequence[str]) -> list[str]:
    """Members with folders by their last part, unless two folders would have one name."""
    short = {
        member: f"{prefix}{member.removeprefix(prefix).rstrip('/').rpartition('/')[2]}"
        for member in dict.fromkeys(members)
        for prefix in ("LLM:run:", "LLM:adapter:")
        if member.startswith(prefix)
    }
    taken = list(short.values())
    return [
        short[member] if member in short and taken.count(short[member]) == 1 else member
        for member in members
    ]
