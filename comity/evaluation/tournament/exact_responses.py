"""Exact best responses to the strategies of a tournament, for the metric `best_response_gap`."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from comity.errors import ComityError
from comity.evaluation.reference_points.best_response import best_response
from comity.games.base import Game
from comity.games.matrix.iterated import Iterated

MAX_STATES = 20_000
"""Most states of each dynamic program: a page must be there in seconds."""

Responses = dict[tuple[str, int], float]
"""Payoff per round of the best response, by the opponent's name and the responder's seat."""


def exact_responses(game: Game, strategies: Mapping[str, Any]) -> Responses:
    """The exact best responses to the strategies, by name, of a two-seat game.

    Without those that cannot be computed: games that are not iterated or sample their table,
    strategies that do not say how likely their moves are, and more than `MAX_STATES` states.
    """
    found: Responses = {}
    if not isinstance(game, Iterated) or game.seats != 2:
        return found
    for name, strategy in strategies.items():
        for seat in (0, 1):
            with suppress(ComityError):
                response = best_response(game, strategy, seat, max_states=MAX_STATES)
                found[name, seat] = response.value
    return found
