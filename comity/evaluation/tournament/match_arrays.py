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
    """float64 `[repetition]`: the agent's value on each environment seed, over its opponents.

    Against one opponent it is a ratio of sums over both seats. NaN where nothing was counted.
    Over opponents it is their mean with equal weights. Where matches are missing, the mean of all
    values is still the mean over opponents of each one's mean; see `balanced`.

    `against`: these opponents, and NaN on seeds on which one of them was not met, so that two
    agents are compared on the same matches. `limits`: least and greatest value of the metric.
    """
    met = {key[1 - key.index(agent)] for key in pairs if agent in key}
    opponents = sorted(met) if against is None else list(against)
    values = np.full((len(opponents), repetitions), np.nan)
    for i, opponent in enumerate(opponents):
        sums = np.zeros((repetitions, 2))
        # Of its matches against itself, both seats are the agent's.
        views = ((pairs.get((agent, opponent)), False), (pairs.get((opponent, agent)), True))
        for pair, mirrored in views:
            if pair is None or not NEEDS[metric.needs](pair.matches):
                continue
            counts = metric(pair.matches.mirrored() if mirrored else pair.matches)
            if pair.deterministic and len(counts):
                sums += counts[0]
            else:
                for k, row in zip(pair.repetitions, counts, strict=True):
                    sums[k] += row
        counted = sums[:, 1] > 0
        values[i, counted] = sums[counted, 0] / sums[counted, 1]
    if against is None:
        return balanced(values, limits)
    return np.asarray(np.where(np.isnan(values).any(axis=0), np.nan, values.mean(axis=0)))


def balanced(
    values: np.ndarray,
    limits: tuple[float, float] | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """float64 `[seed]` from `[opponent, seed]` with NaN where nothing was counted.

    Every opponent keeps its weight in the mean of the result, however many of its seeds are
    missing: that mean is M, the weighted mean over opponents of their means m_i (`weights`
    `[opponent]`, all equal unless they are given). Of K seeds with anything counted, K_i with
    opponent i, and shares w_i of the weights of the opponents met, the value on seed k is

        M + sum over the opponents met on k of w_i (K / K_i) (x_ik - m_i),

    the linearization of M, so that the spread over seeds is that of M. Without missing values it
    is the plain (weighted) mean over opponents. Where a value would leave `limits`, all are drawn
    toward M until none does.
    """
    known = ~np.isnan(values)
    found = np.full(values.shape[1], np.nan)
    if not known.any():
        return found
    met, use = known.any(axis=1), known.any(axis=0)
    known, values = known[np.ix_(met, use)], values[np.ix_(met, use)]
    shares = np.ones(len(values)) if weights is None else weights[met]
    shares = shares / shares.sum()
    means = np.nanmean(values, axis=1)
    scaled = shares * known.shape[1] / known.sum(axis=1)
    away = np.where(known, (values - means[:, None]) * scaled[:, None], 0.0).sum(axis=0)
    mean = float(shares @ means)
    if limits is not None and not known.all():
        room = np.where(away > 0, limits[1] - mean, mean - limits[0])
        far = np.abs(away) > room
        if far.any():
            away = away * float((room[far] / np.abs(away[far])).min())
    found[use] = mean + away
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
