"""The empirical game of a tournament: its agents as the strategies of a game."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.evaluation.metagame.alpha_rank import alpha_rank
from comity.evaluation.metagame.deviation_ratings import deviation_ratings
from comity.evaluation.metagame.elo import elo
from comity.evaluation.metagame.equilibria import equilibria
from comity.evaluation.metagame.replicator import basins, trajectories
from comity.evaluation.tournament.match_arrays import Pairs, payoff_matrix, wins_matrix

MAX_AGENTS = 60
"""Most agents whose empirical game is solved."""


def empirical_game(pairs: Pairs, names: Sequence[str]) -> dict[str, Any]:
    """The empirical game over the agents; {} where it is not complete."""
    matrix = payoff_matrix(pairs, names)
    if matrix is None or not 2 <= len(names) <= MAX_AGENTS:
        return {}

    def mixture(shares: Sequence[float] | np.ndarray) -> dict[str, Any]:
        return {n: float(p) for n, p in zip(names, shares, strict=True) if p > 1e-9}

    found: dict[str, Any] = {
        "equilibria": [
            {
                "mixture": mixture(one.row),
                "payoff": float(one.payoffs[0]),
                "symmetric": bool(one.symmetric),
            }
            for one in equilibria(matrix).found
            if one.symmetric
        ],
        "alpha_rank": dict(zip(names, map(float, alpha_rank(matrix).marginal()), strict=True)),
    }
    with suppress(ComityError):  # Too many agents for the linear programs.
        ratings = deviation_ratings(matrix).ratings[0]
        found["deviation_ratings"] = dict(zip(names, map(float, ratings), strict=True))
    rest = basins(matrix)
    paths: list[Any] = []
    if len(names) == 3:
        starts = np.array([[a, b, 6 - a - b] for a in range(1, 5) for b in range(1, 6 - a)]) / 6
        paths = np.round(trajectories(matrix, starts, points=80), 4).tolist()
    found["replicator"] = {
        "points": [{"mixture": mixture(r.shares), "basin": r.basin} for r in rest.rest_points],
        "trajectories": paths,
    }
    rated = elo(wins_matrix(pairs, names))
    found["elo"] = {
        "ratings": dict(zip(names, map(float, rated.ratings), strict=True)),
        "cyclic_share": rated.cyclic_share,
        "warning": rated.warning,
    }
    return found
