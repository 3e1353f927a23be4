"""Statistics of exact answer probabilities over a grid of questions, with intervals.

Probabilities are exact, so that nothing is uncertain about one policy but which questions were
asked. An interval speaks of other training seeds; questions and label sets were picked by hand,
and what they do is a range. Questions that are the same count once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from comity.evaluation.generalization.plan import Json, Plan
from comity.evaluation.generalization.questions import AS_TRAINED, OFF_TASK, START, Cell
from comity.evaluation.metrics import OUTCOMES
from comity.evaluation.moral.policy_tables import as_table, divergence, entropy, payoff_sensitivity
from comity.evaluation.statistics import mean_over_seeds

EXACT = "exact: one policy, every question of the grid was asked"
UNIT = (0.0, 1.0)
"""Bounds of a probability."""

Bounds = tuple[float, float]
Value = tuple[Any, Any, float]
"""A training seed, what identifies the question, and a value."""


def estimate(values: Iterable[Value], bounds: Bounds | None = UNIT, over: str = "") -> Json | None:
    """Mean over seeds of the mean over distinct questions, with the interval over seeds.

    Also the range: `min` and `max` of a seed's value over the questions, each averaged over
    seeds; `n` counts distinct questions. With one seed there is no interval, since nothing was
    drawn; `over` names what was (episodes), and then the interval is over that.
    """
    groups: dict[Any, dict[Any, float]] = {}
    for seed, key, value in values:
        groups.setdefault(seed, {})[key] = value
    seeds = [np.array(list(group.values())) for group in groups.values()]
    if not seeds or not all(np.isfinite(group).all() for group in seeds):
        return None  # a divergence from a base that never does what the policy does
    if bounds is not None:
        seeds = [np.clip(group, *bounds) for group in seeds]  # rounding
    exact = EXACT if len(seeds) == 1 and not over else ""
    # Questions are no sample: between seeds only the seeds' means differ by chance.
    means = seeds if over or exact else [group.mean(keepdims=True) for group in seeds]
    found = mean_over_seeds(means, bounds, over=over or "questions", exact=exact)
    if found is None:
        return None
    return {
        **found.as_dict(),
        "n": len({key for group in groups.values() for key in group}),
        "seeds": len(seeds),
        "min": float(np.mean([group.min() for group in seeds])),
        "max": float(np.mean([group.max() for group in seeds])),
    }


@dataclass(frozen=True)
class PolicyTable:
    """One policy's P(C | state) under one prompt variant."""

    policy: str
    seed: int | None
    cell: Cell
    """Of the state CC."""
    key: str
    """The same for policy_tables whose four questions are the same."""
    table: np.ndarray
    """P(C | state, legal), `[2, 2]`."""
    p_legal: np.ndarray
    p_legal_then_end: np.ndarray
    states: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """By state, `start` among them where it was asked: the question's key and P(C)."""


def policy_tables(rows: Sequence[Json]) -> list[PolicyTable]:
    """The exact table by policy and prompt variant."""
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
            for column in ("p_cooperate_given_legal", "p_legal", "p_legal_then_end")
        ]
        cell = Cell(**{name: first[name] for name in names})
        same = " ".join(states[state]["question"] for state in OUTCOMES)
        asked = {s: (row["question"], row["p_cooperate_given_legal"]) for s, row in states.items()}
        found.append(
            PolicyTable(
                policy=first["policy"],
                seed=first["training_seed"],
                cell=cell,
                key=same,
                table=tables[0],
                p_legal=tables[1],
                p_legal_then_end=tables[2],
                states=asked,
            )
        )
    return found


def state_values(tables: Iterable[PolicyTable], state: str) -> list[Value]:
    """P(C | state) of every prompt variant that asked for it."""
    return [(t.seed, *t.states[state]) for t in tables if state in t.states]


def heat_map(tables: Sequence[PolicyTable], plan: Plan) -> Json:
    """P(C | state) by game, labels and layout; over the orders and seeds."""
    return {
        game: {
            labels: {
                layout: {
                    state: estimate(
                        state_values(
                            (
                                t
                                for t in tables
                                if (t.cell.game, t.cell.labels, t.cell.layout)
                                == (game, labels, layout)
                            ),
                            state,
                        )
                    )
                    for state in OUTCOMES
                }
                for layout in plan.layouts
            }
            for labels in plan.label_sets
        }
        for game in plan.games
    }


def as_trained(tables: Sequence[PolicyTable], plan: Plan) -> Json:
    """P(C | state) by game in the prompt of the training; empty where it was not asked in."""
    mine = [t for t in tables if t.cell.framing == AS_TRAINED]
    return {
        game: {
            state: estimate(state_values((t for t in mine if t.cell.game == game), state))
            for state in (START, *OUTCOMES)
        }
        | {
            "p_legal": estimate(
                (t.seed, t.key, float(t.p_legal.mean())) for t in mine if t.cell.game == game
            )
        }
        for game in plan.every_game
        if any(t.cell.game == game for t in mine)
    }


def of_tables(
    tables: Sequence[PolicyTable],
    game: str,
    function: Callable[[np.ndarray], dict[str, float]],
    bounds: Bounds,
) -> Json:
    """Estimates of what a function reads from every table of a game."""
    found = [(t.seed, t.key, function(t.table)) for t in tables if t.cell.game == game]
    return {
        key: estimate(((seed, which, values[key]) for seed, which, values in found), bounds)
        for key in (found[0][2] if found else {})
    }


def sensitivity(tables: Sequence[PolicyTable]) -> Json:
    """Range of P(C | state) over the games, by prompt variant."""
    ways: dict[tuple[Any, ...], list[PolicyTable]] = {}
    for t in tables:
        ways.setdefault((t.seed, *t.cell.prompt_variant[1:]), []).append(t)
    found = [
        (where[0], " ".join(t.key for t in here), payoff_sensitivity([t.table for t in here]))
        for where, here in ways.items()
    ]
    return {
        state: estimate((seed, key, one[state]) for seed, key, one in found) for state in OUTCOMES
    }


def change_from_base(
    tables: Sequence[PolicyTable], base: Sequence[PolicyTable], plan: Plan
) -> Json:
    """KL to the base's answers to the same questions, and entropy, in nats, by game.

    Over the scored answers. The base answers from the policy's own seat.
    """
    answers = {t.cell.prompt_variant: t.table for t in base}
    return {
        game: {
            "kl": estimate(
                (
                    (
                        t.seed,
                        t.key,
                        float(divergence(t.table, answers[t.cell.prompt_variant]).mean()),
                    )
                    for t in tables
                    if t.cell.game == game
                ),
                (0.0, np.inf),
            ),
            "entropy": estimate(
                (
                    (t.seed, t.key, float(entropy(t.table).mean()))
                    for t in tables
                    if t.cell.game == game
                ),
                (0.0, float(np.log(2.0))),
            ),
        }
        for game in plan.games
    }


EXCHANGED = ("action12", "action21")
"""Two label sets of the same labels that mean the opposite."""


def label_exchange(tables: Sequence[PolicyTable], plan: Plan) -> Json | None:
    """How much P(C) in the dilemma moves when the labels exchange their meanings; None: not asked.

    `before` and `after`, and their `difference`, each over the states and the orders; -1 to 1.
    """
    if not set(EXCHANGED) <= set(plan.label_sets):
        return None
    pairs: dict[tuple[Any, ...], dict[str, PolicyTable]] = {}
    for t in tables:
        if (t.cell.game, t.cell.layout) == (plan.dilemma, plan.layouts[0]):
            where = (t.seed, *t.cell.prompt_variant[:2], *t.cell.prompt_variant[3:])
            pairs.setdefault(where, {})[t.cell.labels] = t
    both = [[pair[labels] for labels in EXCHANGED] for pair in pairs.values()]
    means = [
        (one.seed, f"{one.key} {other.key}", float(one.table.mean()), float(other.table.mean()))
        for one, other in both
    ]
    return {
        "before": estimate((seed, key, before) for seed, key, before, _ in means),
        "after": estimate((seed, key, after) for seed, key, _, after in means),
        "difference": estimate(
            ((seed, key, before - after) for seed, key, before, after in means), (-1.0, 1.0)
        ),
    }


def framings_compared(tables: Sequence[PolicyTable], plan: Plan) -> Json:
    """P(C | state) of the dilemma in every framing, original layout."""
    here = [
        t
        for t in tables
        if (t.cell.game, t.cell.layout) == (plan.dilemma, plan.layouts[0])
        and t.cell.framing not in (*OFF_TASK, AS_TRAINED)
    ]
    found: Json = {}
    for framing in dict.fromkeys(t.cell.framing for t in here):
        mine_ = [t for t in here if t.cell.framing == framing]
        found[framing] = {
            **{state: estimate(state_values(mine_, state)) for state in OUTCOMES},
            "p_legal": estimate((t.seed, t.key, float(t.p_legal.mean())) for t in mine_),
        }
    return found
