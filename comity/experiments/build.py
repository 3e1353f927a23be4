"""Builds an experiment's objects from its config.

`Experiment` adds the players and learners of a run to its `Rules`, which are checked before a
model is loaded. Runs in one process share the base model.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from comity.config.player_names import parse_player
from comity.config.schema import Config
from comity.config.seats import is_api, learner_of, scripted_player
from comity.distributed.process_group import ALONE, ProcessGroup
from comity.experiments.agent_plans import is_agent, plan_agent
from comity.experiments.agents import Agents, adapter_hash, conditions_of
from comity.experiments.api_players import ApiPlayers
from comity.experiments.backends import language_models
from comity.experiments.fit_update import check_fit, fit_update
from comity.experiments.opponent_pool import OpponentPool, starter_counter
from comity.experiments.rules import Rules
from comity.games.base import Game
from comity.games.lengths import SampledLength
from comity.games.randomness import ENVIRONMENT, LENGTH, SEAT_ASSIGNMENT, generator
from comity.games.split.game import group_seed
from comity.learning.algorithms import Exact
from comity.learning.exact_gradient import ExactGradient
from comity.learning.factory import make_learner
from comity.learning.learner import Learner
from comity.players.base import Player
from comity.players.language_model.player import Policy
from comity.rollout.play import Match


class Experiment:
    """The players and learners of a run; a context manager that unloads its adapters."""

    def __init__(self, config: Config, ranks: ProcessGroup = ALONE) -> None:
        """`ranks`: the processes that train the run together."""
        self.config = config
        self.ranks = ranks
        self.rules = Rules.of(config)
        # Before the model is loaded, because a key or a server may be missing.
        self.api = ApiPlayers.of(config, self.rules.prompt, self.rules.answer)
        self.learners: dict[str, Learner] = {}
        self._loaded: dict[str, str] = {}
        self.opponent_pool: OpponentPool | None = None
        self.agents: Agents | None = None
        self.identities: dict[str, dict[str, str]] = {}
        """What the policies of others on its seats are; see `Agents.identities`."""
        try:
            check_fit(config, ranks)
            self.models = language_models(config, self.rules, ranks)
            self.rules = fit_update(self.models, config, self.rules)
            self.models = replace(self.models, record=self._record())
            if config.adapter.dropout > 0 and config.adapter.dropout_in != "learning":
                learning = {name for seat in config.seats if (name := learner_of(seat))}
                self.models = replace(self.models, dropout_adapters=frozenset(learning))
            self.engine = self.models.engine
            for seat in config.seats:
                name = learner_of(seat)
                if name is not None and name not in self.learners:
                    self.learners[name] = self._new_learner(name)
            plans = [
                plan_agent(parse_player(seat), config) for seat in config.seats if is_agent(seat)
            ]
            self.agents = Agents(plans, {conditions_of(config): self.models}, ranks=ranks)
            self.identities.update(self.agents.identities)
            self.seats = tuple(self._player(seat) for seat in config.seats)
            self.exact = self._exact_gradient()
            if config.opponent_pool is not None:
                self.opponent_pool = OpponentPool(
                    config, config.opponent_pool, self.engine, self.learners, ranks
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
        """Unload the run's adapters from the shared engine; close connections."""
        self.api.close()
        if self.opponent_pool is not None:
            self.opponent_pool.close()
        if self.agents is not None:
            self.agents.close()
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
            ranks=self.ranks,
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
                folder = Path(seat.partition(":")[2])
                self.engine.adapters.load(handle, folder)
                self._loaded[seat] = handle
                self.identities[seat] = {"adapter": adapter_hash(folder)}
            handle = self._loaded[seat]
            return Policy(seat, self.models, handle, self.config.temperature, version=0)
        if is_agent(seat):
            assert self.agents is not None
            return self.agents.players[plan_agent(parse_player(seat), self.config).name]
        if is_api(seat):
            return self.api.player(seat)
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
