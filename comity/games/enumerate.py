"""Exact expectations by walking the whole game tree.

For small games only: a match of R rounds between policies that mix has (moves^seats)^R
histories. It is the oracle that sampled play, credit and gradients are tested against.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import isclose, prod
from typing import Any

import numpy as np

from comity.games.base import Game, Observation, Round, Turn

Policy = Callable[[Observation], Sequence[float]]
"""Probability of every move, `[move]`, for what a seat knows."""


def enumerate_matches(
    game: Game, policies: Sequence[Policy], seed: int = 0
) -> list[tuple[float, tuple[Round, ...]]]:
    """Every history that can happen, with its probability; `policies` is `[seat]`.

    All chance is averaged over (start, trembles, length), so `seed` only labels the states.
    Histories appear more than once where they come from different fictitious starts. Raises
    `ValueError` where a policy's probabilities do not fit the game.
    """
    return [(p, game.history(state)) for p, state in final_states(game, policies, seed)]


def final_states(game: Game, policies: Sequence[Policy], seed: int = 0) -> list[tuple[float, Any]]:
    """The same with each match's last state, which also knows how it began."""
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
    """float64 `[seat]`: expected points of the whole match (the sum over its rounds)."""
    total = np.zeros(game.seats)
    for probability, history in enumerate_matches(game, policies, seed):
        total += probability * np.sum([played.payoffs for played in history], axis=0)
    return total


def _probabilities(policy: Policy, turn: Turn, moves: int) -> list[tuple[float, int]]:
    """The moves that the policy may choose, with their probabilities."""
    probabilities = [float(p) for p in policy(turn.observation)]
    if len(probabilities) != moves or min(probabilities) < 0:
        raise ValueError(f"a policy must give {moves} probabilities, not {probabilities}")
    if not isclose(sum(probabilities), 1, abs_tol=1e-6):
        raise ValueError(f"probabilities must sum to 1, not {sum(probabilities)}")
    return [(p, move) for move, p in enumerate(probabilities) if p > 0]
