"""The best that a memory-one policy can do for a reward, by trying all of them.

A policy that answers to the last joint move alone has one answer per state; with two moves
there are sixteen without chance, and some of them is best. Each is followed exactly through
the match, against an opponent whose answer depends on the last joint move too.

A discount of 0 is what a learner optimizes who gives every decision only its own reward (as
the published moral-alignment agents do); with a discount near 1 it also pays for what its move
makes the opponent do next.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from comity.errors import ComityError
from comity.evaluation.metrics import OUTCOMES
from comity.games.enumerate import Policy
from comity.games.iterated import Iterated
from comity.learning.exact_tables import course, policy_table, reward_table
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
    rounds, continuation, start = course(game, seat)
    if not len(law):  # A single round after which nothing comes: there is only the start.
        return {"start": _better(first[0] @ opening[0])}
    # The opponent's states have its own move first; ours have ours.
    law = law.reshape(2, 2, 2).transpose(1, 0, 2).reshape(4, 2)
    weight = discount * continuation
    values = {
        policy: _values(policy, payoff, law, rounds, weight)
        for policy in product(range(2), repeat=4)
    }
    best = np.max(list(values.values()), axis=0)
    # A policy that is best from every state exists: it is that of dynamic programming, made
    # stationary by the horizon being the same for all; where it is not, the mean decides.
    mean = max(float(value.mean()) for value in values.values())
    winners = [p for p, value in values.items() if np.allclose(value, best)] or [
        p for p, value in values.items() if np.isclose(value.mean(), mean)
    ]
    cooperating = 1.0 - np.mean(winners, axis=0)
    found = {
        state: float(chance) if chance in (0.0, 1.0) else 0.5
        for state, chance in zip(OUTCOMES, cooperating, strict=True)
    }
    if start is not None and float(start[0]) > 0:
        later = [_values(p, payoff, law, rounds - 1, weight).reshape(2, 2) for p in winners]
        found["start"] = _better(
            np.max([(first[0] + weight * value) @ opening[0] for value in later], axis=0)
        )
    return found


def _better(values: np.ndarray) -> float:
    """1 where the first of two moves is worth more, 0 where the second is, else 0.5."""
    return 0.5 if np.isclose(*values) else float(values[0] > values[1])


def _values(
    policy: Sequence[int], payoff: np.ndarray, law: np.ndarray, rounds: int, weight: float
) -> np.ndarray:
    """float64 `[4]`: discounted reward from every state on, following the policy for all rounds."""
    value = np.zeros(4)
    for _ in range(rounds):
        after = np.array([[value[2 * own + other] for other in range(2)] for own in range(2)])
        value = np.array(
            [
                law[state] @ (payoff[state, policy[state]] + weight * after[policy[state]])
                for state in range(4)
            ]
        )
    return value
