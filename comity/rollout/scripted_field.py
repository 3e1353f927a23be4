"""A round-robin of many scripted players, as in Axelrod's tournaments (1980).

Every player meets every other one and itself, as often as there are repetitions. All pairs share
the environment seeds of the repetitions (common random numbers), and every match has its own
streams. Pairs are played by `comity.rollout.scripted_matches`, and by lock-step play where that
does not apply.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from comity.games.base import Game, PlayedMatches
from comity.games.randomness import CROSSPLAY, ENVIRONMENT, generator
from comity.players.base import Player
from comity.rollout.match_runner import Match
from comity.rollout.play import play
from comity.rollout.scripted_matches import Pool, play_scripted


@dataclass(frozen=True)
class FieldScores:
    """Payoffs of every player against every other, and against itself."""

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
    game: Game,
    players: Sequence[Player],
    repetitions: int,
    seed: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> FieldScores:
    """Play a round-robin of at least two players of a two-seat game.

    The first of a pair has seat 0. `advance` is called with the number of newly finished matches.
    `ValueError` if two players have the same name: they would share random numbers.
    """
    names = tuple(player.name for player in players)
    if len(set(names)) < len(names) or len(names) < 2:
        raise ValueError(f"a field needs at least two players with different names, not {names}")
    seeds = [
        int(generator(seed, CROSSPLAY, ENVIRONMENT, k).integers(2**62)) for k in range(repetitions)
    ]
    payoffs, pool = np.zeros((len(players), len(players), repetitions)), Pool()
    for i, j in combinations_with_replacement(range(len(players)), 2):
        streams = [
            (seed, CROSSPLAY, f"{names[i]}|{names[j]}|{seed}", k) for k in range(repetitions)
        ]
        pair = (players[i], players[j])
        played = play_scripted(game, pair, seeds, streams, pool)
        if played is None:
            matches = [
                Match(k, k, seeds[k], pair, streams[k])  # A group for every environment seed.
                for k in range(repetitions)
            ]
            played = play(game, matches).played
        earned = per_round(played)
        if i == j:
            payoffs[i, i] = earned.mean(axis=1)
        else:
            payoffs[i, j], payoffs[j, i] = earned.T
        advance(repetitions)
    return FieldScores(names, payoffs)


def per_round(played: PlayedMatches) -> np.ndarray:
    """Mean payoff per round, `[match, seat]`."""
    earned: np.ndarray = played.payoffs.sum(axis=2) / played.alive.sum(axis=1)[:, None]
    return earned
