"""Agents by name, before a model is loaded: everything that can be looked up and checked.

A trained policy keeps the prompt, answer format and temperature of its training where that prompt
supports the game; all other language models have those of the experiment or tournament.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comity.config.player_names import PlayerName, parse_player
from comity.config.schema import Config
from comity.config.seats import (
    api_settings,
    check_seat,
    check_strategy,
    participant_name,
    scripted_player,
)
from comity.errors import ComityError
from comity.experiments.api_players import endpoint_of
from comity.games import make_game
from comity.games.base import Game
from comity.players.base import Player
from comity.prompts import PROMPTS
from comity.registry import build

if TYPE_CHECKING:  # Strategies play without torch.
    from comity.experiments.trained import Trained


@dataclass(frozen=True)
class AgentPlan:
    """An agent before any model is loaded."""

    name: str
    """The full name: of a run with its checkpoint and, where it has several, its learner."""
    kind: str
    """One of `comity.config.player_names.KINDS`."""
    description: str
    config: Config
    """With the model and the conditions under which it plays; strategies: the tournament's."""
    parsed: PlayerName
    adapter: Path | None = None
    version: int = -1
    """Updates of the adapter."""
    details: dict[str, Any] = field(default_factory=dict)
    """For the records and the page."""


def plan_agent(name: PlayerName, config: Config) -> AgentPlan:
    """Look up everything that an agent needs; raises `ComityError` where something is missing.

    `config`: of the tournament; its seats and training settings are ignored.
    """
    game = make_game(config.game)
    if name.kind == "run":
        return _plan_run(name, config, game)
    if name.kind in ("strategy", "axelrod"):
        check_seat(name.seat)
        player = scripted_player(name.seat)
        for seat in range(game.seats):
            check_strategy(player.strategy, game, seat)
        sentence = (type(player.strategy).__doc__ or "").strip().split("\n")[0]
        title = participant_name(name.seat)
        return AgentPlan(title, name.kind, sentence, config, name, details=name.parameters)
    if name.kind == "adapter":
        check_seat(name.text)
        folder = Path(name.target)
        described = f"{config.model.name} with the adapter in {folder}"
        details = {"model": config.model.name, **prompt_conditions(config)}
        return AgentPlan(name.text, name.kind, described, config, name, folder, 0, details)
    if name.kind in ("base", "model"):
        if name.kind == "model":
            config = replace(config, model=replace(config.model, name=name.target))
        described = f"{config.model.name}, not trained"
        details = {"model": config.model.name, **prompt_conditions(config)}
        return AgentPlan(name.text, name.kind, described, config, name, details=details)
    if name.kind == "api":
        return _plan_api(name, config)
    raise ComityError(f"player {name.text!r}: a person plays in comity play")


def _plan_api(name: PlayerName, config: Config) -> AgentPlan:
    settings = api_settings(name.seat, config.api)
    endpoint_of(settings)  # Refuses invalid settings.
    details = {
        "model": settings.model,
        "base_url": settings.base_url,
        "parameters": settings.parameters,
        "attempts": settings.attempts,
        "structured": settings.structured,
        "prompt": config.prompt,
        "answer": config.answer,
        "system": settings.system,
    }
    return AgentPlan(
        f"api:{settings.model}@{settings.base_url}",
        "api",
        f"{settings.model} behind an API",
        config,
        name,
        details=details,
    )


def is_agent(seat: Any) -> bool:
    """Whether a seat's entry names an agent that a config's own model does not play."""
    return isinstance(seat, str) and seat.partition(":")[0] in ("run", "model")


def seat_adapters(config: Config) -> set[Path]:
    """Folders of the adapters of frozen policies on seats: of `adapter:FOLDER` and of runs."""
    folders: set[Path | None] = set()
    for seat in config.seats:
        if isinstance(seat, str) and seat.startswith("adapter:"):
            folders.add(Path(seat.partition(":")[2]))
        elif is_agent(seat):
            folders.add(plan_agent(parse_player(seat), config).adapter)
    return {folder for folder in folders if folder is not None}


def pinned(config: Config) -> Config:
    """The config with the checkpoint of every run on a seat written out.

    A run that is trained further later is not another opponent in a resumed run then.
    """
    seats = [
        plan_agent(parse_player(seat), config).name if is_agent(seat) else seat
        for seat in config.seats
    ]
    return config if seats == config.seats else replace(config, seats=seats)


def prompt_conditions(config: Config) -> dict[str, Any]:
    """Prompt, answer format, temperature and system prompt: what a language model is asked with.

    They are a part of the policy: trained policies keep those of their training.
    """
    return {
        "prompt": config.prompt,
        "answer": config.answer,
        "temperature": config.temperature,
        "system": config.model.system,
    }


def supports(prompt: Mapping[str, Any], game: Game) -> bool:
    """Whether a prompt's config block supports a game."""
    try:
        built = build("prompt", prompt, PROMPTS)
        built.labels(game)
        for turn in game.turns(game.start(0)):
            built.opening(game, turn)
    except ComityError:
        return False
    return True


def strategy_player(plan: AgentPlan) -> Player:
    """The player of a strategy's plan."""
    return replace(scripted_player(plan.parsed.seat), name=plan.name)


def _plan_run(name: PlayerName, config: Config, game: Game) -> AgentPlan:
    from comity.engines.local.identity import weights_fingerprint
    from comity.experiments.trained import run_policy

    found = run_policy(Path(name.target), name.iteration, name.learner)
    own = _run_config(found, config, game)
    text = f"run:{name.target}@{found.iteration}{':' + name.learner if name.learner else ''}"
    details = {
        "experiment": found.config.name,
        "seed": found.seed,
        "iterations": found.iteration,
        "model": found.config.model.name,
        "adapter": weights_fingerprint(found.adapter),
        **prompt_conditions(own),
    }
    sentence = f"{found.name}, seed {found.seed}, after {found.iteration} iterations"
    return AgentPlan(text, "run", sentence, own, name, found.adapter, found.iteration, details)


def _run_config(found: "Trained", config: Config, game: Game) -> Config:
    """The tournament's config with the run's model, and its conditions if they fit the game."""
    own = replace(config, model=found.config.model, temperature=found.config.temperature)
    if supports(found.config.prompt, game):
        own = replace(own, prompt=found.config.prompt, answer=found.config.answer)
    return own
