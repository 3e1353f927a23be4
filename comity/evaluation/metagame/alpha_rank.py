"""Alpha-rank: the share of time that an evolving population spends with each agent.

Omidshafiei et al. 2019, "alpha-Rank: Multi-Agent Evaluation by Evolution", Scientific Reports 9,
9937 (arXiv 1903.01373). A population of m members is of one agent; from time to time a mutant that
is another one appears and takes over, or dies out. The probability that it takes over, its
fixation probability rho, follows from selection of intensity alpha; the agents then form a Markov
chain whose stationary distribution ranks them.

- *Local selection*: r invades s, and an r and an s compare what they earn against each other:
  rho = (1 - e^-u) / (1 - e^-mu) with u = alpha (payoffs[r, s] - payoffs[s, r]), and 1 / m for no
  gain.
- Without it they compare their mean payoffs against the whole population, in which p members play
  r: rho = 1 / (1 + sum_{l=1}^{m-1} prod_{p=1}^{l} exp(-alpha (f_r(p) - f_s(p)))).
- *Infinite alpha*: every gain is taken. Transitions have probability eta (1 - epsilon) for a gain,
  eta epsilon for a loss and eta / 2 for a tie (Rowland et al. 2019, "Multiagent Evaluation under
  Incomplete Information"; OpenSpiel's `use_inf_alpha`), with epsilon so small that the result is
  the limit. A gain is one under local selection, so of two agents the one that
  exploits the other counts as fitter, whatever it earns against its own kind.

eta is 1 over the number of possible mutations. Games whose seats differ are rated as one population
that plays both seats.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import logsumexp

from comity.errors import ComityError
from comity.evaluation.metagame.markov import stationary_distribution
from comity.evaluation.metagame.payoff_matrix import as_single_population

POPULATION = 50
"""m of the paper's experiments."""

EPSILON = 1e-9
"""Probability of accepting a loss in the infinite-alpha limit."""

LEAST = 1e-150
"""Smallest fixation probability: keeps the chain irreducible where exp underflows."""

TIE = 1e-12
"""Difference of payoffs up to which they are equal in the infinite-alpha limit, in ranges."""


@dataclass(frozen=True)
class AlphaRank:
    """The stationary distribution over agents."""

    distribution: np.ndarray
    """float64 `[agent]`: share of time, sums to 1."""
    transition: np.ndarray
    """float64 `[agent, agent]`: probability from row to column."""

    def ranking(self) -> list[int]:
        """Agents, most time first; equal ones in their order."""
        order = range(len(self.distribution))
        return sorted(order, key=lambda i: (-self.distribution[i], i))


def alpha_rank(
    payoffs: np.ndarray | tuple[np.ndarray, np.ndarray],
    alpha: float | None = None,
    population: int = POPULATION,
    epsilon: float = EPSILON,
    local_selection: bool = True,
) -> AlphaRank:
    """Single-population alpha-rank of a cross-play matrix `[n, n]`.

    A pair of matrices is averaged over both seats. `alpha`: selection intensity, per payoff;
    None: infinite. `population`: m, used with a finite alpha. `epsilon`: used with an infinite one.
    `local_selection`: see the module; False only with a finite alpha.
    """
    matrix = as_single_population(payoffs)
    _check(alpha, population, epsilon)
    if alpha is None and not local_selection:
        raise ComityError("without local selection alpha must be finite: give a large number")
    n = len(matrix)
    rates = np.zeros((n, n))
    for s, r in product(range(n), repeat=2):
        if r == s:
            continue
        gain = float(matrix[r, s] - matrix[s, r])
        if alpha is None:
            rates[s, r] = _accepted(gain, np.ptp(matrix), epsilon)
        elif local_selection:
            rates[s, r] = _constant_fixation(alpha * gain, population)
        else:
            rates[s, r] = _fixation(matrix, r, s, alpha, population)
    # Underflow makes a possible mutation impossible; it is only very improbable.
    transition = np.maximum(rates, LEAST) / max(n - 1, 1)
    np.fill_diagonal(transition, 0.0)
    distribution = stationary_distribution(transition)
    np.fill_diagonal(transition, 1.0 - transition.sum(axis=1))
    return AlphaRank(distribution, transition)


def _fixation(matrix: np.ndarray, r: int, s: int, alpha: float, m: int) -> float:
    """Probability that one r takes over m - 1 members that play s."""
    mutants = np.arange(1, m)
    own = ((mutants - 1) * matrix[r, r] + (m - mutants) * matrix[r, s]) / (m - 1)
    other = (mutants * matrix[s, r] + (m - mutants - 1) * matrix[s, s]) / (m - 1)
    exponents = np.concatenate([[0.0], np.cumsum(-alpha * (own - other))])
    return float(np.exp(-logsumexp(exponents)))


def _constant_fixation(u: float, m: int) -> float:
    """(1 - e^-u) / (1 - e^-mu), as 1 / sum_{l<m} e^-lu, which has no 0 / 0."""
    return float(np.exp(-logsumexp(-u * np.arange(m))))


def _accepted(gain: float, scale: float, epsilon: float) -> float:
    if abs(gain) <= TIE * max(scale, 1.0):
        return 0.5
    return 1.0 - epsilon if gain > 0 else epsilon


def _check(alpha: float | None, population: int, epsilon: float) -> None:
    if alpha is not None and not (np.isfinite(alpha) and alpha >= 0):
        raise ComityError(f"alpha must be a number of at least 0, or None, not {alpha}")
    if population < 2:
        raise ComityError(f"a population has at least two members, not {population}")
    if not 0 < epsilon < 0.5:
        raise ComityError(f"epsilon must lie between 0 and 0.5, not {epsilon}")
