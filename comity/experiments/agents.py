"""Agents by name: the players of a tournament, and frozen policies of other runs on a seat.

Agents with the same model, prompt and answer format share a backend, so that one step of all
their matches is one batch. torch is loaded for language models of this machine only.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from comity.config.schema import Config
from comity.distributed.process_group import ALONE, ProcessGroup
from comity.experiments.agent_plans import AgentPlan, strategy_player
from comity.experiments.api_players import ApiPlayers
from comity.players.base import Player
from comity.prompts import ANSWERS, PROMPTS
from comity.registry import build
from comity.safe_reading import read_bytes

if TYPE_CHECKING:
    from comity.players.language_model.player import LanguageModelBackend


class Agents:
    """The players of plans; a context manager that unloads adapters and closes connections."""

    def __init__(
        self,
        plans: Sequence[AgentPlan],
        loaded: "Mapping[str, LanguageModelBackend] | None" = None,
        folder: Path | None = None,
        ranks: ProcessGroup = ALONE,
    ) -> None:
        """Loads every model once; raises `ComityError` where a server or a key is missing.

        `loaded`: backends that are there already, by `conditions_of`; `folder`: where the answers
        of models behind an API are kept; `ranks`: see `language_models`.
        """
        self._ranks = ranks
        self.players: dict[str, Player] = {}
        self.identities: dict[str, dict[str, str]] = {}
        """What each language model of this machine is, by player: hashes, and its precision."""
        self._stack = ExitStack()
        self._backends: dict[str, LanguageModelBackend] = dict(loaded or {})
        self.api: ApiPlayers | None = None
        try:
            # Before a model is loaded, because a key or a server may be missing.
            self._connect([plan for plan in plans if plan.kind == "api"], folder)
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
        if plan.kind == "api":
            assert self.api is not None
            return self.api.player(plan.parsed.seat, plan.name)
        from comity.players.language_model.player import Policy

        backend = self._backend(plan.config)
        adapters, handle = backend.engine.adapters, None
        self.identities[plan.name] = identity_of(backend, plan.config)
        if plan.adapter is not None:
            # No learner's name has a colon.
            handle = next(h for n in count() if (h := f"agent:{n}") not in adapters.names)
            adapters.load(handle, plan.adapter)
            self._stack.callback(adapters.remove, handle)
            self.identities[plan.name]["adapter"] = adapter_hash(plan.adapter)
        return Policy(plan.name, backend, handle, plan.config.temperature, plan.version)

    def _connect(self, plans: Sequence[AgentPlan], folder: Path | None) -> None:
        """Make the clients of models behind APIs."""
        if plans:
            self.api = self._stack.enter_context(_api_players(plans))
            if folder is not None:
                self.api.open(folder)

    def _backend(self, config: Config) -> "LanguageModelBackend":
        """The backend of a model under its conditions; shared by all agents that have both."""
        from comity.experiments.backends import untrained_models

        key = conditions_of(config)
        if key not in self._backends:
            self._backends[key] = untrained_models(config, self._ranks)
        return self._backends[key]


def identity_of(backend: "LanguageModelBackend", config: Config) -> dict[str, str]:
    """What a config's base model is here: a hash of its weights, and how it computes."""
    engine, quantization = backend.engine, config.model.quantization
    precision = str(engine.dtype).removeprefix("torch.")
    found = {"precision": f"{precision}, {quantization}" if quantization else precision}
    return (
        found if engine.adapters.base is None else {**found, "model": engine.adapters.base.weights}
    )


def adapter_hash(folder: Path) -> str:
    """Hashes of an adapter's weights and of its config, which scales them."""
    from comity.engines.local.identity import weights_fingerprint

    config = sha256(read_bytes(folder / "adapter_config.json")).hexdigest()
    return f"{weights_fingerprint(folder)} {config}"


def conditions_of(config: Config) -> str:
    """What makes a backend: model, prompt and answer format."""
    return repr((config.model, config.prompt, config.answer))


def check_servers(plans: Sequence[AgentPlan]) -> None:
    """Raises `ComityError` where a server or a key is missing, and for models that do not fit.

    For commands that make a folder, before they do.
    """
    apis = [plan for plan in plans if plan.kind == "api"]
    if apis:
        _api_players(apis).close()
    models = [plan for plan in plans if plan.kind not in ("api", "strategy", "axelrod")]
    if models:
        from comity.experiments.backends import check_before_loading

        for config in {conditions_of(plan.config): plan.config for plan in models}.values():
            check_before_loading(config)


def _api_players(plans: Sequence[AgentPlan]) -> ApiPlayers:
    """The players of models behind APIs, checked; all have the prompt of the first one's config."""
    config = plans[0].config
    prompt = build("prompt", config.prompt, PROMPTS)
    made = ApiPlayers(config.api, prompt, build("answer", config.answer, ANSWERS))
    try:
        for plan in plans:
            made.player(plan.parsed.seat, plan.name)
        made.check_servers()
    except BaseException:
        made.close()
        raise
    return made
