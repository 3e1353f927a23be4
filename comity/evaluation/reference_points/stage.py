"""Reference points of a stage game: equilibria, welfare optimum, minimax, price of anarchy.

All are per round and about one play of the stage; in a repeated game more can be an equilibrium
(every payoff above the minimax values can, if matches are long enough: folk theorem).

- *Welfare optimum*: the largest sum of payoffs of any joint move.
- *Minimax value* of a seat: what the others can hold it down to, min over their mixtures of the
  best response (for three seats and more the others may coordinate, a joint distribution). It
  equals what the seat can secure for itself by a mixture of its own (von Neumann 1928).
- *Price of anarchy*: welfare optimum over the welfare of the worst equilibrium (Koutsoupias and
  Papadimitriou 1999, STACS, 404-413). *Price of stability*: over that of the best (Anshelevich et
  al. 2004, FOCS, 295-304). Both over the equilibria that were found; undefined where the welfare of
  one of them is not positive.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import linprog

from comity.errors import ComityError
from comity.evaluation.metagame.equilibria import equilibria
from comity.evaluation.metagame.payoff_matrix import scale_of
from comity.games.matrix.stages import Stage

MAX_JOINT_MOVES = 100_000
"""Most joint moves that are enumerated."""


@dataclass(frozen=True)
class StageEquilibrium:
    """An equilibrium of the stage game."""

    strategies: tuple[tuple[float, ...], ...]
    """Probability of every move, `[seat][move]`."""
    payoffs: tuple[float, ...]
    """Expected payoff, `[seat]`."""

    @property
    def welfare(self) -> float:
        """Sum of the payoffs."""
        return float(sum(self.payoffs))

    @property
    def pure(self) -> bool:
        """Whether every seat plays one move for sure."""
        return all(max(one) == 1.0 for one in self.strategies)


@dataclass(frozen=True)
class StageReference:
    """The reference points of a stage game."""

    moves: tuple[str, ...]
    equilibria: tuple[StageEquilibrium, ...]
    """Pure ones first. Of more than two seats the pure ones only."""
    method: str
    """How they were found, and whether there may be more."""
    best_welfare: float
    """The largest sum of payoffs."""
    best_moves: tuple[tuple[int, ...], ...]
    """The joint moves `[seat]` that have it."""
    minimax: tuple[float, ...]
    """Minimax value, `[seat]`."""
    price_of_anarchy: float | None
    """None: undefined, or no equilibrium was found."""
    price_of_stability: float | None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def stage_reference(stage: Stage) -> StageReference:
    """The reference points of a stage; `ComityError` for more than `MAX_JOINT_MOVES` joint moves.

    Equilibria as in `comity.evaluation.metagame.equilibria`.
    """
    payoffs = payoff_tensors(stage)
    welfare = sum(payoffs)
    best = float(np.max(welfare))
    slack = 1e-9 * scale_of(*payoffs)
    found, method = _equilibria(payoffs)
    anarchy, stability = prices(best, [one.welfare for one in found])
    return StageReference(
        tuple(stage.moves),
        found,
        method,
        best,
        tuple(tuple(int(m) for m in joint) for joint in np.argwhere(welfare >= best - slack)),
        tuple(minimax_value(payoffs[seat], seat) for seat in range(stage.seats)),
        anarchy,
        stability,
    )


def payoff_tensors(stage: Stage) -> list[np.ndarray]:
    """For each seat float64 `[move of seat 0, ..., move of seat N - 1]`."""
    shape = (len(stage.moves),) * stage.seats
    if np.prod([float(size) for size in shape]) > MAX_JOINT_MOVES:
        raise ComityError(
            f"{stage.title} has {len(stage.moves)} ** {stage.seats} joint moves, too many to "
            f"enumerate (at most {MAX_JOINT_MOVES})"
        )
    tensors = np.empty((stage.seats, *shape))
    for joint in product(range(len(stage.moves)), repeat=stage.seats):
        for seat, paid in enumerate(stage.payoff(joint)):
            tensors[(seat, *joint)] = paid
    return list(tensors)


def minimax_value(payoffs: np.ndarray, seat: int) -> float:
    """What the others can hold a seat down to; `payoffs` of that seat, an axis per seat.

    minimize v subject to sum_o q(o) payoffs(m, o) <= v for every own move m, q a distribution
    over the others' joint moves. The mean of the range is subtracted for the solver's tolerance.
    """
    table = np.moveaxis(payoffs, seat, 0).reshape(payoffs.shape[seat], -1)
    own, others = table.shape
    center, scale = float(table.mean()), scale_of(table)
    scaled = (table - center) / scale
    solved = linprog(
        np.append(np.zeros(others), 1.0),
        A_ub=np.hstack([scaled, -np.ones((own, 1))]),
        b_ub=np.zeros(own),
        A_eq=np.append(np.ones(others), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0.0, None)] * others + [(None, None)],
        method="highs",
    )
    value = center + scale * float(solved.fun)
    # Solvers' last digits: payoffs are read by people.
    return float(np.round(value, 10)) + 0.0


def prices(
    best_welfare: float, equilibrium_welfares: Sequence[float]
) -> tuple[float | None, float | None]:
    """Price of anarchy and of stability; None where a welfare is not positive or there is none."""
    if not equilibrium_welfares or min(equilibrium_welfares) <= 1e-12:
        return None, None
    worst, best = min(equilibrium_welfares), max(equilibrium_welfares)
    return best_welfare / worst, best_welfare / best


def pure_stage_equilibria(payoffs: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
    """All joint moves `[seat]` from which no seat gains by deviating alone; N seats."""
    slack = 1e-9 * scale_of(*payoffs)
    stable = np.ones(payoffs[0].shape, dtype=bool)
    for seat, one in enumerate(payoffs):
        stable &= one >= one.max(axis=seat, keepdims=True) - slack
    return [tuple(int(m) for m in joint) for joint in np.argwhere(stable)]


def _equilibria(payoffs: Sequence[np.ndarray]) -> tuple[tuple[StageEquilibrium, ...], str]:
    if len(payoffs) == 2:
        found = equilibria((payoffs[0], payoffs[1]))
        return (
            tuple(StageEquilibrium((one.row, one.column), one.payoffs) for one in found.found),
            found.method,
        )
    identity = np.eye(payoffs[0].shape[0])
    return (
        tuple(
            StageEquilibrium(
                tuple(tuple(float(p) for p in identity[move]) for move in joint),
                tuple(float(one[joint]) for one in payoffs),
            )
            for joint in pure_stage_equilibria(payoffs)
        ),
        "pure equilibria only: there may be mixed ones",
    )
