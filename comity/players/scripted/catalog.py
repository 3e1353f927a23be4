"""All strategies by name: for games of moves, and negotiators for split games.

Strategies of the axelrod package have names of their own (`comity.players.scripted.axelrod_index`).

Imports no model library, so that `comity list` starts quickly; `comity.players.scripted.player`
makes players of strategies.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from comity.errors import ComityError
from comity.games.base import KINDS, Claim, Game, Illegal, Reply, Turn
from comity.games.randomness import CHECK, generator
from comity.games.split.game import Split
from comity.players.scripted import negotiators, strategies
from comity.players.scripted.axelrod_index import is_axelrod
from comity.players.scripted.axelrod_strategy import AxelrodStrategy
from comity.registry import build, own_parts


class Strategy(Protocol):
    """A strategy for games of two moves, or a negotiator."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of turns that it supports (`comity.games.base.KINDS`)."""
        ...

    def reply(self, turn: Turn, game: Game, rng: np.random.Generator) -> Reply:
        """The response; `rng` is its own stream. `ComityError` if it cannot play the game."""
        ...


MATRIX_STRATEGIES: dict[str, type[strategies.MatrixStrategy]] = {
    "always_cooperate": strategies.AlwaysCooperate,
    "always_defect": strategies.AlwaysDefect,
    "tit_for_tat": strategies.TitForTat,
    "noisy_tit_for_tat": strategies.NoisyTitForTat,
    "suspicious_tit_for_tat": strategies.SuspiciousTitForTat,
    "generous_tit_for_tat": strategies.GenerousTitForTat,
    "tit_for_two_tats": strategies.TitForTwoTats,
    "grim_trigger": strategies.GrimTrigger,
    "win_stay_lose_shift": strategies.WinStayLoseShift,
    "random": strategies.Random,
    "alternator": strategies.Alternator,
}
"""Every strategy of games of moves by name."""

NEGOTIATORS: dict[str, type[negotiators.Negotiator]] = {
    "welfare_maximizing": negotiators.WelfareMaximizer,
    "greedy": negotiators.GreedyClaimer,
    "claim": negotiators.ConstantClaimer,
    "tit_for_tat_claims": negotiators.TitForTatClaimer,
    "uniform_random_claims": negotiators.RandomClaimer,
}
"""Every strategy of split games by name."""

STRATEGIES: dict[str, Callable[..., Strategy]] = {**MATRIX_STRATEGIES, **NEGOTIATORS}
"""Every strategy by name, for games of moves and for split games."""


def all_strategies() -> dict[str, Callable[..., Strategy]]:
    """`STRATEGIES` and the user's own."""
    return {**own_parts("player"), **STRATEGIES}


def is_strategy(name: str) -> bool:
    """Whether the name is one of `all_strategies` or of the axelrod package's (`axelrod:NAME`)."""
    return is_axelrod(name) or name in all_strategies()


def make_strategy(seat: str | Mapping[str, Any]) -> Strategy:
    """The strategy that a name or a mapping with a name and parameters describes.

    Raises `ComityError` for unknown names and parameters.
    """
    name, parameters = (seat, {}) if isinstance(seat, str) else (seat.get("name"), dict(seat))
    if is_axelrod(name):
        parameters.pop("name", None)
        return AxelrodStrategy.of(str(name), parameters)
    return build("player", seat, STRATEGIES)


def reply_text(reply: Reply, game: Game) -> str:
    """The text of a strategy's response: a move's name, "3 hats, 0 books", or the message.

    Messages are truncated at the game's limit.
    """
    if isinstance(reply, tuple):
        assert isinstance(game, Split)
        return ", ".join(f"{p} {item}" for p, item in zip(reply, game.items, strict=True))
    if isinstance(reply, Illegal):
        return ""
    if isinstance(reply, str):
        return reply[: getattr(game, "message_limit", None)]
    return game.moves[reply]


def check_can_play(strategy: Strategy, game: Game, seat: int) -> None:
    """Raises `ComityError` if it cannot play a first round and one after a bad first round."""
    rng = generator(0, CHECK, seat)
    for turn in example_turns(game):
        if turn.seat == seat:
            if turn.kind not in strategy.kinds:
                able = MATRIX_STRATEGIES if turn.kind == "choose" else NEGOTIATORS
                raise ComityError(
                    f"{_name(strategy)} cannot play this game, which asks it to {turn.kind} "
                    f"({KINDS[turn.kind]}); who can: {', '.join(able)}"
                )
            strategy.reply(turn, game, rng)


def example_turns(game: Game) -> Iterator[Turn]:
    """All turns of a first round and, if there may be one, of a second."""
    state = game.start(0)
    while (turns := game.turns(state)) and turns[0].round < 2:
        yield from turns
        state = game.step(state, {turn.seat: _worst(turn) for turn in turns})


def _name(strategy: Strategy) -> str:
    """Its name in configs; for a user's class the name of the class."""
    own = type(strategy)
    return next((name for name, kind in STRATEGIES.items() if kind is own), own.__name__)


def _worst(turn: Turn) -> Reply:
    """A legal response that is worth nothing to the others."""
    if turn.kind == "claim":
        stock: Claim = turn.observation.instance.stock  # type: ignore[attr-defined]
        return stock
    return "" if turn.kind in ("message", "talk") else turn.legal[-1]
