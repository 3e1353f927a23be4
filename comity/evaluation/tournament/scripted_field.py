"""A round-robin of many scripted players, as in Axelrod's tournaments (1980).

Every player meets every other one and itself, as often as there are repetitions, in one order of
the seats, as in the axelrod package. The matches are those of a tournament of these pairs
(`comity.evaluation.tournament.round_robin`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from comity.evaluation.tournament.round_robin import RoundRobin
from comity.games.base import Game
from comity.players.base import Player


@dataclass(frozen=True)
class FieldScores:
    """What everybody got from everybody."""

    names: tuple[str, ...]
    payoffs: np.ndarray
    """float64 `[player, opponent, repetition]`: mean payoff per round; against itself, the mean of
    both seats."""

    @property
    def scores(self) -> np.ndarray:
        """float64 `[player, repetition]`: mean payoff per round over the other players."""
        others = ~np.eye(len(self.names), dtype=bool)
        return np.array([self.payoffs[i, others[i]].mean(axis=0) for i in range(len(self.names))])

    @property
    def ranking(self) -> list[int]:
        """The players by the median of their scores over the repetitions, best first.

        Ties stay in order; the rule of the axelrod package's `ResultSet.ranking`.
        """
        medians = np.median(self.scores, axis=1)
        return sorted(range(len(self.names)), key=lambda i: -medians[i])


def play_field(
    game: Game, players: Sequence[Player], repetitions: int, seed: int = 0
) -> FieldScores:
    """Play a round-robin of at least two players of a two-seat game.

    The first of a pair has seat 0. `ValueError` if two players have the same name: they would share
    random numbers.
    """
    names = tuple(player.name for player in players)
    if len(set(names)) < len(names) or len(names) < 2:
        raise ValueError(f"a field needs at least two players with different names, not {names}")
    pairs = list(combinations_with_replacement(names, 2))
    robin = RoundRobin(game, dict(zip(names, players, strict=True)), repetitions, seed, pairs)
    place = {name: i for i, name in enumerate(names)}
    payoffs = np.zeros((len(players), len(players), repetitions))
    for batch in robin.play():
        for match in batch.matches:
            i, j = place[match.row], place[match.column]
            own, other = np.mean(match.payoffs_row), np.mean(match.payoffs_column)
            # A match of deterministic strategies is stored once and stands for all repetitions.
            k = slice(None) if match.deterministic else match.repetition
            if i == j:
                payoffs[i, i, k] = (own + other) / 2
            else:
                payoffs[i, j, k], payoffs[j, i, k] = own, other
    return FieldScores(names, payoffs)
