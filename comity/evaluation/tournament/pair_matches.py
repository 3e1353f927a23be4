"""The matches of one ordered pair of agents as arrays: the input of the tournament's metrics."""

from dataclasses import dataclass, fields, replace

import numpy as np

from comity.games.base import PlayedMatches

ROW, COLUMN = 0, 1
"""Seats in `PairMatches`: the agent that a metric is about, and its opponent."""

ANSWERS = ("answers", "illegal", "refused", "cut_off")
"""Counted of each seat: all answers that the game asked for, and those that were no move: answers
that could not be read, and those of models behind an API that were refused or cut off."""


@dataclass(frozen=True)
class PairMatches:
    """M matches of R rounds between two agents; the row agent is on seat 0 of every array.

    Where the row agent sat in the game does not matter: arrays are ordered by agent. Raises
    `ValueError` for shapes that do not fit.
    """

    intended: np.ndarray
    """int `[M, 2, R]`: chosen moves; -1 if illegal or the match is over. 0 for legal claims."""
    moves: np.ndarray
    """int `[M, 2, R]`: played moves, after the rule for illegal answers and trembles; -1 none."""
    payoffs: np.ndarray
    """float64 `[M, 2, R]`; 0 after the end of the match."""
    alive: np.ndarray
    """bool `[M, R]`: the match had this round."""
    shown: np.ndarray | None = None
    """int `[M, 2, R]`: last moves on display before the round; -1 none. None: the moves of the
    round before, nothing in round 0."""
    best_welfare: np.ndarray | None = None
    """float64 `[M, R]`: the largest sum of both payoffs that the round allowed; None: unknown."""
    forfeit: np.ndarray | None = None
    """bool `[M]`: a match that ended because an agent did not answer; None: no match."""
    deal: np.ndarray | None = None
    """bool `[M, R]`, negotiations only: the round ended in agreement."""
    surplus: np.ndarray | None = None
    """float64 `[M, R]`, negotiations only: joint surplus of the deal; 0 without one."""
    best_surplus: np.ndarray | None = None
    """float64 `[M, R]`, negotiations only: the largest joint surplus of any deal."""
    at_reserve: np.ndarray | None = None
    """int `[M, 2, R]`, negotiations only: 1 where the answer brings the agent no more than no deal
    does, 0 where it brings more, -1 where there was no legal claim or response."""
    best_response: np.ndarray | None = None
    """float64 `[M, 2]`: payoff per round of the exact best response to the other agent on this
    seat; NaN: not known."""
    answers: np.ndarray | None = None
    """int `[M, 2, 4]`: numbers of answers by `ANSWERS`; None: one a round, illegal where
    `intended` is -1."""

    def __post_init__(self) -> None:
        matches, rounds = self.alive.shape
        per_seat = {"intended", "moves", "payoffs", "shown", "at_reserve"}
        for field in fields(self):
            array = getattr(self, field.name)
            wanted: tuple[int, ...] = (matches, rounds)
            if field.name in per_seat:
                wanted = (matches, 2, rounds)
            elif field.name == "forfeit":
                wanted = (matches,)
            elif field.name == "best_response":
                wanted = (matches, 2)
            elif field.name == "answers":
                wanted = (matches, 2, len(ANSWERS))
            if array is not None and array.shape != wanted:
                raise ValueError(f"{field.name} must have shape {wanted}, not {array.shape}")

    def __len__(self) -> int:
        return len(self.alive)

    @staticmethod
    def from_played(played: PlayedMatches, row_seat: int | np.ndarray = 0) -> "PairMatches":
        """The matches of a two-seat game; `row_seat`: where the row agent sat, or int `[M]`."""
        seat = np.broadcast_to(np.asarray(row_seat), (len(played.alive),))
        order = np.stack([seat, 1 - seat], axis=1)[:, :, None]

        def by_agent(array: np.ndarray) -> np.ndarray:
            return np.take_along_axis(array, order, axis=1)

        return PairMatches(
            by_agent(played.intended),
            by_agent(played.moves),
            by_agent(played.payoffs),
            played.alive,
            by_agent(played.shown),
        )

    @property
    def displayed(self) -> np.ndarray:
        """int `[M, 2, R]`: last moves on display; see `shown`."""
        if self.shown is not None:
            return self.shown
        before = np.full_like(self.moves, -1)
        before[:, :, 1:] = self.moves[:, :, :-1]
        return before

    @property
    def answer_counts(self) -> np.ndarray:
        """int `[M, 2, 4]`; see `answers`."""
        if self.answers is not None:
            return self.answers
        found = np.zeros((len(self), 2, len(ANSWERS)), dtype=int)
        found[:, :, 0] = self.alive.sum(axis=1)[:, None]
        found[:, :, 1] = (self.alive[:, None] & (self.intended < 0)).sum(axis=2)
        return found

    @property
    def is_negotiation(self) -> bool:
        """Whether deals were made instead of moves."""
        return self.deal is not None

    @property
    def has_two_moves(self) -> bool:
        """Whether no third move was made: the moves are cooperation (0) and defection (1)."""
        return not self.is_negotiation and int(self.moves.max(initial=0)) <= 1

    def part(self, chosen: np.ndarray) -> "PairMatches":
        """The matches that a mask or index picks."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: a[chosen] for k, a in arrays.items() if a is not None})

    def mirrored(self) -> "PairMatches":
        """The same matches from the column agent's view."""
        swapped = {
            name: getattr(self, name)[:, ::-1]
            for name in (
                *("intended", "moves", "payoffs", "shown", "at_reserve"),
                *("best_response", "answers"),
            )
            if getattr(self, name) is not None
        }
        return replace(self, **swapped)


def clean(matches: PairMatches) -> np.ndarray:
    """bool `[M]`: matches without a forfeit, in which both agents' answers were all moves.

    Beside the table over all matches stands the one over these: surviving the errors of others is
    no strategy. An answer that was refused or cut off is no move either.
    """
    legal = matches.answer_counts[:, :, 1:].sum(axis=(1, 2)) == 0
    return np.asarray(legal if matches.forfeit is None else legal & ~matches.forfeit)
