"""Reference values for games with random payoffs: means over the payoff tables.

The tables are equally likely. Where they are few, all of them count and the means are exact;
else a fixed sample does. The page says how many there were.

Shares of a reward's range are taken table by table, in the records too (`reward_shares`): what a
reward of 5 is worth depends on the table that it was earned in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.evaluation.moral.metrics import payoff_table, reward_table
from comity.evaluation.moral.reference_policies import (
    Json,
    WeightedMatches,
    payoff_blind_matches,
    reference_policies,
)
from comity.games.base import Game
from comity.games.enumerate import Policy
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.random_tables import RandomTables
from comity.learning.exact.payoff_tables import histories
from comity.rewards.base import Reward

MOST = 300
"""Tables that are all looked at; of more, so many are drawn."""


def mean_reference_policies(
    game: RandomTables,
    rewards: Sequence[tuple[int, str, Reward]],
    facing: Callable[[Game], Policy] | None,
    seat: int = 0,
) -> Json:
    """`reference_policies`, averaged over the payoff tables.

    `facing`: the opponent in the match of a table; None: a copy of the policy itself. Adds
    `payoff_tables`: `{"count", "all"}`. An optimal policy's P(C | state) is the share of tables in
    which cooperation is optimal (half for ties).
    """
    tables, every = game.tables(MOST)
    opponents = [None if facing is None else facing(table) for table in tables]
    laws: dict[Any, dict[str, WeightedMatches]] = {}
    found = []
    for table, opponent in zip(tables, opponents, strict=True):
        # Null policies and most opponents do the same in every table, for other payoffs.
        law = None if opponent is None else _law(opponent, table, 1 - seat)
        if law not in laws:
            laws[law] = payoff_blind_matches(table, opponent, seat)
        matches = {name: _repaid(one, table) for name, one in laws[law].items()}
        found.append(reference_policies(table, rewards, opponent, seat, matches))
    return {
        **_mean(found),
        "phases": [_phase([one["phases"][n] for one in found]) for n in range(len(rewards))],
        "payoff_tables": {"count": len(tables), "all": every},
    }


def _phase(phases: Sequence[Json]) -> Json:
    """One phase: its reward's ranges over all tables, and the worst legal answer's shares."""
    shares = [
        (one["legal_low"] - one["low"]) / (one["high"] - one["low"])
        for one in phases
        if one["high"] > one["low"]
    ]
    return {
        "first": phases[0]["first"],
        "reward": phases[0]["reward"],
        "low": min(one["low"] for one in phases),
        "high": max(one["high"] for one in phases),
        "legal_low": min(one["legal_low"] for one in phases),
        **(
            {"legal_share": float(np.mean(shares)), "legal_share_low": min(shares)}
            if shares
            else {}
        ),
    }


def _law(opponent: Policy, game: Iterated, seat: int) -> tuple[tuple[float, ...], ...]:
    """Distinguishes an opponent's conduct in one table from that in another."""
    return tuple(tuple(opponent(known)) for _, known in histories(game, seat))


def _repaid(matches: WeightedMatches, game: Iterated) -> WeightedMatches:
    """The same matches, paid by another table."""
    weights, played = matches
    table = np.array(game.stage.payoffs)  # type: ignore[attr-defined]
    payoffs = np.moveaxis(table[played.moves[:, 0], played.moves[:, 1]], -1, 1)
    payoffs = np.where(played.alive[:, None, :], payoffs, 0.0)
    return weights, replace(played, payoffs=payoffs)


def _mean(found: Sequence[Any]) -> Any:
    """The mean of numbers at the same place of equal structures; None where some is missing."""
    first = found[0]
    if isinstance(first, Mapping):
        return {key: _mean([one[key] for one in found]) for key in first}
    if isinstance(first, list):
        return [_mean(list(ones)) for ones in zip(*found, strict=True)]
    if isinstance(first, str) or first is None:
        return first
    mean = float(np.mean(found))
    return int(first) if isinstance(first, int) and mean == first else mean


def reward_shares(
    reward: Reward, game: Game, seeds: Sequence[int], rewards: np.ndarray
) -> np.ndarray | None:
    """Rewards as shares of their range in the table of each match.

    `rewards` float64 `[match, seat, round]`; `seeds`: each match's environment seed. None where the
    game is not one of two seats and two moves.
    """
    try:
        payoff_table(game)
    except ComityError:
        return None
    ranges: dict[tuple[int, int], tuple[float, float]] = {}
    shares = np.full(rewards.shape, np.nan)
    for match, seed in enumerate(seeds):
        for seat in range(rewards.shape[1]):
            if (seed, seat) not in ranges:
                ranges[seed, seat] = reward_table(reward, game.sample_instance(seed), seat).range
            low, high = ranges[seed, seat]
            if high > low:
                shares[match, seat] = (rewards[match, seat] - low) / (high - low)
    return shares
