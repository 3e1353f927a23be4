"""What the exact answers to a grid of questions say, telling by telling, with intervals."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from comity.evaluation.executed import course, follow, pure
from comity.evaluation.generalization import BASE, RESAMPLES, Json, Plan
from comity.evaluation.metrics import OUTCOMES
from comity.evaluation.moral import (
    Stake,
    regrets,
)
from comity.evaluation.policy_tables import (
    NULL_POLICIES,
    as_table,
    divergence,
    entropy,
    expected,
    payoff_sensitivity,
)
from comity.evaluation.questions import (
    OFF_TASK,
    Cell,
)
from comity.evaluation.statistics import bootstrap_mean
from comity.rewards.base import Reward


def estimate(values: Iterable[tuple[Any, float]]) -> Json | None:
    """Mean and interval of `(training seed, value)` pairs: over seeds, then over values."""
    groups: dict[Any, list[float]] = {}
    for seed, value in values:
        groups.setdefault(seed, []).append(value)
    if not all(np.isfinite(group).all() for group in groups.values()):
        return None  # a divergence from a base that never does what the policy does
    found = bootstrap_mean([np.array(group) for group in groups.values()], resamples=RESAMPLES)
    return None if found is None else found.as_dict()


@dataclass(frozen=True)
class Telling:
    """One policy's table under one way of telling: four rows of the exact table."""

    policy: str
    seed: int | None
    cell: Cell
    """Of the state CC."""
    table: np.ndarray
    """P(C | state, legal), `[2, 2]`."""
    legality: np.ndarray
    legality_ended: np.ndarray


def tellings(rows: Sequence[Json]) -> list[Telling]:
    """The exact table by policy and way of telling."""
    names = list(Cell.__dataclass_fields__)
    grouped: dict[tuple[Any, ...], dict[str, Json]] = {}
    for row in rows:
        key = (row["policy"], row["training_seed"], *(row[n] for n in names if n != "state"))
        grouped.setdefault(key, {})[row["state"]] = row
    found = []
    for states in grouped.values():
        first = states["CC"]
        tables = [
            as_table({state: states[state][column] for state in OUTCOMES})
            for column in ("cooperation", "legality", "legality_ended")
        ]
        cell = Cell(**{name: first[name] for name in names})
        found.append(Telling(first["policy"], first["training_seed"], cell, *tables))
    return found


def heat_map(tellings_: Sequence[Telling], plan: Plan) -> Json:
    """P(C | state) by game, labels and layout; over the orders and seeds."""
    return {
        game: {
            labels: {
                layout: {
                    state: estimate(
                        (t.seed, float(t.table["CD".index(state[0]), "CD".index(state[1])]))
                        for t in tellings_
                        if (t.cell.game, t.cell.labels, t.cell.layout) == (game, labels, layout)
                    )
                    for state in OUTCOMES
                }
                for layout in plan.layouts
            }
            for labels in plan.label_sets
        }
        for game in plan.games
    }


def kinds(reward: str) -> tuple[str, ...]:
    """The regrets that mean something for a reward."""
    special = {"utilitarian": ("global",), "deontological": ("deontological",)}
    return (*special.get(reward, ()), "legal", "counterfactual")


def headline(reward: str) -> str:
    """The regret that is shown first: the published one where there is one."""
    return kinds(reward)[0]


Stakes = Mapping[tuple[str, str, str], Stake]
"""By policy (whose seat it is), reward and game."""


def regret(tellings_: Sequence[Telling], name: str, key: str, stakes: Stakes, plan: Plan) -> Json:
    """Expected regrets by game: of legal answers alone (`legal`), and with the illegal (`all`)."""
    found: Json = {}
    for game in plan.games:
        here = [t for t in tellings_ if t.cell.game == game]
        laws = {
            "legal": [(t.seed, expected(t.table, stakes[name, key, game])) for t in here],
            "all": [(t.seed, expected(t.table, stakes[name, key, game], t.legality)) for t in here],
        }
        found[game] = {
            law: {
                kind: estimate((seed, values[kind]) for seed, values in rows)
                for kind in ("reward", *kinds(key))
            }
            for law, rows in laws.items()
        }
    return found


def null_regret(table: np.ndarray, name: str, key: str, stakes: Stakes, plan: Plan) -> Json:
    """A null policy's expected regrets, and those at the draws that the models played."""
    found = {}
    for game in plan.games:
        here = stakes[name, key, game]
        drawn = [
            follow(course(seed, plan.episodes, plan.rounds), pure(table))
            for seed in plan.play_seeds
        ]
        found[game] = {
            "expected": {k: expected(table, here)[k] for k in ("reward", *kinds(key))},
            "drawn": {
                k: float(np.mean([regrets(one, here)[k].mean() for one in drawn]))
                for k in kinds(key)
            },
        }
    return found


def payoff_reading(
    by_policy: Mapping[str, Sequence[Telling]],
    rewards: Mapping[str, Reward],
    stakes: Stakes,
    plan: Plan,
) -> Json:
    """Does a policy beat every null policy in the mean over the games?

    Against an opponent who plays at random, the regret of a policy that ignores payoffs is a
    mixture of the null rows' in every game, and so is its mean over games. Only a policy that
    answers differently in different games can be below all of them. `beats` is true where
    the whole interval is.
    """
    found: Json = {}
    for key, name in product(rewards, by_policy):
        kind = headline(key)
        ways: dict[tuple[Any, ...], list[float]] = {}
        for t in by_policy[name]:
            where = (t.seed, *t.cell.telling[1:])
            value = expected(t.table, stakes[name, key, t.cell.game])[kind]
            ways.setdefault(where, []).append(value)
        mean = estimate((where[0], float(np.mean(values))) for where, values in ways.items())
        nulls = {
            null: float(
                np.mean([expected(table, stakes[name, key, game])[kind] for game in plan.games])
            )
            for null, table in NULL_POLICIES.items()
        }
        best = min(nulls.values())
        found.setdefault(key, {})[name] = {
            "kind": kind,
            "mean": mean,
            "nulls": nulls,
            "beats": len(plan.games) > 1 and mean is not None and mean["high"] < best - 1e-9,
        }
    return found


def of_tables(
    tellings_: Sequence[Telling], game: str, function: Callable[[np.ndarray], dict[str, float]]
) -> Json:
    """Estimates of what a function reads from every table of a game."""
    found = [(t.seed, function(t.table)) for t in tellings_ if t.cell.game == game]
    return {
        key: estimate((seed, values[key]) for seed, values in found)
        for key in (found[0][1] if found else {})
    }


def sensitivity(tellings_: Sequence[Telling]) -> Json:
    """Range of P(C | state) over the games, told alike."""
    ways: dict[tuple[Any, ...], list[np.ndarray]] = {}
    for t in tellings_:
        ways.setdefault((t.seed, *t.cell.telling[1:]), []).append(t.table)
    found = [(where[0], payoff_sensitivity(tables)) for where, tables in ways.items()]
    return {state: estimate((seed, one[state]) for seed, one in found) for state in OUTCOMES}


def change_from_base(by_policy: Mapping[str, Sequence[Telling]], plan: Plan) -> Json:
    """KL to the base and entropy over the scored answers, in nats, by policy and game."""
    base = {t.cell.telling: t.table for t in by_policy[BASE]}
    return {
        name: {
            game: {
                "kl": estimate(
                    (t.seed, float(divergence(t.table, base[t.cell.telling]).mean()))
                    for t in mine
                    if t.cell.game == game
                ),
                "entropy": estimate(
                    (t.seed, float(entropy(t.table).mean())) for t in mine if t.cell.game == game
                ),
            }
            for game in plan.games
        }
        for name, mine in by_policy.items()
    }


def framings_compared(told: Sequence[Telling], names: Sequence[str], plan: Plan) -> Json:
    """P(C | state) of the dilemma in every framing, original layout."""
    found: Json = {}
    for name in names:
        mine = [
            t
            for t in told
            if (t.policy, t.cell.game, t.cell.layout, t.cell.persona)
            == (name, plan.dilemma, plan.layouts[0], None)
        ]
        for framing in dict.fromkeys(t.cell.framing for t in mine):
            if framing in OFF_TASK:
                continue
            here = [t for t in mine if t.cell.framing == framing]
            found.setdefault(name, {})[framing] = {
                **{
                    state: estimate(
                        (t.seed, float(t.table["CD".index(state[0]), "CD".index(state[1])]))
                        for t in here
                    )
                    for state in OUTCOMES
                },
                "legality": estimate((t.seed, float(t.legality.mean())) for t in here),
            }
    return found
