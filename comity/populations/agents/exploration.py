"""What tabular and deep Q-learners have in common: exploration and the states before a game.

One random number decides both whether to explore and what is done then: with epsilon e, a draw
u < e explores and takes the option floor(u / e * options), which is uniform.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from comity.populations.base import GamesView, SelectionView
from comity.populations.members import Members, Rows
from comity.populations.streams import load_draws, save_draws

TRACKS = ("games", "practice")
"""The games of the population and those of a control, each with draws of its own."""


def explore(
    draw: np.ndarray, epsilon: float | np.ndarray, greedy: np.ndarray, options: int
) -> np.ndarray:
    """`greedy`, or a uniformly random option with probability `epsilon`; all arrays alike."""
    at_random = np.flatnonzero(draw < epsilon)
    if not len(at_random):
        return greedy
    chance = epsilon if isinstance(epsilon, float) else np.broadcast_to(epsilon, draw.shape)
    if not isinstance(chance, float):
        chance = chance.reshape(-1)[at_random]
    found = greedy.copy()
    option = (draw.reshape(-1)[at_random] / chance * options).astype(np.int64)
    # Rounding can reach `options` where a draw lies just below epsilon.
    found.reshape(-1)[at_random] = np.minimum(option, options - 1)
    return found


def linear_decay(last: float, done: np.ndarray, over: int) -> np.ndarray:
    """Epsilon that falls linearly from 1 to `last` while `done` goes from 0 to `over`."""
    return np.maximum(last, 1.0 - (1.0 - last) * done / over)


def state_inputs(state: str, size: int) -> np.ndarray:
    """float32 `[S, inputs]`: what stands for every state of a dilemma; see `state_index`.

    "partner": the partner's move. "pair": the partner's and the own move. "identity": the
    partner's move, and a 1 at its index among all N agents.
    """
    if state == "partner":
        return np.array([[0], [1]], dtype=np.float32)
    if state == "pair":
        return np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    moves = np.tile([0, 1], size)[:, None]
    return np.hstack([moves, np.repeat(np.eye(size), 2, axis=0)]).astype(np.float32)


def state_count(state: str, size: int) -> tuple[int, int]:
    """Shape of `state_inputs`: states, and numbers that stand for one."""
    return {"partner": (2, 1), "pair": (4, 2)}.get(state, (2 * size, 1 + size))


def state_names(state: str, labels: Sequence[str]) -> list[str]:
    """Names of all states in the order of `state_index`: the partner's move, then the rest."""
    if state == "partner":
        return ["C", "D"]
    if state == "pair":
        return ["CC", "CD", "DC", "DD"]
    return [f"{move} {label}" for label in labels for move in "CD"]


def state_index(state: str, other: np.ndarray, own: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """int or int8 `[K]`: index of a state from the partner's move, the own move and the partner."""
    if state == "partner":
        return other
    return 2 * other + own if state == "pair" else 2 * partner + other


def pair_policy(state: str, agents: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """P(C) of agents in fixed pairs by their own and their partner's latest move, `[R, A, 2, 2]`.

    `chances` `[R, A, S]`: P(C) in every state (`state_index`); the partner of 2k is 2k + 1.
    """
    own, other = np.indices((2, 2))
    place = state_index(state, other, own, (agents ^ 1)[:, None, None])
    return np.asarray(chances[:, np.arange(len(agents))[:, None, None], place])


class Explorer:
    """Random numbers of learners, and who has moved and chosen before."""

    def __init__(self, members: Members) -> None:
        self.agents = members.agents
        self.runs = members.runs
        self.columns = members.columns()
        self.others = members.others()
        self._draws = {track: members.draws(f"{track} moves", members.size) for track in TRACKS}
        self._draws["selection"] = members.draws("selection", 1)
        self._moved = {track: np.zeros(members.streams, dtype=bool) for track in TRACKS}
        self._all_moved = dict.fromkeys(TRACKS, False)
        self._selected = False
        self._latest_rows: tuple[GamesView, Rows] | None = None

    def rows(self, view: GamesView) -> Rows:
        """The view's rows by run and agent."""
        if self._latest_rows is None or self._latest_rows[0] is not view:
            self._latest_rows = view, Rows(view, self.columns, len(self.agents), self.runs)
        return self._latest_rows[1]

    def moves(
        self, rows: Rows, greedy: np.ndarray, epsilon: float | np.ndarray, practice: bool
    ) -> np.ndarray:
        """int8 `[K]`: the moves; an agent's first is random."""
        track = TRACKS[practice]
        draw = self._draws[track].rows(rows.slot, rows.rank, rows.counts)
        if not self._all_moved[track]:
            first = ~self._moved[track][rows.slot] & (rows.rank == 0)
            epsilon = np.where(first, 1.0, epsilon)
            self._moved[track] |= rows.counts > 0
            self._all_moved[track] = bool(self._moved[track].all())
        return explore(draw, epsilon, greedy, 2).astype(np.int8)

    def partners(self, greedy: np.ndarray, epsilon: float | np.ndarray) -> np.ndarray:
        """int `[R, A]`: chosen partners from greedy places among the others; first at random."""
        draw = self._draws["selection"].one_each()
        place = explore(draw, epsilon if self._selected else 1.0, greedy, self.others.shape[1])
        self._selected = True
        return self.others[np.arange(len(self.agents)), place]

    def visible(self, view: SelectionView | np.ndarray) -> np.ndarray:
        """int8 `[R, A, N - 1]`: the latest moves of the others, of a view or of `[R, N]` moves."""
        latest = view.latest if isinstance(view, SelectionView) else view
        return latest[:, self.others]

    def save(self) -> dict[str, np.ndarray]:
        """Places in random streams, and who has moved and chosen."""
        state = save_draws(self._draws)
        state |= {f"moved.{track}": self._moved[track].copy() for track in TRACKS}
        state["selected"] = np.array(self._selected)
        return state

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `save` returned."""
        load_draws(self._draws, state)
        self._moved = {track: np.array(state[f"moved.{track}"]) for track in TRACKS}
        self._all_moved = {track: bool(self._moved[track].all()) for track in TRACKS}
        self._selected = bool(state["selected"])
