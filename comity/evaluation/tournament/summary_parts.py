"""Parts of the summaries of tournaments, of two seats and of more."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from comity.evaluation.reference_points.summary import reference_points
from comity.evaluation.statistics import Estimate, mean_over_seeds
from comity.evaluation.tournament.comparison import HIGHER, LOWER, compare, corrected
from comity.evaluation.tournament.match_arrays import SCORE
from comity.games.base import Game

Json = dict[str, Any]

COMPARED = 8
"""Up to so many agents, every two are compared; of more, neighbours in the ranking."""
IDENTICAL = "all matches are identical: nothing in them is random"


def estimate(found: Estimate | None) -> Json:
    """An estimate as the page takes it."""
    if found is None:
        return {"mean": None, "low": None, "high": None, "n": 0, "note": "nothing was counted"}
    note = found.reason or f"95 % interval over {found.units} {found.over}"
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n, "note": note}


def over_environments(
    values: np.ndarray, limits: tuple[float, float] | None, exact: str = ""
) -> Estimate | None:
    """Mean over environment seeds of `values`, `[seed]` (NaN: none) or numerators and denominators.

    Where lengths differ, linearized values (`values_of`) may leave the limits; then the interval
    is Student's, cut at them.
    """
    over = "environment seeds"
    known = values[~np.isnan(values)] if values.ndim == 1 else values[values[:, 1] > 0]
    ratios = known if known.ndim == 1 else known[:, 0] / known[:, 1]
    if limits is None or not len(known) or limits[0] <= ratios.min() <= ratios.max() <= limits[1]:
        return mean_over_seeds([known], limits, over, exact)
    found = mean_over_seeds([known], None, over, exact)
    if found is None or found.low is None or found.high is None:
        return found
    return replace(found, low=max(found.low, limits[0]), high=min(found.high, limits[1]))


def _score(agent: Json) -> float:
    """What an agent is ranked by; without a match it comes last."""
    mean = agent["metrics"].get(SCORE, {}).get("mean")
    return -np.inf if mean is None else float(mean)


def rank_agents(agents: Sequence[Json]) -> None:
    """Sets every agent's `rank` by its score; equal scores have equal ranks."""
    order = sorted(agents, key=lambda one: -_score(one))
    for place, one in enumerate(order, 1):
        before = order[place - 2] if place > 1 else None
        tied = before is not None and _score(before) == _score(one)
        one["rank"] = before["rank"] if before is not None and tied else place


def compare_agents(
    values: Mapping[str, np.ndarray],
    fixed: Collection[str],
    payoffs: tuple[float, float] | None,
) -> list[Json]:
    """Paired comparisons of payoffs under common environment seeds, corrected by Holm's method.

    `values`: of every agent, best first, float64 `[seed, 2]` as `by_seed` has them, zero where it
    did not meet everybody. What is tested are differences of numerators: a match counts by its
    length, and to exchange the agents on a seed turns only the sign of its difference.
    `fixed`: agents in whose matches nothing is random; `payoffs`: least and largest. Where that is
    so of both, the difference is exact: repetitions are copies, and there is no test.
    """
    ranked = list(values)
    chosen = list(combinations(ranked, 2)) if len(ranked) <= COMPARED else list(pairwise(ranked))
    limits = None if payoffs is None else (payoffs[0] - payoffs[1], payoffs[1] - payoffs[0])
    made, exact = [], []
    for first, second in chosen:
        one, other = values[first], values[second]
        both = (one[:, 1] > 0) & (other[:, 1] > 0)
        if not both.any():
            continue
        numerators, denominators = one[both, 0] - other[both, 0], (one + other)[both, 1] / 2
        numerators[np.abs(numerators) < 1e-9 * np.abs(one[:, 0]).max()] = 0.0  # Ties, but rounded.
        differences = np.stack([numerators, denominators], axis=1)
        if first in fixed and second in fixed:
            exact.append(_exact_comparison(first, second, differences, limits))
        else:
            found = over_environments(differences, limits)
            made.append(compare(first, second, numerators, estimated=found))
    tested = [
        {
            "first": one.first,
            "second": one.second,
            "difference": estimate(one.difference),
            "p": one.test.p,
            "p_corrected": one.adjusted,
            "verdict": one.verdict,
        }
        for one in corrected(made)
    ]
    return [*tested, *exact]


def _exact_comparison(
    first: str, second: str, differences: np.ndarray, limits: tuple[float, float] | None
) -> Json:
    """The comparison of two agents in whose matches nothing is random."""
    mean = float(differences[0, 0] / differences[0, 1])
    verdict = "equal" if mean == 0 else HIGHER if mean > 0 else LOWER
    found = over_environments(differences, limits, IDENTICAL)
    return {
        "first": first,
        "second": second,
        "difference": estimate(found),
        "p": None,
        "p_corrected": None,
        "verdict": f"{verdict}, exactly",
    }


def stage_references(game: Game) -> Json:
    """Reference points of the stage game; {} where it is none of a table."""
    known = reference_points(game)
    if "stage" not in known:
        return {}
    stage, schelling = known["stage"], known.get("schelling")
    return {
        "equilibria": [
            {
                "strategies": [list(map(float, one)) for one in equilibrium["strategies"]],
                "payoffs": list(map(float, equilibrium["payoffs"])),
                "pure": all(max(one) == 1.0 for one in equilibrium["strategies"]),
            }
            for equilibrium in stage["equilibria"]
        ],
        "welfare": float(stage["best_welfare"]),
        "minimax": list(map(float, stage["minimax"])),
        "price_of_anarchy": stage["price_of_anarchy"],
        "schelling": None
        if schelling is None
        else {
            "cooperate": list(map(float, schelling["cooperator"])),
            "defect": list(map(float, schelling["defector"])),
        },
    }


def move_name(move: int, game: Game) -> str:
    """The name of a move; claims have none."""
    if move < 0:
        return "illegal"
    return game.moves[move] if game.moves else "claim"
