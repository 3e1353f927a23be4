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
from comity.experiments.agents import Agents, conditions_of
from comity.experiments.backends import untrained_models
from comity.experiments.rules import optimizer_settings
from comity.games import make_game
from comity.games.base import Game
from comity.games.randomness import POPULATION
from comity.learning.algorithms import ALGORITHMS, Algorithm
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.factory import make_learner
from comity.learning.ppo.objective import PpoSettings
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.populations.agents.language_model import LanguageModelAgents, LanguageModelSettings
from comity.populations.agents.language_model_questions import LanguageModelAgent
from comity.populations.agents.language_model_training import AgentTrainer
from comity.prompts import PROMPTS
from comity.prompts.matrix.partner_choice import all_labels
from comity.prompts.matrix.structured import two_by_two_stage
from comity.registry import build

PREFIX = "LLM:"
FROZEN = ("run", "base", "model", "adapter")
"""Kinds of frozen agents; whatever else follows the prefix is a learner's type."""
MAX_LEARNERS = 64
"""Most adapters that are trained at once, agents times runs."""


class PopulationModels:
    """The language models of a population; a context manager that unloads their adapters.

    `group` is their `comity.populations.base.AgentGroup`.
    """

    def __init__(
        self,
        members: Sequence[str],
        config: Config,
        iterations: int,
        run_numbers: Sequence[int],
        settings: LanguageModelSettings | None = None,
        game: Game | None = None,
    ) -> None:
        """`members`, `[N]`: the whole composition; those without the prefix are of other groups.

        `config`: model, adapter, prompt, answer format, temperature, algorithm and optimizer, game
        and seed; its seats are ignored. `game`: None: the config's. Everything is checked before a
        model is loaded; raises `ComityError`.
        """
        settings = settings or LanguageModelSettings()
        game = make_game(config.game) if game is None else game
        plans, algorithm = check_language_models(members, config, len(run_numbers), game)
        agents = [index for index, name in enumerate(members) if name.startswith(PREFIX)]
        owners = [(members[i], list(members[:i]).count(members[i])) for i in agents]
        self._stack = ExitStack()
        try:
            loaded: dict[str, LanguageModelBackend] = {}
            if len(plans) < len(agents):
                loaded[conditions_of(config)] = untrained_models(config)
            frozen = self._stack.enter_context(
                Agents(list({plan.name: plan for plan in plans.values()}.values()), loaded)
            )
            rows: list[list[LanguageModelAgent]] = []
            for number in run_numbers:
                rows.append([])
                for index, owner in zip(agents, owners, strict=True):
                    if index in plans:
                        policy = frozen.players[plans[index].name]
                        assert isinstance(policy, Policy)
                        rows[-1].append(LanguageModelAgent(policy))
                    else:
                        backend = loaded[conditions_of(config)]
                        stream = (config.seed, number, POPULATION, *owner)
                        rows[-1].append(
                            self._learner(stream, backend, config, algorithm, iterations, settings)
                        )
            for policy in {id(one.policy): one.policy for row in rows for one in row}.values():
                # Raises ComityError where the tokenizer cannot tell labels apart.
                policy.backend.chat.encode_labels(all_labels(len(members) - 1))
            self.group = LanguageModelAgents(
                agents, owners, rows, len(members), game, config.seed, run_numbers, settings
            )
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

    def _learner(
        self,
        stream: tuple[int | str, ...],
        backend: LanguageModelBackend,
        config: Config,
        algorithm: Algorithm,
        iterations: int,
        settings: LanguageModelSettings,
    ) -> LanguageModelAgent:
        """A learner with a new adapter; `stream` names its random streams."""
        _, number, _, kind, among = stream
        name = f"run{number}-{str(kind).removeprefix(PREFIX)}-{among}"
        learner = make_learner(
            backend.engine,
            name,
            vars(config.adapter),
            algorithm,
            optimizer_settings(config.optimizer),
            updates=max(1, iterations // settings.episodes_per_update),
            run_seed=config.seed,
        )
        self._stack.callback(backend.engine.adapters.remove, name)
        policy = Policy(name, backend, name, config.temperature, 0, trained=True)
        return LanguageModelAgent(
            policy, AgentTrainer(learner, config.temperature, settings.min_decisions, stream)
        )


def is_frozen(member: str) -> bool:
    """Whether a member of a composition is a frozen language model."""
    kind = member.removeprefix(PREFIX).partition(":")[0]
    return member.startswith(PREFIX) and kind in FROZEN


def check_language_models(
    members: Sequence[str], config: Config, runs: int, game: Game
) -> tuple[dict[int, AgentPlan], Algorithm]:
    """The plans of frozen agents by index, and the algorithm; raises `ComityError`.

    Loads no model.
    """
    two_by_two_stage(game)
    config = replace(config, seats=["base"] * 2)
    prompt = build("prompt", config.prompt, PROMPTS)
    prompt.labels(game)
    prompt.opening(game, game.turns(game.start(0))[0])
    algorithm = build("algorithm", config.algorithm, ALGORITHMS)
    plans = {
        index: plan_agent(parse_player(member.removeprefix(PREFIX)), config)
        for index, member in enumerate(members)
        if is_frozen(member)
    }
    learners = runs * sum(
        member.startswith(PREFIX) and index not in plans for index, member in enumerate(members)
    )
    if not learners:
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
    if learners > MAX_LEARNERS:
        raise ComityError(
            f"{learners} adapters would be trained at once, one for each language model and run; "
            f"lower runs, to at most {MAX_LEARNERS} of them together"
        )
    return plans, algorithm


def pinned_members(members: Sequence[str], config: Config) -> list[str]:
    """The composition with the checkpoint of every frozen run written out.

    A run that is trained further later is not another agent in a resumed population then.
    """
    config = replace(config, seats=["base"] * 2)
    found = []
    for member in members:
        if is_frozen(member) and member.startswith(f"{PREFIX}run:"):
            plan = plan_agent(parse_player(member.removeprefix(PREFIX)), config)
            member = f"{PREFIX}{plan.name}"
        found.append(member)
    return found
