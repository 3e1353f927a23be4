"""From a population's config to its settings."""

from collections.abc import Mapping
from typing import Any

from comity.config.population_schema import PopulationConfig
from comity.config.schema import Config, ModelConfig
from comity.errors import ComityError
from comity.games import make_game
from comity.games.base import Game
from comity.games.matrix.iterated import Iterated
from comity.populations.composition import FROZEN, LANGUAGE_MODEL, Composition, parse
from comity.populations.settings import DeepQ, PopulationSettings, Tabular
from comity.populations.types import FIXED_TYPES, reward_block


def settings_of(config: PopulationConfig) -> PopulationSettings:
    """The settings; `ComityError` for a composition or a game that is invalid."""
    return PopulationSettings(
        composition=config.agents,
        iterations=config.iterations,
        runs=config.runs,
        seed=config.seed,
        matching=config.matching,
        state=config.state,
        learner=config.learner,
        game=make_game(config.game),
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


def describe(
    config: PopulationConfig, settings: PopulationSettings, kinds: tuple[str, ...]
) -> dict[str, Any]:
    """What `agents.json` says of a population; `kinds` of all agents."""
    composition = parse(settings.composition, settings.rewards)
    return {
        "composition": settings.composition,
        "agents": agent_rows(composition, kinds),
        "matching": settings.matching,
        "runs": len(settings.numbers),
        "iterations": settings.iterations,
        "state": settings.state,
        "game": describe_game(config.game, settings.game),
    }


def agent_rows(composition: Composition, kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every agent: index, type as it was written, kind and label."""
    return [
        {"index": index, "type": kind_of_type, "kind": kind, "label": label}
        for index, (kind_of_type, kind, label) in enumerate(
            zip(composition.members, kinds, composition.labels, strict=True)
        )
    ]


def describe_game(block: Mapping[str, Any], game: Game) -> dict[str, Any]:
    """A game with its title, moves and table `payoffs[seat 0's move][seat 1's move][seat]`."""
    assert isinstance(game, Iterated)
    payoffs = [[list(game.stage.payoff((one, other))) for other in (0, 1)] for one in (0, 1)]
    return {
        "name": str(block["name"]),
        "title": game.stage.title,
        "moves": list(game.moves),
        "payoffs": payoffs,
    }
