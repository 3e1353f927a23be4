"""What is measured of fixed pairs alone: what one player has more than its partner."""

from typing import Any

import numpy as np

from comity.evaluation.population.counts import Tally
from comity.evaluation.population.intervals import means_over_runs, numbers
from comity.evaluation.population.metrics import CUMULATIVE, cumulative

Json = dict[str, Any]


def relative_curves(tally: Tally, lengths: np.ndarray) -> list[Json]:
    """For agents 0 and 1, 2 and 3 and so on: cumulative payoff and reward, first minus second.

    `lengths` `[S]`: episodes of the bins. Each curve has `mean`, `low`, `high` by bin.
    """
    agents = tally.payoff.shape[2]
    found = []
    for first in range(0, agents - 1, 2):
        members = np.zeros((2, agents))
        members[0, first] = members[1, first + 1] = 1
        curves: Json = {"agents": [first, first + 1]}
        for name in CUMULATIVE:
            both = cumulative(name, tally, members, lengths)
            means = means_over_runs(both[:, :, 0] - both[:, :, 1])
            curves[name.replace("cumulative", "relative")] = {
                key: numbers(getattr(means, key)) for key in ("mean", "low", "high")
            }
        found.append(curves)
    return found
