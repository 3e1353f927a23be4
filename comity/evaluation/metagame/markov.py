"""The stationary distribution of a finite Markov chain."""

import numpy as np


def stationary_distribution(transition: np.ndarray) -> np.ndarray:
    """float64 `[n]`: pi with pi P = pi, of an irreducible chain `transition[from, to]`.

    By elimination of states without subtraction (Grassmann, Taksar and Heyman 1985, Operations
    Research 33, 1107-1116): every entry has full relative accuracy, even where transition
    probabilities differ by hundreds of orders of magnitude. Eigenvectors lose it there. Uses
    off-diagonal entries only, so rates serve as well. Raises `ValueError` if no state of some
    part of the chain can be left.
    """
    chain = np.array(transition, dtype=np.float64)
    n = len(chain)
    for state in range(n - 1, 0, -1):
        leaving = chain[state, :state].sum()
        if leaving <= 0.0:
            raise ValueError("the chain is not irreducible: its stationary distribution is not one")
        chain[:state, state] /= leaving
        chain[:state, :state] += np.outer(chain[:state, state], chain[state, :state])
    found = np.ones(n)
    for state in range(1, n):
        found[state] = found[:state] @ chain[:state, state]
        if found[state] > 1e100:  # Only ratios count.
            found[: state + 1] /= found[state]
    return np.asarray(found / found.sum())
