"""Nash equilibria of a two-player game: of a stage game, or of the meta-game of a cross-play.

Pure equilibria are enumerated. Mixed ones are found by nashpy on all pairs of supports, up to
`MAX_ENUMERATED` strategies a seat (support enumeration; Nisan et al. 2007, Algorithmic Game Theory,
3.4). Above that it is one equilibrium, that with the largest sum of payoffs, by a mixed-integer
program (Sandholm, Gilpin and Conitzer 2005, AAAI, formulation 1) on scipy's HiGHS. Every
equilibrium is verified: its *regret*, the most that a seat could gain by another strategy, is
computed from the payoffs, and what has regret is left out.

A *degenerate* game (a strategy of support size k with more than k pure best responses) can have
infinitely many equilibria. Then those listed are some of them, and the result says so.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from comity.evaluation.metagame.payoff_matrix import Payoffs, as_pair, is_symmetric, scale_of

MAX_ENUMERATED = 6
"""Most strategies of a seat whose supports are enumerated: 63 times 63 pairs of supports."""

TOLERANCE = 1e-7
"""Regret and distance of probabilities up to which numbers count as equal, in payoff ranges."""

ENUMERATED = "support enumeration: all equilibria"
DEGENERATE = "support enumeration: the game is degenerate, there may be more equilibria"
PROGRAM = "pure ones, and the one with the largest sum of payoffs by a mixed-integer program"
PURE_ONLY = "pure ones only: the mixed-integer program found none in time"


@dataclass(frozen=True)
class Equilibrium:
    """A profile of strategies from which no seat gains by deviating alone."""

    row: tuple[float, ...]
    """Probability of each of the row's strategies."""
    column: tuple[float, ...]
    """Probability of each of the column's strategies."""
    payoffs: tuple[float, float]
    """Expected payoff of the row and of the column."""
    symmetric: bool
    """Both seats are alike and play the same strategy."""
    strict: bool
    """Every deviation costs its seat; only a pure equilibrium can be strict."""

    @property
    def pure(self) -> bool:
        """Whether each seat plays one strategy for sure."""
        return max(self.row) == 1.0 and max(self.column) == 1.0


@dataclass(frozen=True)
class Equilibria:
    """The equilibria that were found, pure ones first."""

    found: tuple[Equilibrium, ...]
    method: str
    """How they were found and whether these are all."""
    complete: bool
    """Whether there are no others."""

    @property
    def pure(self) -> tuple[Equilibrium, ...]:
        """Those in which each seat plays one strategy."""
        return tuple(one for one in self.found if one.pure)

    @property
    def mixed(self) -> tuple[Equilibrium, ...]:
        """The others."""
        return tuple(one for one in self.found if not one.pure)


def pure_equilibria(payoffs: Payoffs) -> list[tuple[int, int]]:
    """All (row strategy, column strategy) that are best responses to each other."""
    row, column = as_pair(payoffs)
    slack = TOLERANCE * scale_of(row, column)
    best_row = row >= row.max(axis=0, keepdims=True) - slack
    best_column = column >= column.max(axis=1, keepdims=True) - slack
    return [(int(i), int(j)) for i, j in np.argwhere(best_row & best_column)]


def regret(payoffs: Payoffs, row: np.ndarray, column: np.ndarray) -> float:
    """The most that a seat could gain by deviating alone from (row, column), in payoffs.

    max(max_i (A y)_i - x A y, max_j (x B)_j - x B y); 0 in an equilibrium.
    """
    a, b = as_pair(payoffs)
    x, y = np.asarray(row, dtype=np.float64), np.asarray(column, dtype=np.float64)
    return float(max((a @ y).max() - x @ a @ y, (x @ b).max() - x @ b @ y))


def equilibria(payoffs: Payoffs, max_enumerated: int = MAX_ENUMERATED) -> Equilibria:
    """Pure and mixed equilibria of a square cross-play matrix or a pair of matrices.

    Beyond `max_enumerated` strategies of a seat the mixed ones are not all found; `method` says so.
    """
    row, column = as_pair(payoffs)
    alike = is_symmetric(payoffs)
    small = max(row.shape) <= max_enumerated
    # A common scale keeps the tolerances of the solver meaningful; equilibria do not change.
    scale = scale_of(row, column)
    scaled = (row - row.min()) / scale + 1.0, (column - column.min()) / scale + 1.0
    candidates = [
        (np.eye(row.shape[0])[i], np.eye(row.shape[1])[j]) for i, j in pure_equilibria(payoffs)
    ]
    solved = small
    if small:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nashpy's on degenerate games: `method` says it.
            candidates.extend(_support_enumeration(*scaled))
    kept = _distinct(scaled, candidates)
    if not small or not kept:  # Supports of degenerate games may have no single solution.
        best = _mixed_integer_program(*scaled)
        solved = best is not None
        kept = _distinct(scaled, [*kept, *([best] if best is not None else [])])
    found = tuple(_described(row, column, x, y, alike) for x, y in kept)
    if small:
        # Nondegenerate games have an odd number of equilibria (Lemke and Howson 1964).
        degenerate = len(kept) % 2 == 0 or any(_is_degenerate(*scaled, x, y) for x, y in kept)
        return Equilibria(found, DEGENERATE if degenerate else ENUMERATED, not degenerate)
    return Equilibria(found, PROGRAM if solved else PURE_ONLY, False)


def _distinct(
    payoffs: Payoffs, candidates: list[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The candidates that are equilibria, each once."""
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for x, y in candidates:
        known = any(np.allclose(x, a, atol=1e-6) and np.allclose(y, b, atol=1e-6) for a, b in kept)
        if not known and regret(payoffs, x, y) <= TOLERANCE:
            kept.append((x, y))
    return kept


def _support_enumeration(
    row: np.ndarray, column: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Equilibria on all pairs of supports."""
    import nashpy  # loads networkx: a second

    yield from nashpy.Game(row, column).support_enumeration(tol=1e-9)


def _mixed_integer_program(
    row: np.ndarray, column: np.ndarray, seconds: float = 10.0
) -> tuple[np.ndarray, np.ndarray] | None:
    """The equilibrium of the largest sum of payoffs; None if there was no time. Payoffs in [1, 2].

    Variables x, y (probabilities), u, v (payoffs), and a binary for each strategy that is 1 where
    the strategy is unused: x_i <= 1 - b_i and u - (A y)_i <= b_i, as differences are at most 1.
    """
    n, m = row.shape
    size = 2 * (n + m) + 2
    x, y, uv = slice(0, n), slice(n, n + m), 2 * (n + m)
    bx, by = slice(n + m, 2 * n + m), slice(2 * n + m, uv)

    def rows(count: int, *parts: tuple[Any, Any]) -> np.ndarray:
        block = np.zeros((count, size))
        for where, what in parts:
            block[:, where] = what
        return block

    one_n, one_m = np.ones((n, 1)), np.ones((m, 1))
    u, v = slice(uv, uv + 1), slice(uv + 1, uv + 2)
    best_row = rows(n, (u, one_n), (y, -row), (bx, -np.eye(n)))
    best_column = rows(m, (v, one_m), (x, -column.T), (by, -np.eye(m)))
    limits = [
        LinearConstraint(rows(1, (x, 1.0)), 1, 1),
        LinearConstraint(rows(1, (y, 1.0)), 1, 1),
        LinearConstraint(rows(n, (u, one_n), (y, -row)), 0, np.inf),
        LinearConstraint(rows(m, (v, one_m), (x, -column.T)), 0, np.inf),
        LinearConstraint(best_row, -np.inf, 0),
        LinearConstraint(best_column, -np.inf, 0),
        LinearConstraint(rows(n, (x, np.eye(n)), (bx, np.eye(n))), -np.inf, 1),
        LinearConstraint(rows(m, (y, np.eye(m)), (by, np.eye(m))), -np.inf, 1),
    ]
    objective = np.zeros(size)
    objective[uv:] = -1.0
    whole = np.zeros(size)
    whole[n + m : uv] = 1
    upper = np.ones(size)
    upper[uv:] = 2.0
    solved = milp(
        objective,
        constraints=limits,
        integrality=whole,
        bounds=Bounds(np.zeros(size), upper),
        options={"time_limit": seconds},
    )
    if solved.x is None:
        return None
    # Solvers allow small violations; with the supports known, linear programs do not.
    used_x, used_y = solved.x[bx] < 0.5, solved.x[by] < 0.5
    exact_y, exact_x = _indifferent(row, used_x, used_y), _indifferent(column.T, used_y, used_x)
    return None if exact_x is None or exact_y is None else (exact_x, exact_y)


def _indifferent(payoffs: np.ndarray, best: np.ndarray, support: np.ndarray) -> np.ndarray | None:
    """A strategy on `support` against which all strategies in `best` are best responses."""
    n, m = payoffs.shape
    slack = np.hstack([payoffs, -np.ones((n, 1))])
    solved = linprog(
        np.append(np.zeros(m), -1.0),
        A_ub=slack[~best] if (~best).any() else None,
        b_ub=np.zeros(int((~best).sum())) if (~best).any() else None,
        A_eq=np.vstack([slack[best], np.append(np.ones(m), 0.0)]),
        b_eq=np.append(np.zeros(int(best.sum())), 1.0),
        bounds=[(0.0, 1.0 if used else 0.0) for used in support] + [(None, None)],
        method="highs",
    )
    if not solved.success:
        return None
    found = np.maximum(solved.x[:m], 0.0)
    return np.asarray(found / found.sum())


def _is_degenerate(row: np.ndarray, column: np.ndarray, x: np.ndarray, y: np.ndarray) -> bool:
    """More pure best responses than the support of the strategy that they answer."""
    responses = row @ y, x @ column
    best = [int((one >= one.max() - TOLERANCE).sum()) for one in responses]
    return best[0] > (y > TOLERANCE).sum() or best[1] > (x > TOLERANCE).sum()


def _described(
    row: np.ndarray, column: np.ndarray, x: np.ndarray, y: np.ndarray, alike: bool
) -> Equilibrium:
    x, y = (np.where(one < TOLERANCE, 0.0, one) for one in (x, y))
    x, y = x / x.sum(), y / y.sum()
    slack = TOLERANCE * scale_of(row, column)
    own, other = row @ y, x @ column
    strict = (own >= own.max() - slack).sum() == 1 and (other >= other.max() - slack).sum() == 1
    return Equilibrium(
        tuple(float(p) for p in x),
        tuple(float(p) for p in y),
        (float(x @ row @ y), float(x @ column @ y)),
        alike and bool(np.allclose(x, y, atol=1e-6)),
        bool(strict),
    )
