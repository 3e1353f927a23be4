"""The empirical game of a tournament, in which its agents are the strategies, for its page."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.evaluation.metagame.analysis import metagame_analysis
from comity.evaluation.metagame.moran import fixation_from_equal_numbers
from comity.evaluation.metagame.replicator import trajectories
from comity.evaluation.tournament.match_arrays import Pairs, payoff_matrix, wins_matrix

MAX_AGENTS = 60
"""Most agents whose empirical game is solved."""
LEAST_SHARE = 1e-9
"""Smaller shares of a mixture are left out."""


def empirical_game(pairs: Pairs, names: Sequence[str]) -> dict[str, Any]:
    """Equilibria, replicator dynamics and ratings; {} where pairs are missing or too many."""
    matrix = payoff_matrix(pairs, names)
    if matrix is None or not 2 <= len(names) <= MAX_AGENTS:
        return {}
    found = {}
    with suppress(ComityError):
        found = metagame_analysis(names, matrix, wins_matrix(pairs, names))
    if not found:
        return {}

    def mixture(shares: Sequence[float]) -> dict[str, float]:
        return {n: float(p) for n, p in zip(names, shares, strict=True) if p > LEAST_SHARE}

    def by_name(key: str) -> dict[str, float]:
        return dict(zip(names, map(float, found[key]), strict=True))

    return {
        "equilibria": [
            {"mixture": mixture(one["row"]), "payoff": float(one["payoffs"][0]), "symmetric": True}
            for one in found["equilibria"]
            if one["symmetric"]
        ],
        "replicator": {
            "points": [
                {"mixture": mixture(one["shares"]), "basin": float(one["basin"])}
                for one in found["rest_points"]
            ],
            "trajectories": _simplex_paths(matrix) if len(names) == 3 else [],
        },
        "alpha_rank": by_name("alpha_rank"),
        "deviation_ratings": by_name("deviation_rating"),
        "elo": {
            "ratings": by_name("elo"),
            "cyclic_share": float(found["cyclic_share"]),
            "warning": found["elo_warning"],
        },
        "moran": _moran(names, matrix),
    }


def _moran(names: Sequence[str], matrix: np.ndarray) -> dict[str, Any] | None:
    """Which agent takes over a population that starts with as many of each; None: not known."""
    try:
        found, members, plain = fixation_from_equal_numbers(matrix)
    except ComityError:
        return None
    return {
        "fixation": dict(zip(names, map(float, found.probability), strict=True)),
        "members": members,
        "runs": found.runs,
        "fitness": "payoff" if plain else "exp(payoff)",
    }


def _simplex_paths(matrix: np.ndarray) -> list[Any]:
    """Trajectories of three agents from a grid of starts, `[trajectory][time][agent]`."""
    starts = np.array([[a, b, 6 - a - b] for a in range(1, 5) for b in range(1, 6 - a)]) / 6
    paths: list[Any] = np.round(trajectories(matrix, starts, points=80), 4).tolist()
    return paths
