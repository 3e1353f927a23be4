"""All ratings of one cross-play matrix side by side, ready for JSON.

`docs/explanation/ratings.md` says which answers which question.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.evaluation.metagame.alpha_rank import alpha_rank
from comity.evaluation.metagame.deviation_ratings import deviation_ratings
from comity.evaluation.metagame.elo import cyclic_share, elo, win_matrix
from comity.evaluation.metagame.equilibria import equilibria
from comity.evaluation.metagame.payoff_matrix import Payoffs, as_single_population
from comity.evaluation.metagame.replicator import basins


def metagame_analysis(
    names: Sequence[str], payoffs: Payoffs, wins: np.ndarray | None = None
) -> dict[str, Any]:
    """Equilibria, basins of the replicator dynamics and every rating of the agents `names`.

    `payoffs`: as in `comity.evaluation.metagame.payoff_matrix`, the same agents on both seats.
    `wins` float64 `[n, n]`: matches won, ties as 1/2; None: who earned more on average.

    Keys: `agents`; `mean_payoff`, `alpha_rank`, `deviation_rating`, `elo` (a number per agent);
    `elo_warning`, `cycle` (names); `cyclic_share` (of the payoff differences); `equilibria`,
    `equilibria_method`; `rest_points`, `unsettled`.
    """
    matrix = as_single_population(payoffs)
    if len(names) != len(matrix):
        raise ComityError(f"{len(matrix)} agents need as many names, not {len(names)}")
    deviations = deviation_ratings(payoffs).ratings
    rated = elo(win_matrix(matrix) if wins is None else wins)
    solved = equilibria(payoffs)
    resting = basins(payoffs)
    return {
        "agents": list(names),
        "mean_payoff": matrix.mean(axis=1).tolist(),
        "alpha_rank": alpha_rank(matrix).distribution.tolist(),
        # Both seats have the same agents: the mean over seats, as for payoffs.
        "deviation_rating": ((deviations[0] + deviations[1]) / 2).tolist(),
        "elo": rated.ratings.tolist(),
        "elo_warning": rated.warning,
        "cycle": [names[agent] for agent in rated.cycle],
        "cyclic_share": cyclic_share(matrix - matrix.T),
        "equilibria": [asdict(one) for one in solved.found],
        "equilibria_method": solved.method,
        "rest_points": [asdict(one) for one in resting.rest_points],
        "unsettled": resting.unsettled,
    }
