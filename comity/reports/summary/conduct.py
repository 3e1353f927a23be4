"""A learner's conditional cooperation by seat and by opponent.

Pooled numbers hide a policy that plays differently against a script and against itself, or
differently in its two seats.
"""

import numpy as np

from comity.evaluation.metrics import STATES
from comity.reports.loading.decisions import DecisionTable
from comity.reports.summary.estimates import Json, conditional, estimate, retaliation

PAST = "past"
"""What all earlier policies of the run are called together."""


def conduct(table: DecisionTable) -> Json:
    """P(C | state), and how often the other's displayed defection is answered by one."""
    return {
        "conditional_cooperation": {state: estimate(table, conditional(state)) for state in STATES},
        "retaliation": estimate(table, retaliation),
    }


def by_seat_and_opponent(table: DecisionTable) -> Json:
    """`{"by_seat": {seat: conduct}, "by_opponent": {name: conduct}}` of one learner.

    `table`: the decisions of all seats, `trained` marking the learner's. An earlier policy of the
    run is called `past`; where there are several others, their names stand together.
    """
    own = table.trained
    facing = opponents(table)
    return {
        "by_seat": {
            str(seat): conduct(table.where(own & (table.seat == seat)))
            for seat in np.unique(table.seat[own])
        },
        "by_opponent": {
            str(name): conduct(table.where(own & (facing == name)))
            for name in dict.fromkeys(facing[own])
        },
    }


def opponents(table: DecisionTable) -> np.ndarray:
    """str `[decision]`: who sat on the other seats of the match."""
    sat: dict[tuple[int, int], dict[int, str]] = {}
    places = list(zip(table.seed.tolist(), table.match.tolist(), strict=True))
    for place, seat, player in zip(places, table.seat, table.player, strict=True):
        sat.setdefault(place, {})[int(seat)] = PAST if "@" in player else str(player)
    return np.array(
        [
            " and ".join(dict.fromkeys(name for other, name in sat[place].items() if other != seat))
            for place, seat in zip(places, table.seat, strict=True)
        ],
        dtype=np.str_,
    )
