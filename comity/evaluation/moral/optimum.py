"""The best that a memory-one policy can do for a reward, by trying all of them.

A policy that answers to the last joint move alone has one answer per state; with two moves
there are sixteen without chance, and some of them is best. Each is followed exactly through
the match, against an opponent whose answer depends on the last joint move too.

A discount of 0 is what a learner optimizes who gives every decision only its own reward (as
the published moral-alignment agents do); with a discount near 1 it also pays for what its move
makes the opponent do next.
"""

from itertools import product

import numpy as np

from comity.errors import ComityError
from comity.evaluation.metrics import OUTCOMES
from comity.games.enumerate import Policy
from comity.games.matrix.iterated import Iterated
from comity.learning.exact.payoff_tables import horizon, policy_table, reward_table
from comity.rewards.base import Reward

DISCOUNTS = (0.0, 0.9)


def optimum(
    game: Iterated, reward: Reward, opponent: Policy, discount: float, seat: int = 0
) -> dict[str, float]:
    """Best P(C | state) by state, the own move first: 1, 0, or 0.5 where both are as good.

    `start` is among the states where a match begins with nothing on display, and the only one
    where such a match is a single round.

    The mean over all states before round 0 is maximized; a state that no optimal policy comes to
    is decided as a start there would be. Raises `ComityError` for games of more than two moves,
    with noise, and opponents who remember more than the last round.
    """
    if len(game.moves) != 2 or game.noise > 0:
        raise ComityError("the optimum is known for two moves without noise")
    first, payoff = np.split(reward_table(game, reward, seat).numpy(), [1])
    opening, law = np.split(policy_table(opponent, game, 1 - seat).numpy(), [1])
    rounds, continuation, start = horizon(game, seat)
    if not len(law):  # A single round after which nothing comes: there is only the start.
        return {"start": _better(first[0] @ opening[0])}
    # The opponent's states have its own move first; ours have ours.
    law = law.reshape(2, 2, 2).transpose(1, 0, 2).reshape(4, 2)
    weight = discount * continuation
    policies = np.array(list(product(range(2), repeat=4)))
    values = _values(policies, payoff, law, rounds, weight)
    best = values.max(axis=0)
    # A policy that is best from every state exists: it is that of dynamic programming, made
    # stationary by the horizon being the same for all; where it is not, the mean decides.
    means = values.mean(axis=1)
    everywhere = np.isclose(values, best).all(axis=1)
    winners = policies[everywhere if everywhere.any() else np.isclose(means, means.max())]
    cooperating = 1.0 - np.mean(winners, axis=0)
    found = {
        state: float(chance) if chance in (0.0, 1.0) else 0.5
        for state, chance in zip(OUTCOMES, cooperating, strict=True)
    }
    if start is not None and float(start[0]) > 0:
        later = _values(winners, payoff, law, rounds - 1, weight).reshape(-1, 2, 2)
        found["start"] = _better(((first[0] + weight * later) @ opening[0]).max(axis=0))
    return found


def _better(values: np.ndarray) -> float:
    """1 where the first of two moves is worth more, 0 where the second is, else 0.5."""
    return 0.5 if np.isclose(*values) else float(values[0] > values[1])


def _values(
    policies: np.ndarray, payoff: np.ndarray, law: np.ndarray, rounds: int, weight: float
) -> np.ndarray:
    """float64 `[P, 4]`: discounted reward from every state on, following each policy throughout.

    `policies` int `[P, 4]`: the move in each state.
    """
    states, rows = np.arange(4), np.arange(len(policies))[:, None]
    value = np.zeros(policies.shape)
    for _ in range(rounds):
        # What follows own move a and other move b is state 2 a + b.
        following = np.stack([value[rows, 2 * policies + other] for other in range(2)], axis=2)
        value = (law * (payoff[states, policies] + weight * following)).sum(axis=2)
    return value
