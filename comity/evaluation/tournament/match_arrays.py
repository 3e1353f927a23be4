"""The matches of a tournament as arrays: by ordered pair, by agent and seed, as a matrix."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from comity.evaluation.tournament.metrics import METRICS, applicable
from comity.evaluation.tournament.pair_matches import PairMatches, clean
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
    illegal: np.ndarray
    """int `[match]`: answers of any kind and either seat that could not be read."""

    def legal(self) -> "Pair":
        """Only the matches without a forfeit and without an illegal answer."""
        chosen = clean(self.matches) & (self.illegal == 0)
        kept = tuple(k for k, use in zip(self.repetitions, chosen, strict=True) if use)
        return Pair(self.matches.part(chosen), kept, self.deterministic, self.illegal[chosen])


Pairs = dict[tuple[str, str], Pair]


def group_pairs(matches: Iterable[StoredMatch], game: Game) -> Pairs:
    """The matches of every ordered pair as arrays."""
    found: dict[tuple[str, str], list[StoredMatch]] = defaultdict(list)
    for match in matches:
        found[match.row, match.column].append(match)
    return {
        key: _pair(sorted(some, key=lambda one: one.repetition), game)
        for key, some in found.items()
    }


def _pair(matches: Sequence[StoredMatch], game: Game) -> Pair:
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
    if split:
        best = filled([match.best_surplus for match in matches], 0.0, float)
    elif isinstance(game, Iterated) and game.sample_instance(0) is game:
        best = np.where(alive, best_welfare(game), 0.0)
    arrays = PairMatches(
        intended=seats("intended", -1, np.int64),
        moves=seats("moves", -1, np.int64),
        payoffs=seats("payoffs", 0.0, float),
        alive=alive,
        best_welfare=best,
        deal=filled([match.deal for match in matches], False, bool) if split else None,
        surplus=filled([match.surplus for match in matches], 0.0, float) if split else None,
        best_surplus=best if split else None,
    )
    return Pair(
        arrays,
        tuple(match.repetition for match in matches),
        all(match.deterministic for match in matches),
        np.array([match.illegal_row + match.illegal_column for match in matches]),
    )


def best_welfare(game: Iterated) -> float:
    """The largest sum of payoffs in a round."""
    joint = product(range(len(game.moves)), repeat=game.seats)
    return max(float(sum(game.stage.payoff(moves))) for moves in joint)


def by_seed(
    pairs: Pairs,
    agent: str,
    count: Callable[[PairMatches], np.ndarray],
    name: str,
    repetitions: int,
    against: Sequence[str] | None = None,
) -> np.ndarray:
    """float64 `[repetition]`: the agent's value on each environment seed, over its opponents.

    The mean over opponents with equal weight; against one it is a ratio of sums over both seats.
    NaN where nothing was counted. `against`: these opponents, and NaN on seeds on which one of
    them was not met, so that two agents are compared on the same matches.
    """
    met = {key[1 - key.index(agent)] for key in pairs if agent in key}
    opponents = sorted(met) if against is None else list(against)
    values = np.full((len(opponents), repetitions), np.nan)
    for i, opponent in enumerate(opponents):
        sums = np.zeros((repetitions, 2))
        views = [(pairs.get((agent, opponent)), False)]
        if opponent != agent:
            views.append((pairs.get((opponent, agent)), True))
        for pair, mirrored in views:
            if pair is None or name not in applicable(pair.matches):
                continue
            counts = count(pair.matches.mirrored() if mirrored else pair.matches)
            if pair.deterministic and len(counts):
                sums += counts[0]
            else:
                for k, row in zip(pair.repetitions, counts, strict=True):
                    sums[k] += row
        counted = sums[:, 1] > 0
        values[i, counted] = sums[counted, 0] / sums[counted, 1]
    known = ~np.isnan(values)
    use = known.any(axis=0) if against is None else known.all(axis=0)
    found = np.full(repetitions, np.nan)
    found[use] = [values[known[:, k], k].mean() for k in np.flatnonzero(use)]
    return found


def is_fixed(pairs: Pairs, agent: str) -> bool:
    """Whether nothing in the agent's matches is random."""
    return all(pair.deterministic for key, pair in pairs.items() if agent in key)


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
