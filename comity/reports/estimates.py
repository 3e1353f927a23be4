"""What is counted in tables of decisions, and its interval over seeds and groups of matches.

Every estimate is `{"mean", "low", "high", "n"}` with n decisions or rounds, or None where
nothing was counted. Definitions are those of `comity.evaluation.metrics`, counted here on
whole columns.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from comity.evaluation.statistics import bootstrap_mean
from comity.reports.tables import Table

RESAMPLES = 2000
CONFIDENCE = 0.95

Json = dict[str, Any]
Counts = tuple[np.ndarray, np.ndarray]
"""What is counted and what it is divided by, per decision."""
Measure = Callable[[Table], Counts]


def cooperation(table: Table) -> Counts:
    """Cooperative answers (move 0) among the legal ones."""
    return table.choice & (table.move == 0), table.choice & (table.move >= 0)


def illegal(table: Table) -> Counts:
    """Answers that could not be read as a move (message, claim), among all that the game asks."""
    return table.answer & (table.move < 0), table.answer


def payoff(table: Table) -> Counts:
    """Payoff among rounds; a round that took a seat several decisions counts once."""
    keys = np.stack([table.seed, table.match, table.seat, table.round])
    _, first = np.unique(keys, axis=1, return_index=True)
    once = np.zeros(len(table), dtype=bool)
    once[first] = True
    return table.payoff, once


def margin(player: str) -> Measure:
    """Payoff of `player` minus that of whom it meets, among its rounds."""

    def counts(table: Table) -> Counts:
        paid, once = payoff(table)
        own = table.player == player
        return np.where(own, paid, -paid), once & own

    return counts


def reward(table: Table) -> Counts:
    """What the answers were worth to the learner, among all answers."""
    return np.where(table.choice, table.reward, 0.0), table.choice


def conditional(state: str) -> Measure:
    """Cooperation among the decisions that were shown `state` (own last move first)."""

    def counts(table: Table) -> Counts:
        if state == "start":
            shown = table.first
        else:
            own, other = ("CD".index(letter) for letter in state)
            shown = (table.own_last == own) & (table.other_last == other)
        cooperated, legal = cooperation(table)
        return cooperated & shown, legal & shown

    return counts


def estimate(table: Table, measure: Measure) -> Json | None:
    """The measure over a table, with its interval over seeds and their groups of matches."""
    numerator, denominator = measure(table)
    counts = np.stack([numerator, denominator], axis=1)
    seeds = [table.seed == seed for seed in np.unique(table.seed)]
    return interval([together(counts[at], table.group[at], table.match[at]) for at in seeds])


def together(counts: np.ndarray, groups: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """`counts [N, 2]` added up over those of one group, `[group, 2]`.

    What all happened in one group is added up by match, `[match, 2]`: of the spread between
    groups it says nothing, but the spread inside is seen.
    """
    names, number = np.unique(groups, return_inverse=True)
    if len(names) == 1:
        names, number = np.unique(matches, return_inverse=True)
    sums = np.zeros((len(names), 2))
    np.add.at(sums, number, counts)
    return sums


def by_seed(table: Table, measure: Measure) -> dict[str, float]:
    """The measure in each seed that counts anything, by seed."""
    numerator, denominator = measure(table)
    found = {}
    for seed in np.unique(table.seed):
        rows = table.seed == seed
        if counted := float(denominator[rows].sum()):
            found[str(seed)] = round(float(numerator[rows].sum()) / counted, 6)
    return found


def interval(groups: Sequence[np.ndarray]) -> Json | None:
    """The mean of counts `[group, 2]`, an array per seed, as `bootstrap_mean` has it."""
    value = bootstrap_mean(groups, CONFIDENCE, RESAMPLES)
    if value is None:
        return None
    return {key: round(number, 6) for key, number in value.as_dict().items()}


def concatenate(tables: list[Table]) -> Table:
    """Several tables as one."""
    return Table(**{key: np.concatenate([getattr(t, key) for t in tables]) for key in _columns()})


def _columns() -> tuple[str, ...]:
    return tuple(Table.__dataclass_fields__)
