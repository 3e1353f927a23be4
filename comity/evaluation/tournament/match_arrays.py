"""The matches of a tournament as arrays: by ordered pair, by agent and seed, as a matrix."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from comity.evaluation.tournament.exact_responses import Responses
from comity.evaluation.tournament.metrics import METRICS, NEEDS, TournamentMetric
from comity.evaluation.tournament.pair_matches import ANSWERS, PairMatches, clean
from comity.evaluation.tournament.records import StoredMatch
from comity.games.base import Game
from comity.games.matrix.iterated import Iterated

SCORE = "payoff"
"""The metric that ranks."""


@dataclass(frozen=True)
class Pair:
    """The matches of an ordered pair."""

    matches: PairMatches
    repetitions: tuple[int, ...]
    deterministic: bool

    def legal(self) -> "Pair":
        """Only the matches without a forfeit and in which every answer was a move."""
        chosen = clean(self.matches)
        kept = tuple(k for k, use in zip(self.repetitions, chosen, strict=True) if use)
        return Pair(self.matches.part(chosen), kept, self.deterministic)


Pairs = dict[tuple[str, str], Pair]


def group_pairs(
    matches: Iterable[StoredMatch], game: Game, responses: Responses | None = None
) -> Pairs:
    """The matches of every ordered pair as arrays; `responses`: the known best responses."""
    found: dict[tuple[str, str], list[StoredMatch]] = defaultdict(list)
    for match in matches:
        found[match.row, match.column].append(match)
    return {
        key: _pair(sorted(some, key=lambda one: one.repetition), game, responses or {})
        for key, some in found.items()
    }


def _pair(matches: Sequence[StoredMatch], game: Game, responses: Responses) -> Pair:
    rounds = max(len(match.payoffs_row) for match in matches)

    def filled(values: Sequence[Sequence[Any]], empty: Any, dtype: Any) -> np.ndarray:
        array = np.full((len(values), rounds), empty, dtype=dtype)
        for m, row in enumerate(values):
            array[m, : len(row)] = row
        return array

    def seats(name: str, empty: Any, dtype: Any) -> np.ndarray:
        return np.stack(
            [
                filled([getattr(match, f"{name}_{seat}") for match in matches], empty, dtype)
                for seat in ("row", "column")
            ],
            axis=1,
        )

    alive = filled([[True] * len(match.payoffs_row) for match in matches], False, bool)
    split = any(len(match.deal) for match in matches)
    best: np.ndarray | None = None
    most: np.ndarray | None = None
    if split:
        most = filled([match.best_surplus for match in matches], 0.0, float)
        # Where every seat is paid the sum of all points, two are paid it.
        best = 2 * most if getattr(game, "shared_payoff", False) else most
    elif isinstance(game, Iterated) and game.sample_instance(0) is game:
        best = np.where(alive, best_welfare(game), 0.0)
    row, column = matches[0].row, matches[0].column
    known = [responses.get((column, 0), np.nan), responses.get((row, 1), np.nan)]
    arrays = PairMatches(
        intended=seats("intended", -1, np.int64),
        moves=seats("moves", -1, np.int64),
        payoffs=seats("payoffs", 0.0, float),
        alive=alive,
        best_welfare=best,
        deal=filled([match.deal for match in matches], False, bool) if split else None,
        surplus=filled([match.surplus for match in matches], 0.0, float) if split else None,
        best_surplus=most,
        at_reserve=seats("reserve", -1, np.int64)
        if any(len(match.reserve_row) for match in matches)
        else None,
        best_response=np.tile(known, (len(matches), 1)) if np.isfinite(known).any() else None,
        answers=np.array(
            [
                [[getattr(m, f"{kind}_{seat}") for kind in ANSWERS] for seat in ("row", "column")]
                for m in matches
            ]
        ),
    )
    return Pair(
        arrays,
        tuple(match.repetition for match in matches),
        all(match.deterministic for match in matches),
    )


def best_welfare(game: Iterated) -> float:
    """The largest sum of payoffs in a round."""
    joint = product(range(len(game.moves)), repeat=game.seats)
    return max(float(sum(game.stage.payoff(moves))) for moves in joint)


def by_seed(
    pairs: Pairs,
    agent: str,
    metric: TournamentMetric,
    repetitions: int,
    against: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """float64 `[repetition, 2]`: the agent's metric on each environment seed, over its opponents.

    A numerator and a denominator, both 0 where nothing was counted. The ratio of their sums is the
    mean over opponents of each one's ratio of sums over both seats: see `balanced`.

    `against`: these opponents, and nothing on seeds on which one of them was not met, so that two
    agents are compared on the same matches. `limits`: least and greatest value of the metric.
    """
    met = {key[1 - key.index(agent)] for key in pairs if agent in key}
    opponents = sorted(met) if against is None else list(against)
    sums = np.zeros((len(opponents), repetitions, 2))
    for i, opponent in enumerate(opponents):
        # Of its matches against itself, both seats are the agent's.
        views = ((pairs.get((agent, opponent)), False), (pairs.get((opponent, agent)), True))
        for pair, mirrored in views:
            if pair is None or not NEEDS[metric.needs](pair.matches):
                continue
            counts = metric(pair.matches.mirrored() if mirrored else pair.matches)
            if pair.deterministic and len(counts):
                sums[i] += counts[0]
            else:
                for k, row in zip(pair.repetitions, counts, strict=True):
                    sums[i, k] += row
    if against is not None:
        sums[:, (sums[:, :, 1] <= 0).any(axis=0)] = 0.0
    return balanced(sums, limits)


def balanced(
    sums: np.ndarray,
    limits: tuple[float, float] | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """float64 `[seed, 2]` from `[opponent, seed, 2]`, numerators and denominators x and n.

    Every opponent keeps its weight, however long its matches are and however many are missing:
    the ratio of the result's sums is M, the weighted mean over opponents of their ratios of sums
    m_i (`weights` `[opponent]`, all equal unless they are given). With shares w_i of the weights
    of the opponents met, and N_i their sums of denominators, seed k has

        d_k = sum over i of w_i n_ik / N_i
        M d_k + sum over i of w_i (x_ik - m_i n_ik) / N_i

    as denominator and numerator, the linearization of M, so that the spread over seeds is that of
    M; both times the number of seeds. Where a ratio would leave `limits`, as much of the
    opponents' own differences, (m_i - M) n_ik, is left in all numerators as keeps it within.
    """
    counted = sums[:, :, 1] > 0
    found = np.zeros(sums.shape[1:])
    if not counted.any():
        return found
    met, use = counted.any(axis=1), counted.any(axis=0)
    sums = sums[np.ix_(met, use)]
    shares = np.ones(len(sums)) if weights is None else weights[met]
    shares = shares / shares.sum()
    whole = sums.sum(axis=1)
    means = whole[:, 0] / whole[:, 1]
    mean = float(shares @ means)
    each = sums * (shares / whole[:, 1])[:, None, None] * use.sum()
    weight = each[:, :, 1].sum(axis=0)
    away = (each[:, :, 0] - means[:, None] * each[:, :, 1]).sum(axis=0)
    if limits is not None:
        between = ((means - mean)[:, None] * each[:, :, 1]).sum(axis=0)
        ends = [(end - mean) * weight if np.isfinite(end) else end for end in limits]
        beyond = np.maximum(np.maximum(ends[0] - away, away - ends[1]), 0.0)
        beyond = np.where(beyond > 1e-9, beyond, 0.0)
        part = np.divide(beyond, np.abs(between), np.zeros_like(beyond), where=between != 0)
        away = away + min(float(part.max()), 1.0) * between
    found[use] = np.stack([mean * weight + away, weight], axis=1)
    return found


def values_of(pairs: np.ndarray) -> np.ndarray:
    """float64 `[seed]` from `[seed, 2]`: values whose mean is the ratio of sums, with its spread.

    With equal denominators they are the ratios; with others they may leave the metric's range.
    NaN where nothing was counted.
    """
    counted = pairs[:, 1] > 0
    found = np.full(len(pairs), np.nan)
    if counted.any():
        numerators, denominators = pairs[counted].T
        mean = numerators.sum() / denominators.sum()
        found[counted] = mean + (numerators - mean * denominators) / denominators.mean()
    return found


def unmet(pairs: Pairs, agent: str, names: Sequence[str]) -> list[str]:
    """The opponents, perhaps the agent itself, of whom no match with the agent is there."""
    return [one for one in names if (agent, one) not in pairs and (one, agent) not in pairs]


def is_fixed(pairs: Pairs, agent: str, against: Collection[str] | None = None) -> bool:
    """Whether nothing in the agent's matches is random; `against`: in those with these opponents.

    Its opponent in its self-play is itself.
    """
    return all(
        pair.deterministic
        for (row, column), pair in pairs.items()
        if agent in (row, column)
        and (against is None or (column if row == agent else row) in against)
    )


def payoff_matrix(pairs: Pairs, names: Sequence[str]) -> np.ndarray | None:
    """float64 `[agent, agent]`: payoff per round of the row against the column, over both seats.

    None where a pair has no matches.
    """
    found = np.zeros((len(names), len(names)))
    for i, row in enumerate(names):
        for j, column in enumerate(names):
            sums = np.zeros(2)
            for key, mirrored in {((row, column), False), ((column, row), True)}:
                if key not in pairs:
                    return None
                matches = pairs[key].matches
                counts = METRICS[SCORE].count(matches.mirrored() if mirrored else matches)
                sums += counts.sum(axis=0) / counts[:, 1].sum()
            found[i, j] = sums[0] / sums[1]
    return found


def wins_matrix(pairs: Pairs, names: Sequence[str]) -> np.ndarray:
    """float64 `[agent, agent]`: share of matches in which the row got more; ties as 1/2."""
    wins = np.zeros((len(names), len(names)))
    for (row, column), pair in pairs.items():
        own, other = pair.matches.payoffs.sum(axis=2).T
        won = float((0.5 + 0.5 * np.sign(own - other)).mean())
        i, j = names.index(row), names.index(column)
        wins[i, j] += won
        wins[j, i] += 1.0 - won
    return wins
