"""Games of a population, counted and summed in one pass over the records.

Memory is bounded by the numbers of bins, runs and agents, not by the number of games.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from comity.evaluation.population.folder import Condition, Games
from comity.evaluation.population.windows import Window, bin_width

JOINT = ("CC", "CD", "DC", "DD")
"""Joint moves, the selector's first."""
NO_MOVE = len(JOINT)
AGENT_MATRICES = 64
"""Most agents of which every pair is counted; above, pairs of types only."""


@dataclass(frozen=True)
class Tally:
    """Counts and sums of games by slot (a bin or a window), run and agent: `[S, R, N]`."""

    selecting: np.ndarray
    """Games in which the agent was the selector (seat 0 of a fixed pair)."""
    chosen: np.ndarray
    """Games in which it was the selected one."""
    legal: np.ndarray
    """Games, on either side, with a legal answer."""
    cooperated: np.ndarray
    """Legal answers that were C, as intended."""
    payoff: np.ndarray
    reward: np.ndarray
    choices: np.ndarray
    """Legal selections."""
    offered: np.ndarray
    """Legal selections with a cooperator (by latest move) among the candidates."""
    took: np.ndarray
    """Those of them that chose one."""
    chance: np.ndarray
    """Sum over them of the share of cooperators among the candidates."""
    joint: np.ndarray
    """`[S, R, 5]`: games by joint move, then those in which a move is missing."""
    collective: np.ndarray
    """`[S, R]`: sum of r1 + r2."""
    equality: np.ndarray
    """`[S, R]`: sum of 1 - |r1 - r2| / (|r1| + |r2|), 1 for two zeros."""
    minimum: np.ndarray
    """`[S, R]`: sum of min(r1, r2)."""
    episodes: np.ndarray
    """`[S, R]`: recorded episodes."""

    @classmethod
    def zeros(cls, slots: int, runs: int, agents: int) -> "Tally":
        """Nothing counted."""
        shapes: dict[str, tuple[int, ...]] = {"joint": (slots, runs, NO_MOVE + 1)}
        for name in ("collective", "equality", "minimum", "episodes"):
            shapes[name] = (slots, runs)
        whole = (slots, runs, agents)
        return cls(**{f.name: np.zeros(shapes.get(f.name, whole)) for f in fields(cls)})

    def add(self, games: Games, slot: np.ndarray) -> None:
        """Count games; `slot` int `[K]` says where, ascending. Each batch meets few slots."""
        first, last = int(slot[0]), int(slot[-1])
        runs, agents = self.payoff.shape[1:]
        here = slice(first, last + 1)
        cell = (slot - first) * runs + games["run"]
        cells = (last - first + 1) * runs

        def put(name: str, keys: np.ndarray, columns: int, weights: np.ndarray | None) -> None:
            target = getattr(self, name)
            found = np.bincount(keys, weights, minlength=cells * columns)
            target[here] += found.reshape(target[here].shape)

        for side in ("selector", "selected"):
            keys = cell * agents + games[side]
            intended = games[f"{side}_intended"]
            put("selecting" if side == "selector" else "chosen", keys, agents, None)
            put("legal", keys[intended >= 0], agents, None)
            put("cooperated", keys[intended == 0], agents, None)
            put("payoff", keys, agents, games[f"{side}_payoff"])
            put("reward", keys, agents, games[f"{side}_reward"])
            if side == "selector":
                legal = games["selection_legal"]
                offered = legal & (games["available"] > 0)
                took = offered & (games["selected_shown"] == 0)
                put("choices", keys[legal], agents, None)
                put("offered", keys[offered], agents, None)
                put("took", keys[took], agents, None)
                put("chance", keys[offered], agents, games["available"][offered] / (agents - 1))
        put("joint", cell * (NO_MOVE + 1) + joint_moves(games), NO_MOVE + 1, None)
        own, other = (games[f"{side}_payoff"].astype(float) for side in ("selector", "selected"))
        put("collective", cell, 1, own + other)
        put("equality", cell, 1, equality(own, other))
        put("minimum", cell, 1, np.minimum(own, other))
        put("episodes", cell[games["position"] == 0], 1, None)


@dataclass(frozen=True)
class Pairs:
    """Who met whom in each window, and how: by window, run and two agents or types."""

    selections: np.ndarray | None
    """`[W, R, N, N]`: legal selections of the column by the row; None for many agents."""
    type_selections: np.ndarray
    """`[W, R, T, T]`: the same by type."""
    games: np.ndarray
    """`[W, R, T, T]`: games of the row's type with the column's, from the row's side; a game of
    two agents of one type counts twice there."""
    legal: np.ndarray
    """`[W, R, T, T]`: legal answers of the row."""
    cooperated: np.ndarray
    """`[W, R, T, T]`: its answers C."""
    payoff: np.ndarray
    """`[W, R, T, T]`: its payoffs."""

    @classmethod
    def zeros(cls, windows: int, runs: int, agents: int, types: int) -> "Pairs":
        """Nothing counted."""
        shape = (windows, runs, types, types)
        whole = (windows, runs, agents, agents)
        return cls(
            np.zeros(whole) if agents <= AGENT_MATRICES else None,
            *(np.zeros(shape) for _ in range(5)),
        )

    def add(self, games: Games, window: int, type_of: np.ndarray) -> None:
        """Count games of one window."""
        types = self.games.shape[2]
        run, agents = games["run"], len(type_of)
        chosen = games["selection_legal"]

        def put(target: np.ndarray, keys: np.ndarray, weights: np.ndarray | None = None) -> None:
            found = np.bincount(keys, weights, minlength=target[window].size)
            target[window] += found.reshape(target[window].shape)

        if self.selections is not None:
            keys = (run * agents + games["selector"]) * agents + games["selected"]
            put(self.selections, keys[chosen])
        kinds = {side: type_of[games[side]] for side in ("selector", "selected")}
        for side, partner in (("selector", "selected"), ("selected", "selector")):
            keys = (run * types + kinds[side]) * types + kinds[partner]
            intended = games[f"{side}_intended"]
            if side == "selector":
                put(self.type_selections, keys[chosen])
            put(self.games, keys)
            put(self.legal, keys[intended >= 0])
            put(self.cooperated, keys[intended == 0])
            put(self.payoff, keys, games[f"{side}_payoff"])


@dataclass(frozen=True)
class Counts:
    """Everything that is counted of one condition."""

    bins: Tally
    windows: Tally
    pairs: Pairs
    first: np.ndarray
    """`[R, 5]`: joint moves of the first recorded episode."""
    last: np.ndarray
    """`[R, 5]`: of the last one."""


def count(
    condition: Condition, type_of: np.ndarray, windows: Sequence[Window], episodes: int
) -> Counts:
    """One pass over the games of a condition.

    `type_of` int `[N]`; `episodes`: of the population, which sets the bins (a control may have
    recorded fewer).
    """
    runs, agents, types = len(condition.runs), len(type_of), int(type_of.max()) + 1
    width = bin_width(episodes)
    bins = Tally.zeros(-(-episodes // width), runs, agents)
    whole = Tally.zeros(len(windows), runs, agents)
    pairs = Pairs.zeros(len(windows), runs, agents, types)
    ends = np.zeros((2, runs, NO_MOVE + 1))
    begin: int | None = None
    for games in condition.batches():
        episode = games["episode"]
        if not len(episode):
            continue
        if (np.diff(episode) < 0).any():
            raise ValueError(f"the games of {condition.name} are not sorted by episode")
        begin = int(episode[0]) if begin is None else begin
        bins.add(games, episode // width)
        for at, window in enumerate(windows):
            low, high = np.searchsorted(episode, (window.start, window.stop))
            if low < high:
                part = {name: column[low:high] for name, column in games.items()}
                whole.add(part, np.full(high - low, at))
                pairs.add(part, at, type_of)
        for end, number in enumerate((begin, condition.episodes - 1)):
            low, high = np.searchsorted(episode, (number, number + 1))
            keys = games["run"][low:high] * (NO_MOVE + 1) + joint_moves(games)[low:high]
            found = np.bincount(keys, minlength=ends[end].size)
            ends[end] += found.reshape(ends[end].shape)
    return Counts(bins, whole, pairs, ends[0], ends[1])


def joint_moves(games: Games) -> np.ndarray:
    """int `[K]`: place of the played joint move in `JOINT`; `NO_MOVE` where one is missing."""
    own, other = games["selector_move"], games["selected_move"]
    return np.where((own < 0) | (other < 0), NO_MOVE, 2 * own.astype(np.int64) + other)


def equality(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 - |own - other| / (|own| + |other|): 1 for two zeros, because they are equal."""
    size = np.abs(own) + np.abs(other)
    return 1.0 - np.divide(np.abs(own - other), size, out=np.zeros_like(size), where=size > 0)
