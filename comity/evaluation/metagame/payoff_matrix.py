"""The payoffs of a meta-game as arrays: agents are its moves.

A cross-play matrix `payoffs[i, j]` is what agent i earns against agent j. Where both seats are
alike it is all there is: the column's payoff is `payoffs[j, i]`. Where seats differ there are two
matrices, `(row, column)`, with the row agent i on seat 0 and the column agent j on seat 1.
"""

import numpy as np

from comity.errors import ComityError

Payoffs = np.ndarray | tuple[np.ndarray, np.ndarray]
"""float64 `[n, n]`, or a pair `[rows, columns]` of the row's and the column's payoffs."""


def as_pair(payoffs: Payoffs) -> tuple[np.ndarray, np.ndarray]:
    """float64 `(row, column)`, both `[rows, columns]`: payoffs of the row and of the column.

    Raises `ComityError` for shapes that do not fit and for values that are not finite.
    """
    if isinstance(payoffs, tuple):
        row, column = (np.asarray(one, dtype=np.float64) for one in payoffs)
    else:
        row = np.asarray(payoffs, dtype=np.float64)
        if row.ndim != 2 or row.shape[0] != row.shape[1]:
            raise ComityError(
                f"a cross-play matrix must be square, not of shape {row.shape}; give a pair of "
                "matrices where the seats differ"
            )
        column = row.T
    if row.ndim != 2 or row.shape != column.shape or not row.size:
        raise ComityError(
            f"both seats' payoffs must be matrices of one shape, not {row.shape} and {column.shape}"
        )
    if not (np.isfinite(row).all() and np.isfinite(column).all()):
        raise ComityError("payoffs must be finite: leave out agents with unplayed pairs")
    return row, column


def as_single_population(payoffs: Payoffs) -> np.ndarray:
    """float64 `[n, n]`: payoffs of agents that sit on either seat with equal probability.

    Of a pair of matrices: (row + column transposed) / 2. Raises `ComityError` if the two seats
    have different agents.
    """
    row, column = as_pair(payoffs)
    if row.shape[0] != row.shape[1]:
        raise ComityError(
            f"one population needs the same agents on both seats, not {row.shape[0]} and "
            f"{row.shape[1]}"
        )
    return row if not isinstance(payoffs, tuple) else (row + column.T) / 2


def is_symmetric(payoffs: Payoffs) -> bool:
    """Whether both seats are alike: the column's payoffs are the row's, transposed."""
    row, column = as_pair(payoffs)
    return row.shape[0] == row.shape[1] and bool(np.allclose(column, row.T, rtol=0, atol=1e-12))


def scale_of(*payoffs: np.ndarray) -> float:
    """Largest difference between two payoffs, the unit of tolerances; 1 where all are equal."""
    low = min(float(one.min()) for one in payoffs)
    high = max(float(one.max()) for one in payoffs)
    return high - low if high - low > 1e-12 * max(1.0, abs(low), abs(high)) else 1.0
