"""From names to the language models of a population: engine, adapters, learners, frozen policies.

LLM:UT                        a learner; its reward is the population's business
LLM:run:FOLDER[@ITER][:NAME]  the learner of a run, frozen, with the prompt, answer format and
                              temperature of its training
LLM:base, LLM:model:ID        an untrained model
LLM:adapter:FOLDER            a base model with an adapter, frozen
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from comity.config.player_names import parse_player
from comity.config.schema import Config
from comity.errors import ComityError
from comity.experiments.agent_plans import AgentPlan, plan_agent
from comity.experiments.agents import Agents, conditions_of, identity_of
from comity.experiments.backends import untrained_models
from comity.experiments.rules import optimizer_settings
from comity.games.randomness import POPULATION
from comity.learning.algorithms import ALGORITHMS, Algorithm
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.factory import make_learner
from comity.learning.ppo.objective import PpoSettings
from comity.players.base import Player
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.populations.agents.language_model import LanguageModelAgents, LanguageModelSettings
from comity.populations.agents.language_model_questions import LanguageModelAgent
from comity.populations.agents.language_model_training import AgentTrainer
from comity.populations.composition import LANGUAGE_MODEL, is_frozen, parse
from comity.populations.members import Members
from comity.populations.settings import PopulationSettings
from comity.populations.streams import Owner
from comity.populations.train import LANGUAGE_MODELS
from comity.prompts import PROMPTS
from comity.prompts.matrix.partner_choice import all_labels
from comity.registry import build

MAX_LEARNERS = 64
"""Most adapters that are trained at once."""


class PopulationModels:
    """The language models of a population; a context manager that unloads their adapters.

    It makes the groups that `comity.populations.train.build_population` asks for:

        with PopulationModels(settings, config) as models:
            population = build_population(settings, models)
    """

    def __init__(
        self,
        settings: PopulationSettings,
        config: Config,
        options: LanguageModelSettings | None = None,
    ) -> None:
        """`config`: model, adapter, prompt, answer format, temperature, algorithm and optimizer.

        Its game, seats and seed are ignored. Everything is checked before a model is loaded;
        raises `ComityError`.
        """
        self._options = options or LanguageModelSettings()
        composition = parse(settings.composition, settings.rewards)
        self._config = replace(config, seats=["base"] * 2, seed=settings.seed)
        self._plans, self._algorithm = check_language_models(settings, self._config)
        self._stack = ExitStack()
        loaded: dict[str, LanguageModelBackend] = {}
        self.identities: dict[str, dict[str, str]] = {}
        """What its models are, by player; see `Agents.identities`."""
        try:
            models = [one for one in composition.members if one.startswith(LANGUAGE_MODEL)]
            if any(one not in self._plans for one in models):
                learning = untrained_models(self._config)
                setting = self._config.model.activation_checkpointing
                learning.engine.checkpointing = setting == "always"
                loaded[conditions_of(self._config)] = learning
                self.identities["language models that learn"] = identity_of(learning, self._config)
            self._frozen = self._stack.enter_context(Agents([*self._plans.values()], loaded))
            self.identities.update(self._frozen.identities)
            self._backend = loaded.get(conditions_of(self._config))
            labels = all_labels(composition.size - 1)
            for backend in [*loaded.values(), *map(_backend, self._frozen.players.values())]:
                # Raises ComityError where the tokenizer cannot tell labels apart.
                backend.chat.encode_labels(labels)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "PopulationModels":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unload the adapters."""
        self._stack.close()

    def __call__(self, kind: str, members: Members) -> LanguageModelAgents:
        """The group of these members; `kind`: language_model.

        Each condition of a population has a group with adapters of its own.
        """
        if kind != LANGUAGE_MODELS:
            raise ValueError(f"no group of the kind {kind!r} is made here")
        rows = [
            [self._agent(number, owner, members.settings) for owner in members.owners]
            for number in members.settings.numbers
        ]
        settings = members.settings
        return LanguageModelAgents(
            members.agents.tolist(),
            members.owners,
            rows,
            members.size,
            settings.game,
            settings.seed,
            settings.numbers,
            self._options,
        )

    def _agent(self, number: int, owner: Owner, settings: PopulationSettings) -> LanguageModelAgent:
        """One agent of a run: a frozen policy, or a learner with a new adapter."""
        member, among = str(owner[0]), owner[1]
        if member in self._plans:
            policy = self._frozen.players[self._plans[member].name]
            assert isinstance(policy, Policy)
            return LanguageModelAgent(policy)
        backend, config = self._backend, self._config
        assert backend is not None
        name = f"run{number}-{member.removeprefix(LANGUAGE_MODEL)}-{among}-{settings.matching}"
        learner = make_learner(
            backend.engine,
            name,
            vars(config.adapter),
            self._algorithm,
            optimizer_settings(config.optimizer),
            updates=max(1, settings.iterations // self._options.episodes_per_update),
            run_seed=settings.seed,
        )
        self._stack.callback(backend.engine.adapters.remove, name)
        policy = Policy(name, backend, name, config.temperature, 0, trained=True)
        stream = (settings.seed, number, POPULATION, *owner)
        trainer = AgentTrainer(learner, config.temperature, self._options.min_decisions, stream)
        return LanguageModelAgent(policy, trainer)


def _backend(player: Player) -> LanguageModelBackend:
    """The backend of a frozen language model."""
    assert isinstance(player, Policy)
    return player.backend


def check_language_models(
    settings: PopulationSettings, config: Config
) -> tuple[dict[str, AgentPlan], Algorithm]:
    """The plans of frozen agents by member, and the algorithm; raises `ComityError`.

    Loads no model.
    """
    game = settings.game
    prompt = build("prompt", config.prompt, PROMPTS)
    prompt.labels(game)
    prompt.opening(game, game.turns(game.start(0))[0])
    algorithm = build("algorithm", config.algorithm, ALGORITHMS)
    members = parse(settings.composition, settings.rewards).members
    plans = {
        member: plan_agent(parse_player(member.removeprefix(LANGUAGE_MODEL)), config)
        for member in members
        if is_frozen(member)
    }
    learning = [one for one in members if one.startswith(LANGUAGE_MODEL) and one not in plans]
    if not learning:
        return plans, algorithm
    estimated = type(algorithm) is Reinforce and algorithm.estimator == "baseline"
    if not (estimated or isinstance(algorithm, PpoSettings)):
        raise ComityError(
            "language models of a population learn by algorithm reinforce (with the estimator "
            "baseline) or ppo; choose one of them"
        )
    if config.adapter.dropout > 0:
        raise ComityError("language models of a population need adapter.dropout=0")
    if config.exploration:
        raise ComityError("language models of a population need exploration=[]")
    twice = settings.random_matching and settings.matching == "selection"
    adapters = len(learning) * len(settings.numbers) * (2 if twice else 1)
    if adapters > MAX_LEARNERS:
        more = ", and as many under random matching" if twice else ""
        raise ComityError(
            f"{adapters} adapters would be trained at once: one for each language model and run"
            f"{more}; lower runs (1 to 3 are usual), to at most {MAX_LEARNERS} adapters"
        )
    return plans, algorithm


def pinned_members(members: Sequence[str], config: Config) -> list[str]:
    """The composition with the checkpoint of every frozen run written out.

    A run that is trained further later is not another agent in a resumed population then.
    """
    config = replace(config, seats=["base"] * 2)
    return [
        LANGUAGE_MODEL + plan_agent(parse_player(one.removeprefix(LANGUAGE_MODEL)), config).name
        if one.startswith(f"{LANGUAGE_MODEL}run:")
        else one
        for one in members
    ]
