"""Cross-play on the page: payoff, cooperation and margin of every pair of players."""

from collections.abc import Iterable

import numpy as np

from comity.evaluation.payoff_ranges import Range
from comity.reports.loading.decisions import DecisionTable
from comity.reports.summary.estimates import Json, cooperation, estimate, margin, payoff


def crossplay_matrix(table: DecisionTable, payoffs: Range | None = None) -> Json:
    """`{row: {column: {"payoff", "cooperation", "margin"}}}`: what the row's player gets and does.

    A pair's matches count for both of its cells, whichever seat each player sat on. The margin
    is the row's payoff minus the column's; a player has none over itself (None). `payoffs`: the
    range of a round's payoff.
    """
    names = list(dict.fromkeys(_in_order(table)))
    margins = None if payoffs is None else (payoffs[0] - payoffs[1], payoffs[1] - payoffs[0])
    matrix: Json = {}
    for row in names:
        matrix[row] = {}
        for column in names:
            pair = table.where(
                ((table.player == row) & (table.opponent == column))
                | ((table.player == column) & (table.opponent == row))
            )
            cell = pair.where(pair.player == row)
            if len(cell):
                over_itself = row == column
                matrix[row][column] = {
                    "payoff": estimate(cell, payoff, payoffs),
                    "cooperation": estimate(cell, cooperation),
                    "margin": None if over_itself else estimate(pair, margin(row), margins),
                }
    return matrix


def _in_order(table: DecisionTable) -> Iterable[str]:
    """Player names as they first appear."""
    names, first = np.unique(table.player, return_index=True)
    return (str(names[i]) for i in np.argsort(first))
