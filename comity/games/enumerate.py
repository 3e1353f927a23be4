"""Exact expectations by enumeration of the game tree.

For small games only: with stochastic policies a match of R rounds has (moves^seats)^R histories.
Tests compare sampled play, returns and gradients with it.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import isclose, prod
from typing import Any

import numpy as np

from comity.games.base import Game, Observation, Round, Turn

Policy = Callable[[Observation], Sequence[float]]
"""Probability of every move, `[move]`, given an observation."""


def enumerate_matches(
    game: Game, policies: Sequence[Policy], seed: int = 0
) -> list[tuple[float, tuple[Round, ...]]]:
    """Every possible history with its probability; `policies` is `[seat]`.

    Enumerates initial states, trembles and lengths, so `seed` only labels the states. A history
    is listed once for each fictitious joint move before it. Raises `ValueError` if the
    probabilities of a policy do not fit the game.
    """
    return [(p, game.history(state)) for p, state in final_states(game, policies, seed)]


def final_states(game: Game, policies: Sequence[Policy], seed: int = 0) -> list[tuple[float, Any]]:
    """As `enumerate_matches`, with the final state of each match instead of its history."""
    if len(policies) != game.seats:
        raise ValueError(f"{game.seats} seats need as many policies, not {len(policies)}")
    matches: list[tuple[float, Any]] = []
    open_states: list[tuple[float, Any]] = list(game.initial_distribution(seed))
    while open_states:
        probability, state = open_states.pop()
        turns = game.turns(state)
        if not turns:
            matches.append((probability, state))
            continue
        distributions = [
            _probabilities(policies[turn.seat], turn, len(game.moves)) for turn in turns
        ]
        for joint in product(*distributions):
            chosen = {turn.seat: move for turn, (_, move) in zip(turns, joint, strict=True)}
            weight = probability * prod(p for p, _ in joint)
            open_states.extend(
                (weight * chance, after) for chance, after in game.successors(state, chosen)
            )
    return matches


def expected_payoffs(game: Game, policies: Sequence[Policy], seed: int = 0) -> np.ndarray:
    """float64 `[seat]`: expected sum of payoffs over the rounds of a match."""
    total = np.zeros(game.seats)
    for probability, history in enumerate_matches(game, policies, seed):
        total += probability * np.sum([played.payoffs for played in history], axis=0)
    return total


def _probabilities(policy: Policy, turn: Turn, moves: int) -> list[tuple[float, int]]:
    """The moves of positive probability, with their probabilities."""
    probabilities = [float(p) for p in policy(turn.observation)]
    if len(probabilities) != moves or min(probabilities) < 0:
        raise ValueError(f"a policy must give {moves} probabilities, not {probabilities}")
    if not isclose(sum(probabilities), 1, abs_tol=1e-6):
        raise ValueError(f"probabilities must sum to 1, not {sum(probabilities)}")
    return [(p, move) for move, p in enumerate(probabilities) if p > 0]
