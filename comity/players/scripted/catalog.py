"""All scripts: who answers by a rule, strategies of moves and negotiators alike.

Loads no model library, so that `comity list` starts quickly; `comity.players.scripted.player` seats
them.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from comity.errors import ComityError
from comity.games.base import KINDS, Claim, Game, Illegal, Reply, Turn
from comity.games.randomness import CHECK, generator
from comity.games.split.game import Split
from comity.players.scripted import negotiators, strategies
from comity.registry import own_parts


class Strategy(Protocol):
    """Somebody who answers by a rule: a strategy of two moves, or a negotiator."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it can be asked for (`comity.games.base.KINDS`)."""
        ...

    def reply(self, turn: Turn, game: Game, rng: np.random.Generator) -> Reply:
        """The answer; `rng` is its own stream. `ComityError` where it cannot play the game."""
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
"""Every scripted player by name, of games of moves and of split games."""


def all_strategies() -> dict[str, Callable[..., Strategy]]:
    """Those, and the user's own."""
    return {**own_parts("player"), **STRATEGIES}


def reply_text(reply: Reply, game: Game) -> str:
    """How a script's answer is shown: the move's name, "3 hats, 0 books", or the message.

    Of a message, what the game's limit leaves of it.
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
    """Raises `ComityError` where it cannot play: asked through a first round and a bad one."""
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
    """All turns of a first round, and of one after it if there may be one."""
    state = game.start(0)
    while (turns := game.turns(state)) and turns[0].round < 2:
        yield from turns
        state = game.step(state, {turn.seat: _worst(turn) for turn in turns})


def _name(strategy: Strategy) -> str:
    """The name that a config has for it; a class of the user's own is called by its own name."""
    own = type(strategy)
    return next((name for name, kind in STRATEGIES.items() if kind is own), own.__name__)


def _worst(turn: Turn) -> Reply:
    """A legal answer that is of no use to the others."""
    if turn.kind == "claim":
        stock: Claim = turn.observation.instance.stock  # type: ignore[attr-defined]
        return stock
    return "" if turn.kind in ("message", "talk") else turn.legal[-1]
