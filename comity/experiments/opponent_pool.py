"""The opponent pool of a run: snapshots of its learners, and opponents sampled from them.

At the beginning of an iteration, `begin` samples the opponent of every match
(`comity.players.opponent_pool`), loads the adapters, and saves a snapshot if one is due, which is
in the pool from the next iteration on. `seated` returns the players of a match. All depends on the
seed, the iteration and the run's snapshots only (`comity.learning.state.snapshots`), so a resumed
run has the same opponents.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from comity.config.schema import Config, OpponentPoolConfig
from comity.config.seats import check_seat, check_strategy, is_scripted, learner_of, scripted_player
from comity.distributed.process_group import ALONE, ProcessGroup
from comity.engines.local.engine import Engine
from comity.errors import ComityError
from comity.games.base import Game
from comity.games.randomness import PAST, generator
from comity.learning.algorithms import Algorithm, Exact
from comity.learning.critic import check_valued_seats
from comity.learning.learner import Learner
from comity.learning.state.snapshots import Snapshot, Snapshots, find_adapters
from comity.players.base import Player
from comity.players.language_model.player import Policy
from comity.players.opponent_pool import (
    Opponent,
    OpponentProbabilities,
    available_snapshots,
    learning_seat,
    sample_opponent,
)


def learning_seats(seats: Sequence[Any]) -> list[int]:
    """Numbers of the seats with a learner."""
    return [number for number, seat in enumerate(seats) if learner_of(seat) is not None]


def starter_counter(config: Config, group: int) -> int:
    """The counter for a starter `by_group_parity`, from a group's number in the run.

    With an opponent pool, the live seat alternates too. The counter shifts after every common
    period of both, so that each seat starts equally often when it is live and when it is not.
    """
    if config.opponent_pool is None:
        return group
    return group + group // math.lcm(len(config.seats), len(learning_seats(config.seats)))


def check_opponent_pool(config: Config, game: Game, algorithm: Algorithm) -> None:
    """Raises `ComityError` for an invalid opponent pool; checks all that needs no model."""
    settings = config.opponent_pool
    if settings is None:
        return
    learning = learning_seats(config.seats)
    if len(learning) < 2:
        raise ComityError(
            "opponent_pool: an opponent from the pool replaces one of several learners; `seats` "
            f"needs at least two learners, not {len(learning)}"
        )
    if isinstance(algorithm, Exact):
        raise ComityError(
            "opponent_pool: algorithm exact supports current policies as opponents only; choose "
            "reinforce or ppo"
        )
    names = {learner_of(config.seats[seat]) for seat in learning}
    if _capacity(settings, len(names)) < 1:
        raise ComityError(
            f"opponent_pool.capacity: {settings.capacity} minus {len(names)} learners leaves no "
            "snapshot; raise it, or set opponent_pool.count_learners=false"
        )
    check_valued_seats(algorithm, bool(settings.scripted), "opponent_pool.scripted: ")
    for spec in settings.scripted:
        if not is_scripted(spec):
            raise ComityError(
                f"opponent_pool.scripted: {spec!r} is a language model; list scripted players only"
            )
        check_seat(spec)
        for seat in range(game.seats) if config.seat_assignment == "random" else learning:
            check_strategy(scripted_player(spec).strategy, game, seat)


def _capacity(settings: OpponentPoolConfig, learners: int) -> int:
    """Maximum snapshots per learner in an iteration's pool."""
    return settings.capacity - (learners if settings.count_learners else 0)


class OpponentPool:
    """The opponent pool of one run."""

    def __init__(
        self,
        config: Config,
        settings: OpponentPoolConfig,
        engine: Engine,
        learners: Mapping[str, Learner],
        ranks: ProcessGroup = ALONE,
    ) -> None:
        """`ranks`: all read the snapshots, the first one writes them."""
        self._config, self._settings, self._ranks = config, settings, ranks
        self._adapters, self._learners = engine.adapters, learners
        self._learning = learning_seats(config.seats)
        self._scripted = [scripted_player(spec) for spec in settings.scripted]
        self._checked = False
        self._snapshots: Snapshots | None = None
        self._pool: dict[str, list[Snapshot]] = {}
        self._loaded: set[str] = set()
        self._iteration = -1
        self._opponents: list[Opponent] = []

    def check_initial_snapshots(self) -> None:
        """Raises `ComityError` unless all of `opponent_pool.initial_snapshots` fit the model."""
        if self._checked:
            return
        for folder in dict.fromkeys(
            one for folders in self._initial_snapshots().values() for one in folders
        ):
            self._adapters.load("opponent_pool-initial", folder)
            self._adapters.remove("opponent_pool-initial")
        self._checked = True

    def _initial_snapshots(self) -> dict[str, list[Path]]:
        """The adapters of `opponent_pool.initial_snapshots` for each learner."""
        if self._settings.initial_snapshots is None:
            return {}
        return {
            name: find_adapters(Path(self._settings.initial_snapshots), name)
            for name in self._learners
        }

    def open(self, run: Path, iteration: int) -> None:
        """Start in a run's folder, or resume there at an iteration."""
        self._snapshots = Snapshots(run)
        if not self._ranks.first:
            return
        self._snapshots.remove_from(iteration)
        if self._settings.initial_snapshots is not None and not self._snapshots.has_earlier_run:
            self.check_initial_snapshots()
            self._snapshots.copy_earlier_run(self._initial_snapshots())

    def begin(self, iteration: int) -> None:
        """Sample the opponents of this iteration's matches, and save a snapshot if one is due."""
        if self._snapshots is None:
            raise ValueError("open the run's folder first")
        settings, seed = self._settings, self._config.seed
        # The first rank's list, because another one may see its latest snapshot earlier or later.
        found = self._ranks.broadcast({name: self._snapshots.of(name) for name in self._learners})
        self._pool = {
            name: available_snapshots(
                found[name],
                settings.recent,
                _capacity(settings, len(self._learners)),
                generator(seed, PAST, "available", name, iteration),
            )
            for name in self._learners
        }
        self._opponents = [
            self._sample_opponent(iteration, match) for match in range(self._config.matches)
        ]
        self._iteration = iteration
        self._load()
        # After sampling, so that opponents are older than the learners.
        if self._ranks.first and iteration > 0 and iteration % settings.every == 0:
            for name, learner in self._learners.items():
                self._snapshots.save(name, learner.version, partial(self._adapters.save, name))

    def seated(self, players: Sequence[Player], iteration: int, match: int) -> tuple[Player, ...]:
        """The player on each seat in a match of the current iteration.

        `players`: the players by seat, with the current learners.
        """
        if iteration != self._iteration:
            raise ValueError(f"begin iteration {iteration} first")
        groups = self._config.matches // self._config.group_size
        group = iteration * groups + match // self._config.group_size
        live = learning_seat(group, self._learning)
        return tuple(
            self._opponent_player(player, self._opponents[match])
            if isinstance(player, Policy) and seat in self._learning and seat != live
            else player
            for seat, player in enumerate(players)
        )

    def close(self) -> None:
        """Unload the snapshots' adapters from the engine."""
        for handle in sorted(self._loaded):
            self._adapters.remove(handle)
        self._loaded = set()

    def _sample_opponent(self, iteration: int, match: int) -> Opponent:
        """The opponent of a match, sampled per group or per match."""
        settings = self._settings
        alone = (match,) if settings.scope == "match" else ()
        group = match // self._config.group_size
        return sample_opponent(
            generator(self._config.seed, PAST, iteration, group, *alone),
            OpponentProbabilities(settings.probability, settings.scripted_probability),
            [len(snapshots) for snapshots in self._pool.values()],
            len(self._scripted),
        )

    def _load(self) -> None:
        """Load the sampled snapshots, and unload those that left the pool.

        Loaded snapshots in the pool stay loaded: `capacity` bounds the memory, and no adapter is
        loaded twice while in the pool.
        """
        kept = {one.handle for snapshots in self._pool.values() for one in snapshots}
        for handle in sorted(self._loaded - kept):
            self._adapters.remove(handle)
            self._loaded.remove(handle)
        for opponent in self._opponents:
            for snapshots, number in zip(self._pool.values(), opponent.past, strict=False):
                if number is not None and snapshots[number].handle not in self._loaded:
                    snapshots[number].check()
                    self._adapters.load(snapshots[number].handle, snapshots[number].folder)
                    self._loaded.add(snapshots[number].handle)

    def _opponent_player(self, player: Policy, opponent: Opponent) -> Player:
        """The player in place of a learner that is not live."""
        if opponent.scripted is not None:
            return self._scripted[opponent.scripted]
        drawn = dict(zip(self._pool, opponent.past, strict=False)).get(player.adapter or "")
        if drawn is None:
            return (
                player if self._settings.trained == "all_live" else replace(player, trained=False)
            )
        snapshot = self._pool[player.adapter or ""][drawn]
        return replace(
            player,
            name=f"{player.name}@{snapshot.label}",
            adapter=snapshot.handle,
            version=snapshot.version,
            trained=False,
            past=True,
        )
