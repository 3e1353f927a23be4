"""Builds an experiment's objects from its config.

`Rules` holds everything that needs no model: game, prompt, answer format, rewards, algorithm.
`Experiment` adds the players and learners of a run. All names and parameters are checked before
a model is loaded. Runs in one process share the base model.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from comity.config.schema import Config, ModelConfig, OptimizerConfig
from comity.config.seats import check_seat, check_strategy, is_scripted, learner_of, scripted_player
from comity.engines.chat import ChatFormat
from comity.engines.local.devices import check_quantization, choose_device
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model, load_tokenizer
from comity.errors import ComityError, lookup
from comity.experiments.opponent_pool import OpponentPool, check_opponent_pool, starter_counter
from comity.games import make_game
from comity.games.base import Game
from comity.games.lengths import SampledLength
from comity.games.randomness import ENVIRONMENT, LENGTH, SEAT_ASSIGNMENT, generator
from comity.games.split.game import group_seed
from comity.learning.algorithms import (
    ALGORITHMS,
    Algorithm,
    Exact,
    check_illegal_rewards,
    check_importance_weights,
)
from comity.learning.critic import check_critic
from comity.learning.exact_gradient import ExactGradient, check_enumerable, scripted_policy_table
from comity.learning.factory import make_learner
from comity.learning.learner import RESETS, Learner, OptimizerSettings
from comity.players.base import Player
from comity.players.language_model.context_length import check_context
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.prompts import PROMPTS
from comity.prompts.answers import ANSWERS, AnswerFormat
from comity.prompts.base import Prompt
from comity.prompts.exploration import Exploration
from comity.registry import build
from comity.rewards import REWARDS
from comity.rewards.base import BaseReward
from comity.rollout.play import Match
from comity.runs.progress import say
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
        for number, seat in enumerate(config.seats):
            check_seat(seat)
            if is_scripted(seat):
                check_strategy(scripted_player(seat).strategy, game, number)
        if config.seat_assignment == "random" and not isinstance(
            config.game.get("initial_state", "none"), str
        ):
            raise ComityError(
                "seat_assignment=random needs an initial_state that is equal for all seats: none "
                "or uniform"
            )
        check_critic(rules.algorithm, rules.optimizer, [is_scripted(one) for one in config.seats])
        if isinstance(rules.algorithm, Exact):
            rules.check_exact(config)
        return rules

    def check_exact(self, config: Config) -> None:
        """Raises `ComityError` if the algorithm `exact` does not support the config."""
        game = check_enumerable(self.game, self.prompt, self.answer)
        for number, seat in enumerate(config.seats):
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


@lru_cache(maxsize=1)
def shared_engine(name: str, dtype: str, device: str, quantization: str | None = None) -> Engine:
    """The engine with the base model, loaded once per process."""
    say(f"loading the model {name} ...")
    return Engine(load_model(name, dtype, device, quantization))


@lru_cache(maxsize=1)
def shared_tokenizer(name: str) -> Any:
    """The model's tokenizer, loaded once per process."""
    return load_tokenizer(name)


def language_models(config: Config, rules: Rules, record: int = 0) -> LanguageModelBackend:
    """The backend of all language-model players; `record` as in `LanguageModelBackend`."""
    model: ModelConfig = config.model
    if model.threads is not None:
        torch.set_num_threads(model.threads)
    # Before loading the tokenizer, which may download the model.
    check_quantization(model.quantization, choose_device(model.device))
    chat = ChatFormat.from_tokenizer(shared_tokenizer(model.name), model.system)
    # Check labels now, before the model is loaded; `within` needs its output size.
    chat = chat.with_token_labels(labels := rules.prompt.labels(rules.game))
    chat.encode_labels(labels)
    for one in rules.exploration.instructions:
        if found := chat.control_pattern.search(one.sentence):
            raise ComityError(
                f"exploration: {one.sentence!r} contains {found.group()!r}, a control token of the "
                "model's chat template; remove it"
            )
    engine = shared_engine(model.name, model.dtype, model.device, model.quantization)
    chat = chat.for_vocabulary(engine.head.vocabulary, labels)
    models = LanguageModelBackend(
        engine, chat, rules.prompt, rules.answer, record, rules.exploration
    )
    models.check(rules.game)
    after = 0
    if config.record.followups:
        questions = config.record.questions.values()
        after = max(
            (len(chat.encode_next_prompt(one, ended=False)) for one in questions), default=0
        )
        after += config.record.followup_tokens
    check_context(models, rules.game, after)
    return models


class Experiment:
    """The players and learners of a run; a context manager that unloads its adapters."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.rules = Rules.of(config)
        self.models = language_models(config, self.rules, self._record())
        if config.adapter.dropout > 0 and config.adapter.dropout_in != "learning":
            learning = {name for seat in config.seats if (name := learner_of(seat))}
            self.models = replace(self.models, dropout_adapters=frozenset(learning))
        self.engine = self.models.engine
        self.learners: dict[str, Learner] = {}
        self._loaded: dict[str, str] = {}
        self.opponent_pool: OpponentPool | None = None
        try:
            for seat in config.seats:
                name = learner_of(seat)
                if name is not None and name not in self.learners:
                    self.learners[name] = self._new_learner(name)
            self.seats = tuple(self._player(seat) for seat in config.seats)
            self.exact = self._exact_gradient()
            if config.opponent_pool is not None:
                self.opponent_pool = OpponentPool(
                    config, config.opponent_pool, self.engine, self.learners
                )
        except BaseException:
            self.close()
            raise

    def _record(self) -> int:
        """Tokens of the rollout whose graphs are kept for the first update step; see `Session`.

        Only for one-shot prompts: a growing conversation is computed in many small forward
        passes, and backward through them is slower than one new pass over everything. Not with
        counterfactual branches either, which are not trained on.
        """
        if getattr(self.rules.algorithm, "needs_alternatives", False):
            return 0
        if not self.rules.prompt.single_turn or self.config.adapter.dropout > 0:
            return 0
        if self.rules.exploration:  # The update's prompts differ from the rollout's.
            return 0
        return int(getattr(self.rules.algorithm, "microbatch_tokens", None) or 0)

    def close(self) -> None:
        """Unload the run's adapters from the shared engine."""
        if self.opponent_pool is not None:
            self.opponent_pool.close()
        critics = [one.critic.adapter for one in self.learners.values() if one.critic]
        for name in [*self.learners, *critics, *self._loaded.values()]:
            self.engine.adapters.remove(name)
        self.learners, self._loaded = {}, {}

    def __enter__(self) -> "Experiment":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_learner(self, name: str) -> Learner:
        config, rules = self.config, self.rules
        return make_learner(
            self.engine,
            name,
            vars(config.adapter),
            rules.algorithm,
            rules.optimizer,
            updates=config.iterations,
            run_seed=config.seed,
        )

    def _exact_gradient(self) -> ExactGradient | None:
        """The gradient of the algorithm `exact`; None for other algorithms."""
        rules = self.rules
        if not isinstance(rules.algorithm, Exact):
            return None
        return ExactGradient(rules.algorithm, rules.game, rules.reward, self.models, self.seats)

    def _player(self, seat: Any) -> Player:
        name = learner_of(seat)
        if name is not None:
            return Policy(str(seat), self.models, name, self.config.temperature, 0, trained=True)
        if seat == "base":
            return Policy("base", self.models, None, self.config.temperature)
        if isinstance(seat, str) and seat.startswith("adapter:"):
            if seat not in self._loaded:
                # A colon, because learners' names have none.
                handle = f"adapter:{len(self._loaded)}"
                self.engine.adapters.load(handle, Path(seat.partition(":")[2]))
                self._loaded[seat] = handle
            handle = self._loaded[seat]
            return Policy(seat, self.models, handle, self.config.temperature, version=0)
        return scripted_player(seat)

    def players(self) -> tuple[Player, ...]:
        """The player on each seat, with the learners' current versions."""
        return tuple(
            replace(p, version=self.learners[p.adapter].version)
            if isinstance(p, Policy) and p.trained and p.adapter is not None
            else p
            for p in self.seats
        )

    def game(self, iteration: int) -> Game:
        """The game of one iteration, with its sampled length if all matches share it.

        Prompts and rewards use `rules.game`.
        """
        game: Any = self.rules.game
        draw = getattr(getattr(game, "length", None), "draw", "group")
        if draw == "group":
            return self.rules.game
        batch = (iteration,) if draw == "batch" else ()
        rng = generator(self.config.seed, LENGTH, *batch)
        shared: Game = replace(game, length=SampledLength.sample(game.length, rng))
        return shared

    def matches(self, iteration: int) -> list[Match]:
        """The matches of one iteration; those of a group share their environment seed.

        With an opponent pool, call `opponent_pool.begin` first.
        """
        config, seated = self.config, self.players()
        matches = []
        for number in range(config.matches):
            group = number // config.group_size
            players = seated
            if self.opponent_pool is not None:
                players = self.opponent_pool.seated(seated, iteration, number)
            if config.seat_assignment == "random":
                order = generator(config.seed, SEAT_ASSIGNMENT, iteration, group)
                players = tuple(players[i] for i in order.permutation(len(players)))
            seed = int(generator(config.seed, ENVIRONMENT, iteration, group).integers(2**62))
            number_of_group = iteration * (config.matches // config.group_size) + group
            seed = group_seed(self.rules.game, seed, starter_counter(config, number_of_group))
            stream = (config.seed, iteration, number)
            matches.append(Match(number, group, seed, players, stream))
        return matches
