"""Agents by name: the players of a tournament, and frozen policies of other runs on a seat.

Agents with the same model, prompt and answer format share a backend, so that one step of all
their matches is one batch.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import count

from comity.config.schema import Config
from comity.experiments.agent_plans import AgentPlan, strategy_player
from comity.experiments.backends import untrained_models
from comity.players.base import Player
from comity.players.language_model.player import LanguageModelBackend, Policy


class Agents:
    """The players of plans; a context manager that unloads their adapters."""

    def __init__(
        self,
        plans: Sequence[AgentPlan],
        loaded: Mapping[str, LanguageModelBackend] | None = None,
    ) -> None:
        """Loads every model once. `loaded`: backends that are there already, by `conditions_of`."""
        self.players: dict[str, Player] = {}
        self._stack = ExitStack()
        self._backends: dict[str, LanguageModelBackend] = dict(loaded or {})
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
        if plan.kind in ("strategy", "axelrod"):
            return strategy_player(plan)
        backend = self._backend(plan.config)
        handle = None
        if plan.adapter is not None:
            adapters = backend.engine.adapters
            # No learner's name has a colon.
            handle = next(h for n in count() if (h := f"agent:{n}") not in adapters.names)
            adapters.load(handle, plan.adapter)
            self._stack.callback(adapters.remove, handle)
        return Policy(plan.name, backend, handle, plan.config.temperature, plan.version)

    def _backend(self, config: Config) -> LanguageModelBackend:
        """The backend of a model under its conditions; shared by all agents that have both."""
        key = conditions_of(config)
        if key not in self._backends:
            self._backends[key] = untrained_models(config)
        return self._backends[key]


def conditions_of(config: Config) -> str:
    """What makes a backend: model, prompt and answer format."""
    return repr((config.model, config.prompt, config.answer))
