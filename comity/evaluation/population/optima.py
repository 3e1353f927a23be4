"""What the learners of a fixed pair could reach for their own reward: exact values.

All values are long-run averages of a learner's own reward per episode. A pair's state is the joint
move of its last episode: a reward depends on it and on the moves that follow, and so do policies.

- *Optimum*: the largest average over all behaviour of both players. From every state both together
  can go to every other, so it is the largest mean reward of a cycle of joint moves (Karp 1978,
  Discrete Mathematics 23, 309-311), whatever the start. Cycles of four states are enumerated.
- *Best response*: the largest average over all policies of the learner, against the policy that the
  partner has in the end. A deterministic policy of the state is among the best (Puterman 1994,
  Markov Decision Processes, theorem 9.1.8), so all sixteen are evaluated.
- *Learned*: the average of the two policies that both have in the end, so without the noise and the
  drift of the last window. Never above the best response, and that never above the optimum.
"""

from dataclasses import dataclass
from itertools import pairwise, permutations, product
from typing import Any

import numpy as np

from comity.evaluation.population.counts import JOINT, NO_MOVE
from comity.evaluation.population.folder import PopulationFolder
from comity.evaluation.population.intervals import means_over_runs
from comity.evaluation.population.metrics import Definition
from comity.evaluation.population.values import read_columns

Json = dict[str, Any]

STATES = len(JOINT)
DOUBLINGS = 60
"""Doublings of the number of steps after which an average is taken to be that of all."""
EXACT = "exact: enumerated, it depends on the reward and the game alone"


@dataclass(frozen=True)
class Reachable(Definition):
    """One of the values, or a difference of two."""

    source: str = "this project"


OPTIMA = {
    "learned": Reachable(
        "Learned",
        "Average reward per episode in the long run if both players keep the policies that they "
        "have at the end of training, exploration included.",
        "lim 1/T sum_t E[reward_i,t]", "reward per game"),
    "best_response": Reachable(
        "Best response",
        "The largest such average of any policy of the player while its partner keeps the policy "
        "that it has learned.",
        "max over own policies", "reward per game"),
    "optimum": Reachable(
        "Optimum",
        "The largest such average of any behaviour of both players: what the pair can do for this "
        "player's reward.",
        "max over both policies", "reward per game"),
    "below_best_response": Reachable(
        "Below best response", "Best response minus learned.", "best response - learned",
        "reward per game"),
    "below_optimum": Reachable(
        "Below optimum", "Optimum minus learned.", "optimum - learned", "reward per game"),
}  # fmt: skip
"""What is computed, by name, in the order in which it is shown."""


def optimum(rewards: np.ndarray) -> float:
    """The largest mean reward of a cycle; `rewards` `[4, 4]`: from joint moves to the next."""
    cycles = (c for length in range(1, STATES + 1) for c in permutations(range(STATES), length))
    return max(
        float(np.mean([rewards[a, b] for a, b in pairwise((*cycle, cycle[0]))])) for cycle in cycles
    )


def averages(
    rewards: np.ndarray, own: np.ndarray, other: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Long-run average rewards `[...]`.

    `rewards` `[4, 4]`; `own` and `other` `[..., 4]`: P(C) of both players by joint move, the own
    one first; `start` int `[...]`: the joint move that the average starts from.
    """
    own, other = np.broadcast_arrays(own, other)
    joint = np.stack(
        [own * other, own * (1 - other), (1 - own) * other, (1 - own) * (1 - other)], axis=-1
    )
    each = (joint * rewards).sum(axis=-1)
    # A chain that stays where it is half of the time has the same averages and no period.
    many = (joint + np.eye(STATES)) / 2
    for _ in range(DOUBLINGS):
        many = many @ many
        many /= many.sum(axis=-1, keepdims=True)
    found = (many @ each[..., None])[..., 0]
    shape = np.broadcast_shapes(found.shape[:-1], start.shape)
    found, start = np.broadcast_to(found, (*shape, STATES)), np.broadcast_to(start, shape)
    return np.asarray(np.take_along_axis(found, start[..., None], axis=-1)[..., 0])


def best_response(rewards: np.ndarray, other: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The largest average `[R]` against policies `other` `[R, 4]` from `start` `[R]`."""
    policies = np.array(list(product((0.0, 1.0), repeat=STATES)))[:, None]
    return np.asarray(averages(rewards, policies, other, start).max(axis=0))


def optima(population: PopulationFolder, last: np.ndarray) -> Json:
    """The values of a fixed pair: `episode` of the policies, and estimates by agent and by type.

    `last` `[R, 5]`: joint moves of the last recorded episode, from which averages start. {} where
    the population is no fixed pair or nobody in it learns. What needs a policy that is not known as
    a table (of language models, kinds of the user's own) is missing.
    """
    if not (population.is_pair and population.conditions[0].name == "fixed"):
        return {}
    tables = {a.index: a.rewards for a in population.agents if a.rewards is not None}
    if not tables:
        return {}
    episode, policies = _policies(population)
    runs = len(population.conditions[0].runs)
    start = np.where(last[:, NO_MOVE] > 0, -1, last.argmax(axis=1))
    values: dict[int, dict[str, np.ndarray]] = {}
    for index, rewards in tables.items():
        own, other = policies.get(index), policies.get(1 - index)
        values[index] = found = {"optimum": np.full(runs, optimum(rewards))}
        if other is None:
            continue
        # States with the own move first: the second player's are turned around, as its partner's.
        from_here = start if index == 0 else _turned(start)
        seen = other.transpose(0, 2, 1).reshape(runs, STATES)
        known = (start >= 0) & np.isfinite(seen).all(axis=1)
        place = np.maximum(from_here, 0)
        best = np.where(known, best_response(rewards, seen, place), np.nan)
        found["best_response"] = best
        if own is not None:
            mine = own.reshape(runs, STATES)
            known &= np.isfinite(mine).all(axis=1)
            found["learned"] = np.where(known, averages(rewards, mine, seen, place), np.nan)
            found["below_best_response"] = np.maximum(best - found["learned"], 0.0)
            found["below_optimum"] = np.maximum(found["optimum"] - found["learned"], 0.0)
    of_type: dict[str, list[int]] = {}
    for index in tables:
        of_type.setdefault(population.agents[index].type, []).append(index)
    return {
        "episode": episode,
        "agents": {str(index): _estimates(tables, values, [index]) for index in tables},
        "types": {name: _estimates(tables, values, each) for name, each in of_type.items()},
    }


def _estimates(
    tables: dict[int, np.ndarray], values: dict[int, dict[str, np.ndarray]], which: list[int]
) -> Json:
    """Means over the agents `which`, run by run, as estimates by name."""
    every = np.concatenate([tables[index].ravel() for index in which])
    low, high = float(every.min()), float(every.max())
    found: Json = {}
    for name in OPTIMA:
        if not all(name in values[index] for index in which):
            continue
        each = np.mean([values[index][name] for index in which], axis=0)
        ends = (0.0, high - low) if name.startswith("below") else (low, high)
        means = means_over_runs(each, ends if low < high else None)
        found[name] = means.estimate((), int(means.runs))
        if name == "optimum":
            found[name] |= {"low": None, "high": None, "reason": EXACT}
    return found


def _turned(joint: np.ndarray) -> np.ndarray:
    """Joint moves with the other player's first; -1 stays."""
    return np.where(joint < 0, joint, np.array([0, 2, 1, 3])[joint])


def _policies(population: PopulationFolder) -> tuple[int | None, dict[int, np.ndarray]]:
    """The last recorded episode, and by agent P(C) by own and partner's latest move, `[R, 2, 2]`;
    NaN where a run has none."""
    columns = ("condition", "run", "episode", "agent", "own", "other", "cooperation")
    rows = read_columns(sorted((population.path / "policies").glob("*.parquet")), columns)
    if rows is None:
        return None, {}
    episode = int(rows["episode"].max())
    here = (rows["episode"] == episode) & (rows["condition"] == "fixed")
    runs = population.conditions[0].runs
    found: dict[int, np.ndarray] = {}
    for agent in np.unique(rows["agent"][here]).tolist():
        its = here & (rows["agent"] == agent) & np.isin(rows["run"], runs)
        found[agent] = np.full((len(runs), 2, 2), np.nan)
        place = np.searchsorted(runs, rows["run"][its])
        found[agent][place, rows["own"][its], rows["other"][its]] = rows["cooperation"][its]
    return episode, found
