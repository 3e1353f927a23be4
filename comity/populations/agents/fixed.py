"""Fixed strategies: rules that learn nothing and choose partners at random.

Every game costs an agent one random number whatever its rule is. Rules that refer to an agent's
own past (alternation, switching, defecting forever) go through its games in the order of play,
also within an episode.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from comity.populations.base import (
    COOPERATE,
    DEFECT,
    GameExperience,
    GamesView,
    SelectionExperience,
    SelectionView,
)
from comity.populations.members import Members, Rows
from comity.populations.streams import load_draws, save_draws

COOPERATES = {"AC": 1.0, "AD": 0.0, "Random": 0.5, "GEa": 0.99, "GEb": 0.8, "GEd": 0.2, "GEe": 0.8}
"""Probability of cooperation of the types that look at nothing."""

SWITCHES = {"CD": 1.0, "GEc": 0.8}
"""Probability of playing another move than the last one."""

RANDOM_OPENING = ("CD", "GEa", "GEb", "GEc", "GEd", "GEe")
"""Types whose first move is C or D with equal probability."""

TRACKS = ("games", "practice")
"""The games of the population and those of a control, each with a past and draws of its own."""


def cooperation(kind: str) -> np.ndarray:
    """P(C) of a fixed type after its first game, by its own and its partner's latest move,
    `[2, 2]`.

    These two moves say all that a rule depends on: that of GEb defects forever once it has.
    """
    own, other = np.indices((2, 2))
    if kind == "TFT":
        return (other == COOPERATE).astype(float)
    if kind in SWITCHES:
        return np.where(own == COOPERATE, 1 - SWITCHES[kind], SWITCHES[kind])
    if kind == "GEb":
        return np.where(own == COOPERATE, COOPERATES[kind], 0.0)
    return np.full((2, 2), COOPERATES[kind])


class FixedAgents:
    """All fixed agents of a population."""

    def __init__(self, members: Members) -> None:
        self.agents = members.agents
        self._runs = members.runs
        self._columns = members.columns()
        self._others = members.others()
        self._draws = {track: members.draws(f"{track} moves", members.size) for track in TRACKS}
        self._draws["selection"] = members.draws("selection", 1)
        types = np.tile(np.array(members.types), members.runs)
        self._cooperates = np.array([COOPERATES.get(one, 0.0) for one in types])
        self._switch = np.array([SWITCHES.get(one, 0.0) for one in types])
        self._random_opening = np.isin(types, RANDOM_OPENING)
        self._copies = types == "TFT"
        self._holds_grudge = types == "GEb"
        self._opened = {track: np.zeros(members.streams, dtype=bool) for track in TRACKS}
        self._last = {track: np.zeros(members.streams, dtype=np.int8) for track in TRACKS}
        """Latest own move by run and agent; of GEb whether it has ever defected."""
        self._has_past = bool(self._switch.any() or self._holds_grudge.any())
        self._policy = np.stack([cooperation(one) for one in members.types])

    def select(self, view: SelectionView) -> np.ndarray:
        """int `[R, A]`: uniformly random partners."""
        place = (self._draws["selection"].one_each() * self._others.shape[1]).astype(np.int64)
        return self._others[np.arange(len(self.agents)), place]

    def act(self, view: GamesView, *, practice: bool = False) -> np.ndarray:
        """int8 `[K]`: the moves of the rules."""
        track = TRACKS[practice]
        rows = Rows(view, self._columns, len(self.agents), self._runs)
        slot, opened = rows.slot, self._opened[track]
        draw = self._draws[track].rows(slot, rows.rank, rows.counts)
        opening = ~opened[slot] & (rows.rank == 0)
        chance = np.where(opening & self._random_opening[slot], 0.5, self._cooperates[slot])
        moves = (draw >= chance).astype(np.int8)
        copied = np.where(opening, COOPERATE, view.other)
        moves = np.where(self._copies[slot], copied, moves).astype(np.int8)
        if self._has_past:
            moves = self._with_past(track, rows, moves, draw, opening)
        opened |= rows.counts > 0
        return moves

    def _with_past(
        self,
        track: str,
        rows: Rows,
        moves: np.ndarray,
        draw: np.ndarray,
        opening: np.ndarray,
    ) -> np.ndarray:
        """`moves` with those of the rules about an agent's own past, in order of play."""
        last = self._last[track]
        shape = (len(rows.counts), int(rows.counts.max(initial=0)))
        place = (rows.slot, rows.rank)
        # One row per agent, one column per game of the episode; empty cells change nothing.
        step = np.zeros(shape, dtype=np.int64)
        step[place] = np.where(
            opening & (self._switch[rows.slot] > 0), draw >= 0.5, draw < self._switch[rows.slot]
        )
        # The past of one that opens now is 0, so its opening is a switch from C, or none.
        switched = (last[:, None] + np.cumsum(step, axis=1)) % 2
        defected = np.zeros(shape, dtype=bool)
        defected[place] = moves == DEFECT
        grudge = np.logical_or.accumulate(defected, axis=1) | (last[:, None] > 0)
        found = np.where(self._switch[rows.slot] > 0, switched[place], moves)
        found = np.where(self._holds_grudge[rows.slot], grudge[place], found).astype(np.int8)
        latest = rows.rank == rows.counts[rows.slot] - 1
        last[rows.slot[latest]] = found[latest]
        return found

    def record(self, games: GameExperience, selections: SelectionExperience | None) -> None:
        """Nothing: they do not learn."""

    def update(self) -> Mapping[str, Any]:
        """Nothing: they do not learn."""
        return {}

    def pair_policy(self, episode: int) -> np.ndarray:
        """P(C) in a fixed pair by own and partner's latest move, `[R, A, 2, 2]`."""
        return np.broadcast_to(self._policy, (self._runs, *self._policy.shape))

    def save(self) -> dict[str, np.ndarray]:
        """Their pasts and places in random streams."""
        state = save_draws(self._draws)
        for track in TRACKS:
            state[f"opened.{track}"] = self._opened[track].copy()
            state[f"last.{track}"] = self._last[track].copy()
        return state

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `save` returned."""
        load_draws(self._draws, state)
        for track in TRACKS:
            self._opened[track] = np.array(state[f"opened.{track}"])
            self._last[track] = np.array(state[f"last.{track}"])
