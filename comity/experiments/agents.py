"""Agents by name: the players of a tournament, built for one game.

A trained policy keeps the prompt, answer format and temperature of its training where that prompt
supports the game; all other language models have those of the tournament. Agents with the same
model and the same conditions share a backend, so that one step of all their matches is one batch.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comity.config.player_names import PlayerName
from comity.config.schema import Config
from comity.config.seats import check_seat, check_strategy, scripted_player
from comity.errors import ComityError
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
    if name.kind == "strategy":
        check_seat(name.seat)
        player = scripted_player(name.seat)
        for seat in range(game.seats):
            check_strategy(player.strategy, game, seat)
        sentence = (type(player.strategy).__doc__ or "").strip().split("\n")[0]
        return AgentPlan(name.text, name.kind, sentence, config, name, details=name.parameters)
    if name.kind == "adapter":
        check_seat(name.text)
        folder = Path(name.target)
        described = f"{config.model.name} with the adapter in {folder}"
        return AgentPlan(name.text, name.kind, described, config, name, folder, 0)
    if name.kind in ("base", "model"):
        if name.kind == "model":
            config = replace(config, model=replace(config.model, name=name.target))
        described = f"{config.model.name}, not trained"
        details = {"model": config.model.name, **prompt_conditions(config)}
        return AgentPlan(name.text, name.kind, described, config, name, details=details)
    raise ComityError(f"player {name.text!r}: {_unsupported(name.kind)}")


def _unsupported(kind: str) -> str:
    if kind == "human":
        return "a person plays in comity play"
    return f"players of the kind {kind!r} cannot play here"


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


class Agents:
    """The players of a tournament; a context manager that unloads their adapters."""

    def __init__(self, plans: Sequence[AgentPlan]) -> None:
        """Loads every model once, in the order of first use."""
        self.players: dict[str, Player] = {}
        self._stack = ExitStack()
        self._backends: dict[str, Any] = {}
        try:
            # By model, because one loaded model is kept for the next agent.
            built = {
                plan.name: self._player(plan)
                for plan in sorted(plans, key=lambda one: one.config.model.name)
            }
        except BaseException:
            self.close()
            raise
        self.players = {plan.name: built[plan.name] for plan in plans}

    def __enter__(self) -> "Agents":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unload the adapters."""
        self._stack.close()

    def _player(self, plan: AgentPlan) -> Player:
        if plan.kind == "strategy":
            return replace(scripted_player(plan.parsed.seat), name=plan.name)
        from comity.players.language_model.player import Policy

        backend = self._backend(plan.config)
        handle = None
        if plan.adapter is not None:
            adapters = backend.engine.adapters
            handle = f"agent:{len(adapters.names)}"  # No learner's name has a colon.
            adapters.load(handle, plan.adapter)
            self._stack.callback(adapters.remove, handle)
        return Policy(plan.name, backend, handle, plan.config.temperature, plan.version)

    def _backend(self, config: Config) -> Any:
        """The backend of a model under its conditions; shared by all agents that have both."""
        from comity.experiments.backends import untrained_models

        key = repr((config.model, config.prompt, config.answer))
        if key not in self._backends:
            self._backends[key] = untrained_models(config)
        return self._backends[key]
