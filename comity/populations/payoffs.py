"""Payoffs and rewards of one-shot games, looked up.

All that can happen to a pair in one game are 100 combinations: what both had on display (2 x 2),
and for each player a legal move, an illegal answer for which a move is carried, or an illegal
answer without a move (5 x 5). The objects of `comity.rewards` compute the rewards of all of them
once, in both seats; the episodes only look them up.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from comity.errors import ComityError
from comity.games.base import Game, PlayedMatches
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.random_tables import RandomTables
from comity.populations.base import ILLEGAL
from comity.rewards.base import BaseReward

ANSWERS = ((0, 0), (1, 1), (ILLEGAL, 0), (ILLEGAL, 1), (ILLEGAL, ILLEGAL))
"""Intended and played move of every answer code."""


def answer_codes(intended: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Index into `ANSWERS` of every answer; both arguments int8, -1 illegal or none."""
    if (intended >= 0).all():
        return intended
    return np.where(intended >= 0, intended, np.where(move >= 0, 2 + move, 4)).astype(np.int8)


def check_game(game: Game) -> Iterated:
    """The game, if a population can play it; else raises `ComityError`."""
    if not isinstance(game, Iterated) or isinstance(game, RandomTables):
        raise ComityError("a population plays one matrix game with a fixed payoff table")
    if game.seats != 2 or len(game.moves) != 2:
        raise ComityError(
            f"a population plays games of two seats and two moves; {game.stage.title} has "
            f"{game.seats} seats and {len(game.moves)} moves"
        )
    if game.noise:
        raise ComityError("moves of a population do not tremble: set game.noise=0")
    return game


class GameTables:
    """Payoffs of a game, and the rewards of some types in it."""

    def __init__(self, game: Game, rewards: Sequence[BaseReward]) -> None:
        """`rewards`: of every agent, or of every type; their order is that of the tables."""
        game = check_game(game)
        cells = list(product(range(2), range(2), range(len(ANSWERS)), range(len(ANSWERS))))
        shown = np.array([cell[:2] for cell in cells])[:, :, None]
        answers = np.array([[ANSWERS[code] for code in cell[2:]] for cell in cells])
        intended, moves = answers[:, :, 0, None], answers[:, :, 1, None]
        paid = [
            game.stage.payoff((int(a), int(b))) if min(a, b) >= 0 else (0.0, 0.0)
            for a, b in moves[:, :, 0]
        ]
        payoffs = np.array(paid, dtype=float)[:, :, None]
        alive = np.ones((len(cells), 1), dtype=bool)
        played = PlayedMatches(intended, moves, payoffs, alive, shown)
        self.payoffs = _own_first(payoffs)
        """float64 `[seat, own shown, other shown, own answer, other answer]`, answers by code."""
        self.rewards = np.stack([_own_first(reward(played, game)) for reward in rewards])
        """float64 `[reward, seat, own shown, other shown, own answer, other answer]`."""
        self.illegal_selection = np.array(
            [np.nan if reward.illegal is None else reward.illegal for reward in rewards]
        )
        """Reward of an illegal selection, `[reward]`; NaN: that of the game all the same."""
        self._flat_rewards = self.rewards.reshape(-1)
        self._flat_payoffs = self.payoffs.reshape(-1)

    def cell(
        self,
        seat: np.ndarray,
        own_shown: np.ndarray,
        other_shown: np.ndarray,
        own: np.ndarray,
        other: np.ndarray,
    ) -> np.ndarray:
        """Flat index of a combination; answers by code."""
        cell = seat * 100 + own_shown * np.int64(50) + other_shown * np.int64(25)
        return np.asarray(cell + own * np.int64(5) + other)

    def reward(self, reward: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Rewards of cells, float64; `reward` is an index into the given rewards."""
        return self._flat_rewards[reward * 200 + cell]

    def payoff(self, cell: np.ndarray) -> np.ndarray:
        """Payoffs of cells, float64."""
        return self._flat_payoffs[cell]


def _own_first(values: np.ndarray) -> np.ndarray:
    """`[100, seat, 1]` as `[seat, own shown, other shown, own answer, other answer]`."""
    grid = values[:, :, 0].reshape(2, 2, 5, 5, 2)
    return np.stack([grid[..., 0], grid[..., 1].transpose(1, 0, 3, 2)])
