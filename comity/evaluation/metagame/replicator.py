"""Replicator dynamics of a population whose members are agents.

x_i' = x_i ((A x)_i - x A x): the share of an agent grows while it earns more than the average
(Taylor and Jonker 1978, Mathematical Biosciences 40, 145-156). One population: members meet at
random and sit on either seat. A is the cross-play matrix `payoffs[i, j]`; of a pair of matrices
it is the mean over both seats.

Integrated as u_i' = (A x)_i with x = softmax(u), which is the same flow: the constant that the two
differ by cancels in the softmax. Shares stay positive and sum to 1 whatever the step; an agent
that starts with share 0 stays out.

A trajectory *settled* if it ends at a rest point that no agent present at its start could invade
(limits of the dynamics are Nash equilibria among those present: the folk theorem of evolutionary
game theory, Hofbauer and Sigmund 1998, theorem 7.2.1). Cycles and paths that visit one corner
after the other are not settled.
"""

from dataclasses import dataclass

import numpy as np

from comity.errors import ComityError
from comity.evaluation.metagame.payoff_matrix import Payoffs, as_single_population, scale_of
from comity.games.randomness import METAGAME, generator

STEP = 0.25
"""Step of the integration times the payoff range."""

EXTINCT = 1e-3
"""Share below which an agent that does not grow counts as gone, at the end of a trajectory."""

RESTING = 1e-5
"""Difference of payoffs, in ranges, up to which agents at a rest point earn the same."""

STILL = 1e-14
"""Change of a share within `CHUNK` below which a trajectory does not move: rounding only."""

CHUNK = 25.0
"""Time between two looks at which trajectories have settled."""


@dataclass(frozen=True)
class RestPoint:
    """Where trajectories ended."""

    shares: tuple[float, ...]
    """Share of each agent; the mean of the ends where they differ."""
    support: tuple[int, ...]
    """The agents that are left."""
    basin: float
    """Share of the starts that ended here."""
    spread: float
    """Largest difference of a share between two of the ends: 0 for a point; more where the rest
    points form a line or face, or the approach is slow."""
    payoff: float
    """Mean payoff of the population."""


@dataclass(frozen=True)
class Basins:
    """Rest points by the share of starts that they attract, largest first."""

    rest_points: tuple[RestPoint, ...]
    unsettled: float
    """Share of the starts that settled nowhere: cycles, or too little time."""
    starts: int
    ends: np.ndarray
    """float64 `[start, agent]`."""


def trajectories(
    payoffs: Payoffs, starts: np.ndarray, time: float = 100.0, points: int = 200
) -> np.ndarray:
    """float64 `[start, points, agent]`: shares at equally spaced times, the start included.

    `starts` `[start, agent]`, rows sum to 1. `time`: in units of 1 / payoff range, in which an
    advantage of the whole range multiplies the odds by e. Raises `ComityError` for bad starts.
    """
    matrix = as_single_population(payoffs)
    begin = _checked(starts, len(matrix))
    if points < 2 or time <= 0:
        raise ComityError("trajectories need a positive time and at least two points")
    scaled = matrix / scale_of(matrix)
    inner = max(1, int(np.ceil(time / (points - 1) / STEP)))
    step = time / (points - 1) / inner
    with np.errstate(divide="ignore"):
        logits = np.log(begin)
    found = np.empty((len(begin), points, begin.shape[1]))
    found[:, 0] = begin
    for point in range(1, points):
        for _ in range(inner):
            logits = _advanced(logits, scaled, step)
        found[:, point] = _softmax(logits)
    return found


def velocity(payoffs: Payoffs, shares: np.ndarray) -> np.ndarray:
    """float64 `[..., agent]`: x_i' at `shares` `[..., agent]`, in payoffs per unit of time."""
    matrix = as_single_population(payoffs)
    fitness = shares @ matrix.T
    mean = (shares * fitness).sum(axis=-1, keepdims=True)
    moved: np.ndarray = shares * (fitness - mean)
    return moved


def basins(payoffs: Payoffs, starts: np.ndarray | None = None, time: float = 2000.0) -> Basins:
    """The rest points that trajectories from `starts` `[start, agent]` reach, with their basins.

    Without starts: `default_starts`. `time`: at most, in units of 1 / payoff range.
    """
    matrix = as_single_population(payoffs)
    begin = default_starts(len(matrix)) if starts is None else _checked(starts, len(matrix))
    scaled = matrix / scale_of(matrix)
    ends, points = begin.copy(), np.zeros_like(begin)
    moving = np.arange(len(begin))
    for _ in range(int(np.ceil(time / CHUNK))):
        before = ends.copy()
        ends[moving] = trajectories(matrix, ends[moving], CHUNK, points=2)[:, -1]
        settled = np.zeros(len(moving), dtype=bool)
        for place, start in enumerate(moving):
            point = _rest_point(scaled, ends[start], begin[start] > 0)
            # Paths pass unstable rest points slowly. What does not move at all has ended there.
            still = np.abs(ends[start] - before[start]).max() < STILL
            if point is not None and (still or _is_stable(scaled, point)):
                points[start], settled[place] = point, True
        moving = moving[~settled]
        if not len(moving):
            break
    groups: dict[tuple[int, ...], list[np.ndarray]] = {}
    for point in points[np.setdiff1d(np.arange(len(begin)), moving)]:
        groups.setdefault(tuple(int(i) for i in np.flatnonzero(point)), []).append(point)
    # Rest points of one support solve linear equations: they are one point, or a line or face.
    found = [_summary(matrix, support, np.array(g), len(begin)) for support, g in groups.items()]
    found.sort(key=lambda one: (-one.basin, one.support))
    return Basins(tuple(found), len(moving) / len(begin), len(begin), ends)


def simplex_grid(agents: int, steps: int) -> np.ndarray:
    """float64 `[start, agent]`: all points with shares k / steps, k at least 1."""
    if steps < agents:
        raise ComityError(f"a grid inside the simplex of {agents} agents needs {agents} steps")
    found = [np.array(one) for one in _compositions(steps, agents)]
    return np.array(found, dtype=np.float64) / steps


def default_starts(agents: int) -> np.ndarray:
    """float64 `[start, agent]`: points inside the simplex, the same at every call."""
    for steps, most in ((41, 2), (22, 3), (14, 4), (12, 5)):
        if agents <= most:
            return simplex_grid(agents, steps)
    rng = generator(agents, METAGAME, "replicator")
    return rng.dirichlet(np.ones(agents), size=500)


def simplex_coordinates(shares: np.ndarray) -> np.ndarray:
    """float64 `[..., 2]`: where shares `[..., 3]` lie in a triangle with sides of length 1.

    Agent 0 at (0, 0), agent 1 at (1, 0), agent 2 at (1/2, sqrt(3)/2).
    """
    shares = np.asarray(shares, dtype=np.float64)
    if shares.shape[-1] != 3:
        raise ComityError(f"a triangle draws three agents, not {shares.shape[-1]}")
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
    placed: np.ndarray = shares @ corners
    return placed


def _advanced(logits: np.ndarray, matrix: np.ndarray, step: float) -> np.ndarray:
    """One step of the classic Runge-Kutta method."""
    k1 = _softmax(logits) @ matrix.T
    k2 = _softmax(logits + step / 2 * k1) @ matrix.T
    k3 = _softmax(logits + step / 2 * k2) @ matrix.T
    k4 = _softmax(logits + step * k3) @ matrix.T
    moved = logits + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    centered: np.ndarray = moved - moved.max(axis=1, keepdims=True)
    return centered


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _rest_point(scaled: np.ndarray, end: np.ndarray, present: np.ndarray) -> np.ndarray | None:
    """The rest point that a trajectory has come to; None: it has not settled. `[agent]`."""
    fitness = scaled @ end
    gone = (end < EXTINCT) & (fitness <= end @ fitness + 1e-9)
    point = np.where(gone, 0.0, end)
    point = point / point.sum()
    fitness = scaled @ point
    mean = point @ fitness
    resting = np.abs((fitness - mean)[point > 0]).max() < RESTING
    invaded = present & (point == 0) & (fitness > mean + RESTING)
    return point if resting and not invaded.any() else None


def _is_stable(scaled: np.ndarray, point: np.ndarray) -> bool:
    """Whether no small change of shares among the agents that are left grows."""
    left = np.flatnonzero(point)
    if len(left) == 1:
        return True
    x, a = point[left], scaled[np.ix_(left, left)]
    fitness = a @ x
    slope = np.diag(fitness - x @ fitness) + x[:, None] * (a - fitness - x @ a)
    # Changes of shares sum to zero: an orthonormal basis of those.
    basis = np.linalg.svd(np.ones((1, len(left))))[2][1:]
    growth = np.linalg.eigvals(basis @ slope @ basis.T).real.max()
    return bool(growth < 1e-6)


def _summary(
    matrix: np.ndarray, support: tuple[int, ...], ends: np.ndarray, starts: int
) -> RestPoint:
    mean = ends.mean(axis=0)
    return RestPoint(
        tuple(float(p) for p in mean),
        support,
        len(ends) / starts,
        float(np.ptp(ends, axis=0).max()),
        float(mean @ matrix @ mean),
    )


def _compositions(total: int, parts: int) -> list[tuple[int, ...]]:
    """All ordered sums of `parts` positive integers."""
    if parts == 1:
        return [(total,)]
    return [
        (first, *rest)
        for first in range(1, total - parts + 2)
        for rest in _compositions(total - first, parts - 1)
    ]


def _checked(starts: np.ndarray, agents: int) -> np.ndarray:
    array = np.asarray(starts, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != agents or not len(array):
        raise ComityError(f"starts must be [start, {agents}], not of shape {array.shape}")
    if (array < 0).any() or not np.allclose(array.sum(axis=1), 1.0, atol=1e-9):
        raise ComityError("the shares of a start must not be negative and must sum to 1")
    return array
