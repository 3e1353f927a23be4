"""Moran process: which agents take over a finite population, and how often.

Of N members, in every step one is copied, chosen in proportion to its fitness, and replaces a
member that is chosen uniformly (birth-death; Moran 1958; with payoffs from games: Nowak, Sasaki,
Taylor and Fudenberg 2004, Nature 428, 646-650). Fitness is the mean payoff against the N - 1
others: f_i = (sum_j n_j payoffs[i, j] - payoffs[i, i]) / (N - 1). The process ends when all members
are of one type; the *fixation probability* is that of a type to be the one. Neutral: its share at
the start.

Two types: exact, by the birth-death chain. For a of A among N, the odds of losing an A to winning
one are f_B(k) / f_A(k) at k members A, and

    rho(a) = (1 + sum_{i=1}^{a-1} prod_{k=1}^{i} f_B(k) / f_A(k)) /
             (1 + sum_{i=1}^{N-1} prod_{k=1}^{i} f_B(k) / f_A(k)).

More types: simulated, with a seeded generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from comity.errors import ComityError
from comity.games.randomness import METAGAME, generator

MAX_STEPS = 1_000_000
"""Steps after which a simulated process counts as unfinished."""

MEMBERS = 20
"""Least members of a population that starts with as many of each type."""

MAX_TYPES = 20
"""Most types of which such a population is simulated."""

EXACT = "exact, by the birth-death chain"
SIMULATED = "simulated"


@dataclass(frozen=True)
class Fixation:
    """Fixation probabilities from one start."""

    probability: np.ndarray
    """float64 `[type]`; sums to 1 unless processes were unfinished."""
    method: str
    """`EXACT` or `SIMULATED`."""
    runs: int
    """Simulated processes; 0 where exact."""
    fixated: np.ndarray
    """int `[type]`: how many of them each type won."""


def fixation_from_equal_numbers(
    payoffs: np.ndarray, runs: int = 2000, seed: int = 0
) -> tuple[Fixation, int, bool]:
    """Fixation from as many members of each type, `MEMBERS` in all or one of each.

    `payoffs` as `fixation` takes it, or with negative values: then fitness is exp(payoff). Returns
    the probabilities, the number of members, and whether fitness is the payoff itself. Raises
    `ComityError` for more than `MAX_TYPES` types.
    """
    matrix = np.asarray(payoffs, dtype=np.float64)
    if len(matrix) > MAX_TYPES:
        raise ComityError(f"a population of {len(matrix)} types takes too long to simulate")
    plain = bool((matrix >= 0).all())
    start = [-(-MEMBERS // len(matrix))] * len(matrix)
    fitness = matrix if plain else exponential_fitness(matrix)
    return fixation(fitness, start, runs, seed), sum(start), plain


def fixation(
    payoffs: np.ndarray, start: Sequence[int], runs: int = 2000, seed: int = 0
) -> Fixation:
    """Fixation probabilities from `start`, the number of members of each type `[n]`.

    `payoffs` float64 `[n, n]`, a type's payoff against each type, itself included; not negative
    (fitness is a rate: see `exponential_fitness` for others). Exact for at most two types among
    the members, else simulated in `runs` processes. Raises `ComityError` for bad input.
    """
    matrix, counts = _checked(payoffs, start)
    there = np.flatnonzero(counts)
    if len(there) > 2:
        return simulated_fixation(matrix, counts, runs, seed)
    found = np.zeros(len(counts))
    if len(there) == 1:
        found[there[0]] = 1.0
    else:
        a, b = there
        chance = two_type_fixation(matrix[np.ix_(there, there)], int(counts.sum()), int(counts[a]))
        found[a], found[b] = chance, 1.0 - chance
    return Fixation(found, EXACT, 0, np.zeros(len(counts), dtype=np.int64))


def two_type_fixation(payoffs: np.ndarray, members: int, first: int = 1) -> float:
    """Probability that type 0 takes over from `first` of `members` members. `payoffs` `[2, 2]`."""
    matrix, _ = _checked(payoffs, [first, members - first])
    if first == members:
        return 1.0
    if first == 0:
        return 0.0
    k = np.arange(1, members)
    own = ((k - 1) * matrix[0, 0] + (members - k) * matrix[0, 1]) / (members - 1)
    other = (k * matrix[1, 0] + (members - k - 1) * matrix[1, 1]) / (members - 1)
    if ((own <= 0) & (other <= 0)).any():
        raise ComityError("no member has a positive fitness in some state: add to all payoffs")
    if (own <= 0).any() or (other <= 0).any():
        return _by_linear_equations(own, other)[first - 1]
    # In logs, since products of many odds overflow.
    weights = np.concatenate([[0.0], np.cumsum(np.log(other) - np.log(own))])
    return float(np.exp(logsumexp(weights[:first]) - logsumexp(weights)))


def simulated_fixation(
    payoffs: np.ndarray,
    start: Sequence[int] | np.ndarray,
    runs: int = 2000,
    seed: int = 0,
    max_steps: int = MAX_STEPS,
) -> Fixation:
    """Fixation probabilities by simulation, for any number of types; parameters as `fixation`.

    All runs advance together. Processes of more than `max_steps` steps count for no type.
    """
    matrix, counts = _checked(payoffs, start)
    members = int(counts.sum())
    if runs < 1:
        raise ComityError(f"runs must be at least 1, not {runs}")
    rng = generator(seed, METAGAME, "moran")
    state = np.tile(counts, (runs, 1))
    fixated = np.zeros(len(counts), dtype=np.int64)
    for _ in range(max_steps):
        done = state.max(axis=1) == members
        fixated += np.bincount(state[done].argmax(axis=1), minlength=len(counts))
        state = state[~done]
        if not len(state):
            break
        fitness = (state @ matrix.T - np.diag(matrix)) / max(members - 1, 1)
        births = _drawn(np.where(state > 0, state * fitness, 0.0), rng)
        deaths = _drawn(state.astype(np.float64), rng)
        rows = np.arange(len(state))
        state[rows, births] += 1
        state[rows, deaths] -= 1
    return Fixation(fixated / runs, SIMULATED, runs, fixated)


def exponential_fitness(payoffs: np.ndarray, intensity: float = 1.0) -> np.ndarray:
    """exp(intensity * payoff), float64 `[n, n]`: fitness where payoffs can be negative.

    Applied to the payoff of each pair (Traulsen, Shoresh and Nowak 2008 apply it to the mean).
    """
    return np.asarray(np.exp(intensity * np.asarray(payoffs, dtype=np.float64)))


def _by_linear_equations(own: np.ndarray, other: np.ndarray) -> list[float]:
    """Fixation of type 0 from 1, ..., N - 1 members, where some fitness is 0.

    h(k) = up h(k + 1) + (1 - up) h(k - 1) with up = f_A / (f_A + f_B), h(0) = 0, h(N) = 1. `own`
    and `other` float64 `[N - 1]`.
    """
    up = own / (own + other)
    inner = len(up)
    chain = np.eye(inner) - np.diag(up[:-1], 1) - np.diag(1.0 - up[1:], -1)
    end = np.zeros(inner)
    end[-1] = up[-1]
    # States between which the chain moves forever do not exist: some end is reached from each.
    return [float(h) for h in np.clip(np.linalg.solve(chain, end), 0.0, 1.0)]


def _drawn(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int `[run]`: a type in proportion to its weight in `[run, type]`."""
    sums = weights.cumsum(axis=1)
    if (sums[:, -1] <= 0).any():
        raise ComityError("no member has a positive fitness in some state: add to all payoffs")
    point = rng.random(len(weights)) * sums[:, -1]
    return np.asarray((sums <= point[:, None]).sum(axis=1))


def _checked(
    payoffs: np.ndarray, start: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    matrix, counts = np.asarray(payoffs, dtype=np.float64), np.array(start, dtype=np.int64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(counts) != len(matrix):
        raise ComityError("the Moran process needs payoffs [n, n] and a number of each of n types")
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise ComityError(
            "fitness in the Moran process must be finite and not negative; see exponential_fitness"
        )
    if (counts < 0).any() or counts.sum() < 1:
        raise ComityError("the numbers of members must not be negative, and one must be positive")
    return matrix, counts
