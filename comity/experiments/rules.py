"""`Rules`: everything of an experiment that needs no model, built from its config.

Game, prompt, answer format, rewards, algorithm, optimizer. All names and parameters are checked.
"""

from dataclasses import dataclass

from comity.config.limits import check_distinct
from comity.config.player_names import parse_player
from comity.config.schema import Config, OptimizerConfig
from comity.config.seats import (
    check_seat,
    check_strategy,
    is_api,
    is_scripted,
    learner_of,
    scripted_player,
)
from comity.distributed.environment import alone, place
from comity.distributed.process_group import ProcessGroup
from comity.errors import ComityError, lookup, warn
from comity.experiments.agent_plans import is_agent, plan_agent
from comity.experiments.api_players import check_apis
from comity.experiments.opponent_pool import check_opponent_pool
from comity.games import make_game
from comity.games.base import Game
from comity.learning.algorithms import (
    ALGORITHMS,
    Algorithm,
    Exact,
    check_illegal_rewards,
    check_importance_weights,
)
from comity.learning.critic import check_critic
from comity.learning.exact_gradient import check_enumerable, scripted_policy_table
from comity.learning.learner import RESETS
from comity.learning.optimizer import OptimizerSettings
from comity.prompts import PROMPTS
from comity.prompts.answers import ANSWERS, AnswerFormat
from comity.prompts.base import Prompt
from comity.prompts.exploration import Exploration
from comity.registry import build
from comity.rewards import REWARDS
from comity.rewards.base import BaseReward
from comity.runs.sinks import check_sinks


@dataclass(frozen=True)
class Phase:
    """A phase of training with its own reward."""

    first: int
    """Its first iteration."""
    reward: BaseReward
    reset: tuple[str, ...] = ()
    """State to reset when it begins (`comity.learning.learner.RESETS`)."""


@dataclass(frozen=True)
class Rules:
    """All objects of an experiment that need no model."""

    game: Game
    prompt: Prompt
    answer: AnswerFormat
    phases: tuple[Phase, ...]
    """In order; the first begins with iteration 0."""
    algorithm: Algorithm
    optimizer: OptimizerSettings
    exploration: Exploration = Exploration()  # noqa: RUF009 (frozen)
    """Instructions in prompts of trained seats, in training only."""

    def phase(self, iteration: int) -> Phase:
        """The phase of an iteration."""
        return [one for one in self.phases if one.first <= iteration][-1]

    @property
    def reward(self) -> BaseReward:
        """The last phase's reward."""
        return self.phases[-1].reward

    @staticmethod
    def of(config: Config) -> "Rules":
        """The rules of a config; raises `ComityError` if it is invalid."""
        game = make_game(config.game)
        rules = Rules(
            game=game,
            prompt=build("prompt", config.prompt, PROMPTS),
            answer=build("answer", config.answer, ANSWERS),
            phases=phases(config),
            algorithm=build("algorithm", config.algorithm, ALGORITHMS),
            optimizer=optimizer_settings(config.optimizer),
            exploration=Exploration.of([vars(one) for one in config.exploration]),
        )
        rules.prompt.labels(game)
        for turn in game.turns(game.start(0)):
            rules.prompt.opening(game, turn)
        for phase in rules.phases:
            phase.reward.check(game)
        if len(config.seats) != game.seats:
            raise ComityError(
                f"the game has {game.seats} seats but `seats` names {len(config.seats)} players; "
                f"give one for each: 'seats=[{','.join(['learner'] * game.seats)}]'"
            )
        check_apis(config.seats, config.api)
        check_distinct("seats", [name for one in config.seats if (name := learner_of(one))])
        for number, seat in enumerate(config.seats):
            check_seat(seat)
            if is_agent(seat):
                plan_agent(parse_player(seat), config)
            if is_scripted(seat):
                check_strategy(scripted_player(seat).strategy, game, number)
        if config.seat_assignment == "random" and not isinstance(
            config.game.get("initial_state", "none"), str
        ):
            raise ComityError(
                "seat_assignment=random needs an initial_state that is equal for all seats: none "
                "or uniform"
            )
        check_critic(
            rules.algorithm,
            rules.optimizer,
            [is_scripted(one) or is_api(one) for one in config.seats],
        )
        if isinstance(rules.algorithm, Exact):
            rules.check_exact(config)
        return rules

    def check_exact(self, config: Config) -> None:
        """Raises `ComityError` if the algorithm `exact` does not support the config."""
        game = check_enumerable(self.game, self.prompt, self.answer)
        for number, seat in enumerate(config.seats):
            if is_api(seat):
                raise ComityError(
                    "algorithm exact needs the probabilities of all answers, and a model behind an "
                    "API does not tell them; use another algorithm or another opponent"
                )
            if is_scripted(seat):
                scripted_policy_table(scripted_player(seat).strategy, game, number)
        if config.phases or config.seat_assignment != "fixed":
            raise ComityError(
                "algorithm exact does not support phases and needs seat_assignment=fixed"
            )
        if config.adapter.dropout > 0:
            raise ComityError("algorithm exact needs adapter.dropout=0, because dropout is random")


def phases(config: Config) -> tuple[Phase, ...]:
    """The config's phases; a single one if it has none."""
    if not config.phases:
        return (Phase(0, build("reward", config.reward, REWARDS)),)
    found, first = [], 0
    for number, one in enumerate(config.phases):
        reset = config.reset if one.reset is None else one.reset
        for part in reset:
            lookup("part that a phase can reset", part, RESETS)
        if number == 0 and one.reset:
            raise ComityError("phases: nothing precedes the first phase; leave its reset empty")
        found.append(Phase(first, build("reward", one.reward, REWARDS), tuple(reset)))
        first += one.iterations or 0
    return tuple(found)


def optimizer_settings(config: OptimizerConfig) -> OptimizerSettings:
    """The learner's optimizer settings from the config."""
    return OptimizerSettings(**vars(config))


def check_ranks(config: Config, ranks: ProcessGroup) -> None:
    """Raises `ComityError` for what one process trains only; warns of ranks without matches."""
    sharding = config.model.sharding
    if ranks.size == 1:
        if sharding != "none":
            warn(
                f"model.sharding={sharding} has no effect in one process, which has the whole "
                "model; start several with torchrun --nproc-per-node N -m comity train ..."
            )
        return
    if sharding != "none" and config.model.quantization is not None:
        raise ComityError(
            f"model.sharding={sharding} does not divide quantized weights; set "
            "model.quantization=null or model.sharding=none"
        )
    if any(is_api(seat) for seat in config.seats):
        raise ComityError(
            "models behind an API answer one process, which keeps their answers, not "
            f"{ranks.size} ranks; start {alone(place().launcher)}"
        )
    if config.algorithm.get("normalization") == "minibatch":
        raise ComityError(
            "algorithm.normalization=minibatch depends on how a batch is divided, and "
            f"{ranks.size} ranks divide it otherwise than one; choose decisions or tokens"
        )
    if config.matches < ranks.size and ranks.first:
        warn(
            f"{config.matches} matches leave {ranks.size - config.matches} of {ranks.size} ranks "
            "without work; raise `matches`, or start fewer ranks"
        )


def check_training(config: Config) -> None:
    """Raises `ComityError` for an invalid training config; checks all that needs no model."""
    rules = Rules.of(config)
    check_opponent_pool(config, rules.game, rules.algorithm)
    if rules.exploration:
        rules.exploration.check(rules.prompt)
        check_importance_weights(rules.algorithm)
    check_illegal_rewards(rules.algorithm, rules.answer)
    check_sinks(config.sinks)
    if all(learner_of(seat) is None for seat in config.seats):
        raise ComityError("no seat has a learner; put `learner` on a seat: seats=[learner,base]")
