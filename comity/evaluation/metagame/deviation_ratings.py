"""Deviation ratings: N players, general sum, and the same for copies of an agent.

Marris et al. 2025, "Deviation Ratings: A General, Clone Invariant Rating Method"
(arXiv 2502.11645). For a distribution sigma over joint strategies a, the deviation gain of
strategy b of player p is

    delta_p(b) = sum_a sigma(a) (G_p(b, a_-p) - G_p(a)),

what p would gain by always playing b instead of what sigma recommends. Sigma is a coarse
correlated equilibrium if no gain is positive. The ratings are the gains under the *strictest* such
equilibrium: the largest gain is as small as possible; given that, the next largest; and so on.
They are unique, at most 0 (one exists always with no gain above 0), and

- clones have equal ratings, and adding clones changes no rating;
- adding to a player's payoffs what only the others' strategies decide changes no rating.

A rating is in payoffs: 0 for a strategy that does as well as the equilibrium, -1 for one that
would earn 1 less. In a two-player zero-sum game the ratings measure what a strategy loses against
the equilibrium, where Nash averaging rates by the same.

Each step is a linear program: minimize epsilon subject to delta <= epsilon for all gains that are
not settled yet. Gains with a positive dual value are at epsilon in every solution (complementary
slackness), and are settled there. HiGHS solves it, through scipy.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, prod

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, hstack

from comity.errors import ComityError, WorkError
from comity.evaluation.metagame.payoff_matrix import (
    Payoffs,
    as_pair,
    is_symmetric,
    scale_of,
)

MAX_JOINT = 50_000
"""Most joint strategies: the variables of a linear program."""

DUAL = 1e-9
"""Dual values above this are positive; they sum to 1."""

SLACK = 1e-10
"""Settled gains may exceed their value by this, in payoff ranges: programs stay feasible."""


@dataclass(frozen=True)
class DeviationRatings:
    """Ratings of every player's strategies."""

    ratings: tuple[np.ndarray, ...]
    """float64 `[strategy]` for each player, in payoffs; higher is better."""
    equilibrium: np.ndarray
    """float64, an axis per player: one coarse correlated equilibrium with these gains. There can
    be others; the ratings are the same."""
    programs: int
    """Linear programs that were solved."""


def deviation_ratings(payoffs: Payoffs) -> DeviationRatings:
    """Ratings of a cross-play matrix `[n, n]`, or a pair of matrices for two different seats.

    With one matrix both seats have the same ratings: use `ratings[0]`. Raises `ComityError` as
    `deviation_ratings_of_players`.
    """
    row, column = as_pair(payoffs)
    if not is_symmetric(payoffs):
        return deviation_ratings_of_players((row, column))
    n = len(row)
    _check_size(n * n)
    # Both seats' gains are the same under the mean of sigma and its transpose, so one seat and
    # unordered pairs of strategies are enough.
    i, j = np.triu_indices(n)
    scale = scale_of(row)
    gains = (row[:, j] - row[i, j] + row[:, i] - row[j, i]) / 2 / scale
    settled, sigma, programs = _strictest(gains)
    joint = np.zeros((n, n))
    np.add.at(joint, (i, j), sigma / 2)
    np.add.at(joint, (j, i), sigma / 2)
    ratings = settled * scale + 0.0
    return DeviationRatings((ratings, ratings.copy()), joint, programs)


def deviation_ratings_of_players(payoffs: Sequence[np.ndarray]) -> DeviationRatings:
    """Ratings in a game of N players.

    `payoffs[player]`: float64 `[strategies of player 0, ..., of player N - 1]`. Raises
    `ComityError` for shapes that do not fit and more than `MAX_JOINT` joint strategies.
    """
    tensors = [np.asarray(one, dtype=np.float64) for one in payoffs]
    shape = tensors[0].shape
    if len(shape) != len(tensors) or any(one.shape != shape for one in tensors):
        raise ComityError(
            f"each of the {len(tensors)} players needs payoffs with an axis for every player"
        )
    if not all(np.isfinite(one).all() for one in tensors):
        raise ComityError("payoffs must be finite: leave out agents with unplayed pairs")
    _check_size(prod(shape))
    scale = scale_of(*(one - one.mean() for one in tensors))
    gains = deviation_gains([one / scale for one in tensors])
    settled, sigma, programs = _strictest(gains)
    ends = np.cumsum(shape)[:-1]
    return DeviationRatings(
        tuple(part + 0.0 for part in np.split(settled * scale, ends)),
        sigma.reshape(shape),
        programs,
    )


def deviation_ratings_of_compositions(
    payoffs: Mapping[tuple[str, ...], Mapping[str, float]],
) -> dict[str, float]:
    """Ratings of agents in a symmetric game of N seats.

    `payoffs`: for every composition (the sorted agents of all seats) what a seat of each of its
    agents gets. Seats are alike, so that their ratings are, and compositions are enough for joint
    strategies. Raises `ComityError` where a composition is missing, and as
    `deviation_ratings_of_players`.
    """
    agents = sorted({agent for composition in payoffs for agent in composition})
    seats = len(next(iter(payoffs), ()))
    if not agents or len(payoffs) != comb(len(agents) + seats - 1, seats):
        raise ComityError("deviation ratings need every composition of the agents")
    values = np.array([value for by_agent in payoffs.values() for value in by_agent.values()])
    if not np.isfinite(values).all():
        raise ComityError("payoffs must be finite: leave out agents with unplayed compositions")
    _check_size(len(payoffs))
    scale = scale_of(values)
    gains = np.zeros((len(agents), len(payoffs)))
    for place, (composition, paid) in enumerate(payoffs.items()):
        for agent, count in Counter(composition).items():
            others = list(composition)
            others.remove(agent)
            for row, instead in enumerate(agents):
                deviated = payoffs[tuple(sorted([*others, instead]))]
                gains[row, place] += count / seats * (deviated[instead] - paid[agent]) / scale
    settled, _, _ = _strictest(gains)
    return dict(zip(agents, (settled * scale + 0.0).tolist(), strict=True))


def deviation_gains(payoffs: Sequence[np.ndarray]) -> np.ndarray:
    """float64 `[all players' strategies, joint strategies]`: G_p(b, a_-p) - G_p(a).

    Strategies of player 0 first, then those of player 1, and so on; joint strategies in C order.
    """
    rows = []
    for player, tensor in enumerate(payoffs):
        for strategy in range(tensor.shape[player]):
            instead = np.take(tensor, [strategy], axis=player)
            rows.append((instead - tensor).reshape(-1))
    return np.array(rows)


def _check_size(joints: int) -> None:
    if joints > MAX_JOINT:
        raise ComityError(
            f"deviation ratings compare {joints} joint strategies, more than {MAX_JOINT}; leave "
            "out agents"
        )


def _strictest(gains: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The gains under the strictest equilibrium, that equilibrium, and the number of programs."""
    strategies, joints = gains.shape
    limits = np.zeros(strategies)
    open_gains = np.ones(strategies, dtype=bool)
    matrix = csr_array(gains)
    total = csr_array(np.append(np.ones(joints), 0.0)[None])
    objective = np.append(np.zeros(joints), 1.0)
    bounds = [(0.0, None)] * joints + [(None, None)]
    programs = 0
    sigma = np.zeros(joints)
    while open_gains.any():
        epsilon = csr_array(-open_gains.astype(np.float64)[:, None])
        solved = linprog(
            objective,
            A_ub=hstack([matrix, epsilon], format="csr"),
            b_ub=np.where(open_gains, 0.0, limits + SLACK),
            A_eq=total,
            b_eq=[1.0],
            bounds=bounds,
            method="highs",
        )
        programs += 1
        if not solved.success:
            raise WorkError(f"a linear program of the deviation ratings failed: {solved.message}")
        value, sigma = float(solved.x[-1]), np.where(solved.x[:-1] > 1e-8, solved.x[:-1], 0.0)
        duals = np.where(open_gains, -solved.ineqlin.marginals, 0.0)
        at_limit = duals > max(DUAL, duals.max() * 1e-6)
        if not at_limit.any():
            raise WorkError("a linear program of the deviation ratings had no binding gain")
        limits = np.where(at_limit, value, limits)
        open_gains &= ~at_limit
    return limits, sigma / sigma.sum(), programs
