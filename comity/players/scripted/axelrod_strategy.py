"""Strategies of the axelrod package (Knight et al. 2016, doi:10.5334/jors.125) for our games.

- `AxelrodStrategy`: a strategy of the package by name, with its parameters.
- `SeatedStrategy`: the package's own player object on one seat of one match.

The package's strategies keep their state in player objects and draw random numbers from a
generator of their own. One object plays one seat of one match. Its seed comes from a stream of the
match, and it sees what the seat sees: the played moves, after trembles. It receives the
payoffs of the game from its own seat, the noise, and the number of rounds if that is fixed (else
infinity, as the package does where a match may end at any time).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from comity.errors import ComityError, nearest
from comity.games.base import Game, Move, Observation, Turn
from comity.games.lengths import Fixed
from comity.games.matrix.iterated import Iterated
from comity.games.randomness import STRATEGY, generator
from comity.players.scripted.axelrod_index import PREFIX, class_name, table
from comity.players.scripted.axelrod_package import (
    actions,
    count_lazily,
    explained,
    package,
    stand_in,
)
from comity.players.scripted.strategies import COOPERATE, joint_moves

SEEDS = 2**32
"""Seeds of the package's generators lie below this."""


def strategy_seed(stream: tuple[int | str, ...], seat: int) -> int:
    """The seed of the strategy on a seat of the match with this stream."""
    return int(generator(*stream, STRATEGY, seat).integers(SEEDS))


@dataclass(frozen=True)
class AxelrodStrategy:
    """A strategy of the package, for games of two seats and two moves; move 0 is cooperation."""

    class_name: str
    parameters: tuple[tuple[str, Any], ...] = ()
    """Arguments of its class by name."""
    kinds: ClassVar[tuple[str, ...]] = ("choose",)
    """Kinds of turns that it supports (`comity.games.base.KINDS`)."""

    @staticmethod
    def of(name: str, parameters: Mapping[str, Any]) -> "AxelrodStrategy":
        """The strategy `axelrod:NAME`; `ComityError` if it is unknown or cannot be played.

        `parameters`: arguments of its class; lists stand for tuples, "C" and "D" for moves.
        """
        found = class_name(name, bool(parameters))
        frozen = tuple((key, _frozen(value)) for key, value in parameters.items())
        strategy = AxelrodStrategy(found, frozen)
        known = table().get(found)
        if known is not None:
            independent = known.independent
        else:
            independent = package().Classifiers.obey_axelrod(strategy.unseated())
        if not independent:
            raise ComityError(
                f"{strategy.name} looks into other players or keeps its state from match to match, "
                "so its matches would not be independent; it cannot play here"
            )
        return strategy

    @property
    def name(self) -> str:
        """`axelrod:` and the name of its class."""
        return f"{PREFIX}{self.class_name}"

    @property
    def stochastic(self) -> bool:
        """Whether it draws random numbers, by the package's classifier."""
        return _stochastic(self)

    def seat(self, game: Game, seat: int, seed: int, prior: bool = False) -> "SeatedStrategy":
        """A new player object on a seat of one match.

        `prior`: a fictitious joint move precedes the match and counts as a round. `ComityError` if
        the strategy cannot play the game.
        """
        return SeatedStrategy(self.player(game, seat, seed, prior), stand_in())

    def player(self, game: Game, seat: int, seed: int, prior: bool = False) -> Any:
        """The package's player object for a seat (see `seat`)."""
        player = self.unseated()
        self.begin(player, game, seat, seed, prior)
        return player

    def begin(self, player: Any, game: Game, seat: int, seed: int, prior: bool = False) -> None:
        """Let a new or reset player object begin a match (see `seat`)."""
        iterated = two_by_two(game)
        fixed = isinstance(iterated.length, Fixed)
        with explained(self.name):
            player.set_match_attributes(
                length=iterated.length.longest + prior if fixed else float("inf"),
                game=payoffs_of(iterated.stage, seat),
                noise=iterated.noise,
            )
        if self.stochastic:
            player.set_seed(seed)
        count_lazily(player)

    def unseated(self) -> Any:
        """A new player object that knows of no match; `ComityError` for unknown parameters."""
        kind = _class(self.class_name)
        defaults = kind.init_params()
        names = list(defaults)
        moves = dict(zip("CD", actions(), strict=True))
        for key in dict(self.parameters):
            if key not in names:
                hint = nearest(key, names) if names else "it has no parameters"
                raise ComityError(f"player {self.name!r}: unknown parameter {key!r}; {hint}")
        arguments = {
            key: moves.get(value, value) if defaults[key] in moves.values() else value
            for key, value in self.parameters
        }
        try:
            return kind(**arguments)
        except Exception as error:  # the package checks little, so anything may be raised
            raise ComityError(
                f"player {self.name!r}: {type(error).__name__}: {error}; its parameters: "
                f"{', '.join(names) or 'none'}"
            ) from error

    def reply(self, turn: Turn, game: Game, rng: np.random.Generator) -> Move:
        """Its move by a new player object, seeded by `rng`, that replays the match.

        A match uses `AxelrodSession`, which keeps the object instead.
        """
        known = turn.observation
        seated = self.seat(game, turn.seat, int(rng.integers(SEEDS)), known.prior is not None)
        return seated.reply(known)


@dataclass
class SeatedStrategy:
    """The package's player object on a seat, and a stand-in that holds the other's moves."""

    player: Any
    other: Any
    chosen: int = 0
    """Number of moves that it chose."""
    seen: int = 0
    """Number of joint moves that it saw."""
    move: Move = COOPERATE
    """The move that it chose last."""

    def choose(self) -> Move:
        """Its next move, which counts as chosen."""
        self.chosen += 1
        with explained(type(self.player).__name__):
            self.move = int(self.player.strategy(self.other) is not actions()[COOPERATE])
        return self.move

    def see(self, own: Move, other: Move) -> None:
        """Append the joint move that was played."""
        moves = actions()
        self.player.update_history(moves[own], moves[other])
        self.other.update_history(moves[other], moves[own])
        self.seen += 1

    def reply(self, known: Observation, reseed: Mapping[int, int] | None = None) -> Move:
        """Its move after what was played, replaying what it has not seen yet.

        `reseed`: before which choice its generator gets which seed.
        """
        played = joint_moves(known)
        while True:
            if self.chosen == self.seen:
                if reseed and self.chosen in reseed and hasattr(self.player, "_random"):
                    self.player.set_seed(reseed[self.chosen])
                self.choose()
            if self.seen == len(played):
                return self.move
            own, other = (int(action != COOPERATE) for action in known.own_first(played[self.seen]))
            self.see(own, other)


def two_by_two(game: Game) -> Iterated:
    """The game; `ComityError` unless it is iterated and has two seats and two moves."""
    if not isinstance(game, Iterated) or game.seats != 2 or len(game.moves) != 2:
        raise ComityError(
            f"players {PREFIX}NAME need an iterated game of 2 seats and 2 moves; this one has "
            f"{game.seats} seats and {len(game.moves)} moves"
        )
    return game


def payoffs_of(stage: Any, seat: int) -> Any:
    """The package's `Game` of the payoffs of one seat."""
    own = {
        (mine, theirs): stage.payoff((mine, theirs) if seat == 0 else (theirs, mine))[seat]
        for mine in (0, 1)
        for theirs in (0, 1)
    }
    r, s, t, p = own[0, 0], own[0, 1], own[1, 0], own[1, 1]
    return package().Game(r=r, s=s, t=t, p=p)


def _class(name: str) -> Any:
    """The package's class; `ComityError` if the installed version has none of that name."""
    found = getattr(package(), name, None)
    if not (isinstance(found, type) and issubclass(found, package().Player)):
        raise ComityError(
            f"axelrod {package().__version__} has no strategy {name}; all of them: "
            "comity list players axelrod"
        )
    return found


@cache
def _stochastic(strategy: AxelrodStrategy) -> bool:
    return bool(package().Classifiers["stochastic"](strategy.unseated()))


def _frozen(value: Any) -> Any:
    """A config's value that can be hashed: lists become tuples; `ComityError` for a mapping."""
    if isinstance(value, Mapping):
        raise ComityError(f"parameters of {PREFIX}NAME are numbers, texts and lists, not {value!r}")
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
