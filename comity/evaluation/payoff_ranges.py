"""What is known of a game before it is played: the range of its payoffs, and whether it is random.

Intervals use both: a mean payoff lies between the game's minimum and maximum, and in a
deterministic match more matches add no information.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from comity.errors import ComityError
from comity.games import make_game
from comity.games.base import Game, Move, Turn
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.random_tables import RandomTables
from comity.games.randomness import CHECK, generator
from comity.games.split.game import Split
from comity.players.scripted.axelrod_strategy import AxelrodStrategy

TOO_MANY = 100_000
"""Maximum number of joint moves to enumerate."""

Range = tuple[float, float]


def stored_game(config: Mapping[str, Any]) -> Game | None:
    """The game of a stored config; None where it has none that can be built here."""
    game = config.get("game")
    if not isinstance(game, Mapping):
        return None
    try:
        return make_game(game)
    except ComityError:
        return None


def payoff_range(game: Game | None) -> Range | None:
    """Minimum and maximum payoff of a seat per round; None if unknown."""
    if isinstance(game, Split):
        most = sum(game.instances.most) * max(0.0, game.instances.value_range[1])
        return 0.0, float(most * (game.seats if game.shared_payoff else 1))
    if not isinstance(game, Iterated):
        return None
    if isinstance(game, RandomTables):
        low, high = float(game.distribution.low), float(game.distribution.high)
    elif len(game.moves) ** game.seats <= TOO_MANY:
        everything = product(range(len(game.moves)), repeat=game.seats)
        paid = [value for joint in everything for value in game.stage.payoff(joint)]
        low, high = float(min(paid)), float(max(paid))
    else:
        return None
    # A round in which a seat made no move pays 0 to every seat.
    return (low, high) if game.illegal == "as_defect" else (min(low, 0.0), max(high, 0.0))


def max_units(game: Game | None) -> Range | None:
    """Range of the units of one item that a seat can get or claim; None unless a split game."""
    return (0.0, float(max(game.instances.most))) if isinstance(game, Split) else None


def requires_exact_claims(game: Game | None) -> bool | None:
    """Whether seats are paid only if the claims add up to the stock exactly; None: unknown."""
    return game.payment == "exact" if isinstance(game, Split) else None


def is_deterministic(game: Game, strategies: Sequence[Any]) -> bool:
    """Whether every match of these strategies (by seat) is identical.

    For strategies of the axelrod package its classifier decides. Others that do not state the
    probabilities of their moves (`MatrixStrategy.probabilities`) count as stochastic.
    """
    if (
        not isinstance(game, Iterated)
        or game.sample_instance(0) is not game
        or len(game.initial_distribution(0)) != 1
    ):
        return False
    if isinstance(game, RandomTables) or not all(map(_may_be_deterministic, strategies)):
        return False
    state = game.start(0)
    while turns := game.turns(state):
        moves = {}
        for turn in turns:
            move = _certain_move(strategies[turn.seat], turn, game)
            if move is None:
                return False
            moves[turn.seat] = move
        following = game.successors(state, moves)
        if len(following) != 1:
            return False
        state = following[0][1]
    return True


def _may_be_deterministic(strategy: Any) -> bool:
    if isinstance(strategy, AxelrodStrategy):
        return not strategy.stochastic
    return hasattr(strategy, "probabilities")


def _certain_move(strategy: Any, turn: Turn, game: Game) -> Move | None:
    """The only move that the strategy may make; None: it mixes."""
    if isinstance(strategy, AxelrodStrategy):
        return strategy.reply(turn, game, generator(0, CHECK, turn.seat))
    law = strategy.probabilities(turn.observation, game)
    return law.index(max(law)) if max(law) == 1.0 else None
