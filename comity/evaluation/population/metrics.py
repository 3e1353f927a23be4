"""What is measured of a population: each metric's definition, and its value in every run.

A metric is a ratio of sums over games, taken in each run before runs are averaged. A *unit* is
what it is measured of: the population, the agents of one type, or one agent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from comity.evaluation.population.counts import JOINT, NO_MOVE, Tally

Ends = tuple[float, float]
Values = Callable[[Tally, np.ndarray], np.ndarray]
DYNAMICS = "Tennant, Hailes and Musolesi 2024, arXiv 2403.04202"
DYADS = "Tennant, Hailes and Musolesi 2023, arXiv 2301.08491"


@dataclass(frozen=True)
class Definition:
    """What a number is."""

    label: str
    definition: str
    formula: str
    unit: str
    """"share" is written as percent."""


@dataclass(frozen=True)
class Metric(Definition):
    """A metric and how it is computed."""

    scope: Literal["any", "population"]
    """"population": of the whole population only."""
    values: Values
    """From counts `[S, R, N]` and a membership matrix `[U, N]` of 0 and 1 to `[R, S, U]`; NaN
    where nothing was counted. Scope "population": `[R, S, 1]`."""
    bounds: Ends | Literal["payoff", "joint payoff"] | None
    """Least and greatest value; "payoff": of the game's table."""
    source: str = DYNAMICS
    needs: Literal["", "selection"] = ""
    """"selection": undefined where agents do not choose."""


def _sum(values: np.ndarray, members: np.ndarray) -> np.ndarray:
    """From `[S, R, N]` to `[R, S, U]`: summed over the members of each unit."""
    return np.asarray(np.swapaxes(values @ members.T, 0, 1))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    found = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    return np.divide(above, below, out=found, where=below > 0)


def _games(t: Tally) -> np.ndarray:
    return np.asarray(t.selecting + t.chosen)


def _of(above: Callable[[Tally], np.ndarray], below: Callable[[Tally], np.ndarray]) -> Values:
    """A ratio of two sums over a unit's agents."""
    return lambda t, members: _ratio(_sum(above(t), members), _sum(below(t), members))


def _each_episode(above: Callable[[Tally], np.ndarray]) -> Values:
    """A sum per agent of the unit and episode."""

    def values(t: Tally, members: np.ndarray) -> np.ndarray:
        below = t.episodes.T[:, :, None] * members.sum(axis=1)
        return _ratio(_sum(above(t), members), below)

    return values


def _population(above: Callable[[Tally], np.ndarray]) -> Values:
    """A sum `[S, R]` per game of the population."""
    return lambda t, members: _ratio(above(t), t.joint.sum(axis=2)).T[:, :, None]


def _joint(place: int) -> Values:
    return _population(lambda t: t.joint[:, :, place])


def _each_episode_of_all(above: Callable[[Tally], np.ndarray]) -> Values:
    """A sum over all agents per episode."""
    return lambda t, members: _ratio(above(t).sum(axis=2), t.episodes).T[:, :, None]


def gini(values: np.ndarray) -> np.ndarray:
    """Gini coefficient over the last axis: mean |x_i - x_j| over twice the mean.

    0 if all are 0, because they are equal; NaN where one is negative.
    """
    n = values.shape[-1]
    order = np.sort(values, axis=-1)
    total = order.sum(axis=-1)
    ranks = np.arange(1, n + 1)
    found = np.divide(
        (order * (2 * ranks - n - 1)).sum(axis=-1),
        n * total,
        out=np.zeros(total.shape),
        where=total > 0,
    )
    return np.where(order[..., 0] < 0, np.nan, found)


def _gini(t: Tally, members: np.ndarray) -> np.ndarray:
    found = np.where(t.episodes > 0, gini(t.payoff), np.nan)
    return np.asarray(found.T[:, :, None])


METRICS: Mapping[str, Metric] = {
    "cooperation": Metric(
        "Cooperation", "Answers C among the legal ones, as intended.",
        "#C_i / #legal_i", "share", "any",
        _of(lambda t: t.cooperated, lambda t: t.legal), (0.0, 1.0)),
    "cooperative_selection": Metric(
        "Cooperative selection",
        "Among the selections for which at least one candidate's latest move was C, those that "
        "chose such a candidate. Illegal selections do not count.",
        "#(chosen latest C, some latest C) / #(some latest C)", "share", "any",
        _of(lambda t: t.took, lambda t: t.offered), (0.0, 1.0), needs="selection"),
    "chance_selection": Metric(
        "Chance level of cooperative selection",
        "What cooperative selection would be if the same selectors had chosen uniformly: the mean "
        "share of cooperators (by latest move) among the candidates, over the same selections.",
        "mean of #(latest C) / (N - 1) where some latest C", "share", "any",
        _of(lambda t: t.chance, lambda t: t.offered), (0.0, 1.0), "this project", "selection"),
    "payoff_per_game": Metric(
        "Payoff per game", "What the game pays the agent, per game on either side.",
        "sum payoff_i / games_i", "points per game", "any",
        _of(lambda t: t.payoff, _games), "payoff"),
    "reward_per_game": Metric(
        "Intrinsic reward per game",
        "What the agent is trained on, per game. Rewards of different types have different "
        "ranges; compare within a type. Fixed agents: the payoff.",
        "sum reward_i / games_i", "reward per game", "any",
        _of(lambda t: t.reward, _games), None),
    "payoff_per_episode": Metric(
        "Payoff per episode",
        "Payoffs of all games of an episode, per agent: agents that are chosen often play more.",
        "sum payoff_i / episodes", "points per episode", "any",
        _each_episode(lambda t: t.payoff), None),
    "reward_per_episode": Metric(
        "Intrinsic reward per episode", "Intrinsic rewards of all games of an episode, per agent.",
        "sum reward_i / episodes", "reward per episode", "any",
        _each_episode(lambda t: t.reward), None),
    "games_per_episode": Metric(
        "Games per episode", "Games of an agent per episode, as selector and as selected.",
        "games_i / episodes", "games", "any", _each_episode(_games), (0.0, np.inf)),
    "chosen_per_episode": Metric(
        "Times chosen per episode",
        "Games per episode in which the agent was the selected one; 1 is the mean.",
        "#(i selected) / episodes", "times", "any",
        _each_episode(lambda t: t.chosen), (0.0, np.inf), needs="selection"),
    "illegal_moves": Metric(
        "Illegal moves", "Answers that were no move, among all.", "1 - #legal_i / games_i",
        "share", "any",
        _of(lambda t: _games(t) - t.legal, _games), (0.0, 1.0), "this project"),
    "illegal_selections": Metric(
        "Illegal selections", "Selections that named no candidate, among all.",
        "1 - #(legal selections)_i / #selections_i", "share", "any",
        _of(lambda t: t.selecting - t.choices, lambda t: t.selecting), (0.0, 1.0),
        "this project", "selection"),
    **{
        f"joint_{name}": Metric(
            f"Joint move {name}",
            f"Games in which {name} was played, the selector's (in a pair, seat 0's) move first. "
            "Games with a missing move are in the denominator only.",
            f"#(played {name}) / games", "share", "population", _joint(place), (0.0, 1.0))
        for place, name in enumerate(JOINT)
    },
    "joint_mixed": Metric(
        "Joint moves CD and DC", "Games in which one side cooperated and the other defected.",
        "#(played CD or DC) / games", "share", "population",
        _population(lambda t: t.joint[:, :, 1] + t.joint[:, :, 2]), (0.0, 1.0)),
    "collective": Metric(
        "Collective payoff", "Sum of both payoffs, per game.", "r1 + r2", "points per game",
        "population", _population(lambda t: t.collective), "joint payoff", DYADS),
    "equality": Metric(
        "Equality", "How equal both payoffs are, mean over games; 1 if both are 0.",
        "1 - |r1 - r2| / (|r1| + |r2|)", "share", "population",
        _population(lambda t: t.equality), (0.0, 1.0), DYADS),
    "minimum": Metric(
        "Minimum", "Payoff of whoever got less, mean over games.", "min(r1, r2)",
        "points per game", "population", _population(lambda t: t.minimum), "payoff", DYADS),
    "gini": Metric(
        "Gini coefficient over agents",
        "Inequality of the agents' payoffs summed over the episodes of the bin or window: 0 is "
        "equal, 1 - 1/N if one agent has everything. Undefined where a sum is negative.",
        "sum_ij |x_i - x_j| / (2 N sum_i x_i)", "coefficient", "population", _gini, (0.0, 1.0)),
    "cooperators_available": Metric(
        "Selections with a cooperator available",
        "Selections per episode for which at least one candidate's latest move was C.",
        "#(some latest C) / episodes", "selections per episode", "population",
        _each_episode_of_all(lambda t: t.offered), (0.0, np.inf), needs="selection"),
    "cooperators_chosen": Metric(
        "Cooperators chosen", "Selections per episode of a candidate whose latest move was C.",
        "#(chosen latest C) / episodes", "selections per episode", "population",
        _each_episode_of_all(lambda t: t.took), (0.0, np.inf), needs="selection"),
}  # fmt: skip
"""All metrics by name, in the order of the documentation."""

CUMULATIVE = {
    "cumulative_payoff": ("payoff_per_episode", "Cumulative payoff", "points"),
    "cumulative_reward": ("reward_per_episode", "Cumulative intrinsic reward", "reward"),
}
"""Running sums over episodes of a metric per episode, per agent."""
CUMULATIVE_SOCIAL = {
    "cumulative_collective": ("collective", "Cumulative collective payoff", "points"),
    "cumulative_equality": ("equality", "Cumulative equality", "games"),
    "cumulative_minimum": ("minimum", "Cumulative minimum", "points"),
}
"""Running sums of a metric per game, over all games of the population."""


def measure(name: str, tally: Tally, members: np.ndarray) -> np.ndarray:
    """A metric's values `[R, S, U]` in every run, slot and unit; `members` `[U, N]`."""
    return METRICS[name].values(tally, members)


def cumulative(name: str, tally: Tally, members: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Running sums `[R, S, U]` up to the end of every bin.

    `lengths` `[S]`: episodes of the bins. Where not every episode was recorded, those of a bin
    stand for all of it; after a bin without any the sum is unknown (NaN).
    """
    if name in CUMULATIVE:
        each = measure(CUMULATIVE[name][0], tally, members)
    else:
        sums = getattr(tally, CUMULATIVE_SOCIAL[name][0])
        each = _ratio(sums, tally.episodes).T[:, :, None]
    return np.asarray(np.cumsum(each * lengths[None, :, None], axis=1))


def denominators(name: str, tally: Tally, members: np.ndarray) -> np.ndarray:
    """What a metric was counted over, summed over runs: `[S, U]`."""
    units = len(members)
    if name in ("cooperation",):
        found = _sum(tally.legal, members)
    elif name in ("cooperative_selection", "chance_selection"):
        found = _sum(tally.offered, members)
    elif name == "illegal_selections":
        found = _sum(tally.selecting, members)
    elif METRICS[name].scope == "population" and not name.startswith(("gini", "cooperators")):
        found = tally.joint.sum(axis=2).T[:, :, None]
    elif name.endswith("per_episode") or METRICS[name].scope == "population":
        found = np.repeat(tally.episodes.T[:, :, None], units, axis=2)
    else:
        found = _sum(_games(tally), members)
    return np.asarray(found.sum(axis=0))


def ends(name: str, payoffs: Ends | None) -> Ends | None:
    """Least and greatest value of a metric, given the game's payoffs."""
    bounds = METRICS[name].bounds
    if bounds == "payoff":
        return payoffs
    if bounds == "joint payoff":
        return None if payoffs is None else (2 * payoffs[0], 2 * payoffs[1])
    return bounds


__all__ = ["METRICS", "NO_MOVE", "Metric", "cumulative", "ends", "gini", "measure"]
