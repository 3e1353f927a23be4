"""Elo ratings from win rates, and how much of the results they cannot express.

Elo's model: agent i beats j with probability 1 / (1 + 10^((R_j - R_i) / 400)). It is the
Bradley-Terry model with R = 400 / ln 10 * theta (Bradley and Terry 1952, Biometrika 39, 324-345).
Ratings here are its maximum likelihood estimate for all matches together, by Newton's method, so
they depend on no order of matches. A tie is half a win for each.

One number per agent expresses no cycle: if rock beats paper's beater, all are equal. Two measures
say how wrong that is:

- *Cyclic share*: results as a flow F[i, j] = -F[j, i] are the sum of a gradient, r_i - r_j with
  r_i = mean_j F[i, j], and a cyclic rest (Hodge decomposition: Jiang, Lim, Yao and Ye 2011,
  Mathematical Programming 127, 203-244; for ratings of agents: Balduzzi et al. 2018, "Re-evaluating
  Evaluation"). The share is |rest|^2 / |F|^2: 0 where differences of ratings explain everything, 1
  for rock, paper, scissors.
- *Cycle margin*: the largest t for which a cycle of agents exists in which each beats the next by
  at least t. It is 0 without a cycle. Unlike the share, it does not mistake a total order with
  unequal gaps for a cycle.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components

from comity.errors import ComityError

MEAN_RATING = 1500.0
"""Mean of all ratings."""

POINTS = 400.0 / np.log(10.0)
"""Elo points per unit of log-odds."""

CYCLE_MARGIN = 0.05
"""Cycles with a larger margin (a difference of win rates) set the warning."""

VIRTUAL_TIES = 0.5
"""Ties added to every pair where the likelihood has no maximum."""


@dataclass(frozen=True)
class Elo:
    """Ratings with what they hide."""

    ratings: np.ndarray
    """float64 `[agent]`, mean `MEAN_RATING`; 400 more are odds of 10 to 1."""
    virtual_ties: float
    """Ties added to every pair; more than 0 where some agents never lost to the others (or never
    won), whose ratings would be infinite."""
    cyclic_share: float
    """Share of the variance of log-odds that no ratings explain, in [0, 1]."""
    cycle_margin: float
    """Strength of the strongest cycle, as a difference of win rates, in [0, 1]."""
    cycle: tuple[int, ...]
    """Its agents, each beating the next and the last the first; () without a cycle."""

    @property
    def warning(self) -> str:
        """Why the ratings mislead; "" where they do not."""
        if self.cycle_margin <= CYCLE_MARGIN:
            return ""
        return (
            f"results have a cycle: each of {len(self.cycle)} agents beats the next one by at "
            f"least {self.cycle_margin:.0%}; a single number per agent cannot express that"
        )

    def expected(self, i: int, j: int) -> float:
        """The win rate of i against j that the ratings imply."""
        return float(1.0 / (1.0 + 10.0 ** ((self.ratings[j] - self.ratings[i]) / 400.0)))


def elo(wins: np.ndarray) -> Elo:
    """Ratings from `wins` float64 `[n, n]`: matches that i won against j, ties as 1/2.

    Win rates serve too: they are one match a pair. The diagonal does not count. Raises
    `ComityError` for negative numbers and for agents that never met, directly or indirectly.
    """
    counts = np.array(wins, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ComityError(f"wins must be [agent, agent], not of shape {counts.shape}")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ComityError("wins must be finite and not negative")
    np.fill_diagonal(counts, 0.0)
    n = len(counts)
    met = counts + counts.T > 0
    if n > 1 and connected_components(met, directed=False)[0] > 1:
        raise ComityError("some agents never met the others, so no rating compares them")
    # The maximum exists if no group never lost to the rest (Ford 1957).
    bounded = n == 1 or connected_components(counts > 0, connection="strong")[0] == 1
    ties = 0.0 if bounded else VIRTUAL_TIES
    smoothed = counts + ties / 2 * met
    theta = _maximum_likelihood(smoothed)
    played = counts + counts.T
    rates = np.where(met, counts / np.where(met, played, 1.0), 0.5)
    with np.errstate(divide="ignore"):
        # Log-odds of all-or-nothing results are infinite: half a tie keeps them finite.
        odds = np.log((counts + VIRTUAL_TIES / 2) / (counts.T + VIRTUAL_TIES / 2))
    margin, cycle = strongest_cycle(rates - rates.T)
    return Elo(MEAN_RATING + POINTS * theta, ties, cyclic_share(odds), margin, cycle)


def win_matrix(payoffs: np.ndarray) -> np.ndarray:
    """float64 `[n, n]`: 1 where `payoffs[i, j] > payoffs[j, i]`, 1/2 for a tie; diagonal 1/2.

    For one match of each pair; sum it over matches. Where wins are not what the game is about
    (two cooperators tie, and earn more than a winner), Elo rates something else than payoffs.
    """
    payoffs = np.asarray(payoffs, dtype=np.float64)
    return np.asarray(0.5 + 0.5 * np.sign(payoffs - payoffs.T))


def hodge_decomposition(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and cyclic part, float64 `[n, n]` each, of an antisymmetric `flow` `[n, n]`.

    On the complete graph with equal weights; the parts are orthogonal and sum to the flow.
    """
    flow = np.asarray(flow, dtype=np.float64)
    if not np.allclose(flow, -flow.T):
        raise ValueError("a flow must be antisymmetric")
    potential = flow.mean(axis=1)
    gradient = potential[:, None] - potential[None, :]
    return gradient, flow - gradient


def cyclic_share(flow: np.ndarray) -> float:
    """Share of the squared flow that is cyclic, in [0, 1]; 0 for a flow of zeros.

    `flow` float64 `[n, n]`, antisymmetric: log-odds, or payoff differences
    `payoffs - payoffs.T`.
    """
    _, cyclic = hodge_decomposition(flow)
    total = float((np.asarray(flow, dtype=np.float64) ** 2).sum())
    return float(min(1.0, (cyclic**2).sum() / total)) if total > 0 else 0.0


def strongest_cycle(margins: np.ndarray) -> tuple[float, tuple[int, ...]]:
    """The largest t with a cycle in which each agent beats the next by at least t, and a cycle.

    `margins` float64 `[n, n]`, antisymmetric. (0, ()) without a cycle.
    """
    margins = np.asarray(margins, dtype=np.float64)
    for margin in sorted({float(one) for one in margins[margins > 1e-12]}, reverse=True):
        cycle = _cycle(margins >= margin)
        if cycle:
            return margin, cycle
    return 0.0, ()


def _cycle(beats: np.ndarray) -> tuple[int, ...]:
    """A shortest cycle through the first agent that is in one; () if there is none."""
    count, part = connected_components(beats, connection="strong")
    if count == len(beats):
        return ()
    for first in range(len(beats)):
        if (part == part[first]).sum() > 1:
            break
    before: dict[int, int] = {}
    front = [first]
    while front:
        following = []
        for agent in front:
            for other in np.flatnonzero(beats[agent]):
                if other == first:
                    path = [agent]
                    while path[-1] != first:
                        path.append(before[path[-1]])
                    return tuple(int(one) for one in reversed(path))
                if int(other) not in before:
                    before[int(other)] = agent
                    following.append(int(other))
        front = following
    raise AssertionError("a strong component holds a cycle")


def _maximum_likelihood(wins: np.ndarray) -> np.ndarray:
    """Bradley-Terry strengths as log-odds, float64 `[n]` with mean 0."""
    n = len(wins)
    theta = np.zeros(n)
    if n == 1:
        return theta
    matches = wins + wins.T

    def likelihood(at: np.ndarray) -> float:
        return float(-(wins * np.logaddexp(0.0, at[None, :] - at[:, None])).sum())

    for _ in range(200):
        p = 1.0 / (1.0 + np.exp(theta[None, :] - theta[:, None]))
        slope = (wins - matches * p).sum(axis=1)
        weight = matches * p * (1.0 - p)
        curvature = np.diag(weight.sum(axis=1)) - weight
        # The likelihood does not change if all strengths move together; 1/n fixes their mean.
        step = np.linalg.solve(curvature + 1.0 / n, slope)
        length = 1.0
        while likelihood(theta + length * step) < likelihood(theta) - 1e-12 and length > 1e-8:
            length /= 2
        theta = theta + length * step
        theta -= theta.mean()
        if np.abs(step).max() < 1e-12:
            break
    return theta
