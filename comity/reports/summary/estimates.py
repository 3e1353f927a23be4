"""Measures of decision tables, with intervals over seeds or groups of matches.

Every estimate is what `comity.evaluation.statistics.Estimate` holds, as a dictionary: `mean`,
`low`, `high`, `n`, `units`, `over`, and `reason` where there is no interval (`low` and `high` are
None then); or it is None where nothing was counted. `of` says whether cooperation is the mean of
recorded "probabilities" or the share of "answers". Definitions are those of
`comity.evaluation.metrics`, counted here on whole columns.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil, floor
from typing import Any, NamedTuple

import numpy as np

from comity.evaluation.payoff_ranges import Range
from comity.evaluation.statistics import Estimate, mean_over_seeds
from comity.reports.loading.decisions import DecisionTable

Json = dict[str, Any]
SHARE: Range = (0.0, 1.0)
GROUPS, MATCHES = "groups of matches", "matches"
SAME_PROBABILITY = "all these decisions have the same recorded probability"
LISTED = "answers are scored, and all scored answers are legal"
CERTAIN = "deterministic: all these matches are identical"
PLACES = 6
"""Decimals that are kept; the ends of intervals are rounded outward."""


class Counts(NamedTuple):
    """What is counted and what it is divided by, per decision."""

    numerator: np.ndarray
    denominator: np.ndarray
    of: str = ""
    """Cooperation only: "probabilities" or "answers"."""
    exact: str = ""
    """Why more data could not change the value; "": they could."""


Measure = Callable[[DecisionTable], Counts]


def cooperation(table: DecisionTable) -> Counts:
    """Probability of move 0 where all choices were scored, else its share of the legal answers."""
    legal = table.choice & (table.move >= 0)
    if table.choice.any() and not np.isnan(table.p_cooperate[table.choice]).any():
        return Counts(np.where(legal, table.p_cooperate, 0.0), legal, "probabilities")
    return Counts(table.choice & (table.move == 0), legal, "answers")


def illegal(table: DecisionTable) -> Counts:
    """Answers that could not be read as a move (message, claim), among all that the game asks."""
    scored = bool(table.answer.any()) and not np.isnan(table.p_cooperate[table.answer]).any()
    wrong = table.answer & (table.move < 0) & ~table.withheld
    return Counts(wrong, table.answer, exact=LISTED if scored else "")


def payoff(table: DecisionTable) -> Counts:
    """Payoff among rounds; a round that took a seat several decisions counts once."""
    keys = np.stack([table.seed, table.match, table.seat, table.round])
    _, first = np.unique(keys, axis=1, return_index=True)
    once = np.zeros(len(table), dtype=bool)
    once[first] = True
    return Counts(table.payoff, once)


def margin(player: str) -> Measure:
    """Payoff of `player` minus that of whom it meets, among its rounds."""

    def counts(table: DecisionTable) -> Counts:
        paid, once = payoff(table)[:2]
        own = table.player == player
        return Counts(np.where(own, paid, -paid), once & own)

    return counts


def reward(table: DecisionTable) -> Counts:
    """What the answers were worth to the learner, among all answers."""
    return Counts(np.where(table.choice, table.reward, 0.0), table.choice)


def normalized_reward(table: DecisionTable) -> Counts:
    """What the answers were worth, as a share of the range of their match's payoff table."""
    known = table.choice & np.isfinite(table.normalized_reward)
    return Counts(np.where(known, table.normalized_reward, 0.0), known)


def conditional(state: str) -> Measure:
    """Cooperation among the decisions that were shown `state` (own last move first)."""

    def counts(table: DecisionTable) -> Counts:
        if state == "start":
            shown = table.first
        else:
            own, other = ("CD".index(letter) for letter in state)
            shown = (table.own_last == own) & (table.other_last == other)
        cooperated, legal, of = cooperation(table)[:3]
        return Counts(cooperated * shown, legal & shown, of)

    return counts


def retaliation(table: DecisionTable) -> Counts:
    """Defection among the legal answers that were shown the other's defection."""
    cooperated, legal, of = cooperation(table)[:3]
    shown = legal & (table.other_last == 1)
    return Counts((1.0 - cooperated) * shown, shown, of)


def estimate(table: DecisionTable, measure: Measure, bounds: Range | None = SHARE) -> Json | None:
    """The measure over a table, with its interval over seeds, or over groups inside one.

    `bounds`: least and greatest that a seed's mean can be; None: not known.
    """
    counts = measure(table)
    pairs = np.stack([counts.numerator, counts.denominator], axis=1).astype(np.float64)
    seeds, over = [], GROUPS
    for seed in np.unique(table.seed):
        at = table.seed == seed
        sums, over = together(pairs[at], table.group[at], table.match[at])
        seeds.append(sums)
    found = interval(seeds, bounds, over, _exact(table, counts))
    return {**found, "of": counts.of} if found and counts.of else found


def against_all(
    table: DecisionTable, measure: Measure, bounds: Range | None = SHARE
) -> Json | None:
    """The measure of one player in a cross-play, all whom it met weighing the same.

    Of every seed the mean over opponents is taken. An opponent that was not met under some seed
    has its mean over the others there.
    """
    counts = measure(table)
    pairs = np.stack([counts.numerator, counts.denominator], axis=1).astype(np.float64)
    seeds = over_opponents(pairs, table.seed, table.group, table.opponent)
    found = interval(seeds, bounds, GROUPS, _exact(table, counts))
    found = found and {**found, "n": round(float(counts.denominator.sum()))}
    return {**found, "of": counts.of} if found and counts.of else found


def over_opponents(
    pairs: np.ndarray, seeds: np.ndarray, groups: np.ndarray, opponents: np.ndarray
) -> list[np.ndarray]:
    """Of `pairs [N, 2]` the mean over opponents of their ratios, for `mean_over_seeds`.

    An array `[group, 2]` per seed in which something was counted; the ratio of its sums is the
    seed's mean over opponents.
    """
    units, unit = np.unique(np.stack([seeds, groups]), axis=1, return_inverse=True)
    names, name = np.unique(opponents, return_inverse=True)
    counts = np.zeros((units.shape[1], len(names), 2))
    np.add.at(counts, (unit.reshape(-1), name), pairs)
    by_seed = [counts[units[0] == seed] for seed in np.unique(units[0])]
    met = np.array([sums.sum(axis=0) for sums in by_seed])
    known = met[:, :, 1] > 0
    rates = np.where(known, met[:, :, 0] / np.where(known, met[:, :, 1], 1.0), 0.0)
    missing = rates.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    ever = known.any(axis=0)
    found = []
    for sums, total, here in zip(by_seed, met, known, strict=True):
        if here.any():
            each = (sums[:, here] / total[here, 1][:, None]).sum(axis=1)
            weight = each[:, 1] / here.sum()
            each[:, 0] += weight * missing[ever & ~here].sum()
            found.append(np.stack([each[:, 0] / ever.sum(), weight], axis=1))
    return found


def _exact(table: DecisionTable, counts: Counts) -> str:
    """Why more data could not change the value; "": they could."""
    if counts.exact:
        return counts.exact
    counted = np.asarray(counts.denominator) > 0
    if not counted.any():
        return ""
    if table.deterministic[counted].all():
        return CERTAIN
    values = np.asarray(counts.numerator, dtype=np.float64)[counted]
    # At 0 and 1 models' probabilities under different policies and prompts are rounded to the same.
    rounded = values[0] in (0.0, 1.0) and not table.scripted[counted].all()
    same = counts.of == "probabilities" and np.ptp(values) == 0.0 and not rounded
    return SAME_PROBABILITY if same else ""


def together(counts: np.ndarray, groups: np.ndarray, matches: np.ndarray) -> tuple[np.ndarray, str]:
    """`counts [N, 2]` added up over those of one group, `[group, 2]`, and what a row is of.

    What all happened in one group is added up by match, `[match, 2]`: of the spread between
    groups it says nothing, but the spread inside is seen.
    """
    names, number = np.unique(groups, return_inverse=True)
    over = GROUPS if len(names) < len(np.unique(matches)) else MATCHES
    if len(names) == 1:
        names, number = np.unique(matches, return_inverse=True)
        over = MATCHES
    sums = np.zeros((len(names), 2))
    np.add.at(sums, number, counts)
    return sums, over


def by_seed(table: DecisionTable, measure: Measure) -> dict[str, float]:
    """The measure in each seed that counts anything, by seed."""
    counts = measure(table)
    found = {}
    for seed in np.unique(table.seed):
        rows = table.seed == seed
        if counted := float(counts.denominator[rows].sum()):
            found[str(seed)] = round(float(counts.numerator[rows].sum()) / counted, PLACES)
    return found


def interval(
    seeds: Sequence[np.ndarray],
    bounds: Range | None = None,
    over: str = GROUPS,
    exact: str = "",
) -> Json | None:
    """`mean_over_seeds`, ready for JSON. A range that the data leave is taken as unknown."""
    try:
        found = mean_over_seeds(seeds, bounds, over, exact)
    except ValueError:
        found = mean_over_seeds(seeds, None, over, exact)
    return None if found is None else as_json(found)


def as_json(found: Estimate) -> Json:
    """An estimate as a dictionary; its ends rounded outward, so that none loses its width."""
    scale, ends = 10.0**PLACES, {"low": found.low, "high": found.high}
    if found.low is not None and found.high is not None:
        # What is whole but for rounding stays whole.
        low, high = floor(found.low * scale + 1e-4), ceil(found.high * scale - 1e-4)
        ends = {"low": low / scale, "high": max(high, low + 1) / scale}
    whole = {**found.as_dict(), "mean": round(found.mean, PLACES), **ends}
    if not found.reason:
        del whole["reason"]
    return whole


def shares_over_seeds(
    seeds: Iterable[Mapping[str, float] | None],
) -> dict[str, float] | None:
    """Mean over seeds of shares by name; None unless some seed has them."""
    known = [shares for shares in seeds if shares is not None]
    if not known:
        return None
    return {
        name: round(float(np.mean([shares[name] for shares in known])), PLACES) for name in known[0]
    }


def concatenate(tables: list[DecisionTable]) -> DecisionTable:
    """Several tables as one."""
    return DecisionTable(
        **{key: np.concatenate([getattr(t, key) for t in tables]) for key in _columns()}
    )


def _columns() -> tuple[str, ...]:
    return tuple(DecisionTable.__dataclass_fields__)
