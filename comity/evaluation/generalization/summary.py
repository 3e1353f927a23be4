"""Everything that the page on generalization states, as one JSON-ready mapping."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from comity.evaluation.generalization.conduct import elsewhere, published_protocol
from comity.evaluation.generalization.exact_answers import (
    UNIT,
    Telling,
    as_trained,
    change_from_base,
    estimate,
    framings_compared,
    heat_map,
    label_exchange,
    of_tables,
    sensitivity,
    tellings,
)
from comity.evaluation.generalization.grid import BASE, Json, Measured, Plan, Subject, everyone
from comity.evaluation.generalization.questions import OFF_TASK
from comity.evaluation.generalization.regret import (
    Judge,
    Rewards,
    judges,
    null_regret,
    payoff_reading,
    regret,
)
from comity.evaluation.moral.metrics import payoff_table
from comity.evaluation.moral.policy_tables import NULL_POLICIES, distances, expected, reciprocity


def summarize(
    plan: Plan,
    subjects: Sequence[Subject],
    measured: Measured,
    rewards: Rewards,
    own: Mapping[str, Rewards] | None = None,
) -> Json:
    """All numbers of `generalization.json` but the description of the run.

    `rewards`: what every policy is judged by; `own`: by policy, the same rewards with the
    parameters that it was trained with, where those are not the same for all.
    """
    subjects = everyone(subjects)
    told = tellings(measured.rows)
    names = list(dict.fromkeys(subject.name for subject in subjects))
    base_of = {subject.name: subject.base for subject in subjects}
    personas = {subject.name: subject.asked.persona for subject in subjects}
    judged = judges(plan, subjects, rewards, own or {})
    by_policy = {
        name: [
            t
            for t in told
            if t.policy == name
            and t.cell.framing == "structured"
            and t.cell.persona == personas[name]
        ]
        for name in names
    }

    def of(name: str, judge: Judge) -> list[Telling]:
        # A base model was asked on the seats of all who are compared with it.
        return [t for t in by_policy[name] if base_of[name] != name or t.cell.seat == judge.seat]

    def per_judge(function: Any) -> Json:
        return {
            label: {name: function(of(name, judge), judge, plan) for name in judge.policies}
            for label, judge in judged.items()
        }

    def per_game(function: Any, bounds: tuple[float, float]) -> Json:
        return {
            name: {game: of_tables(by_policy[name], game, function, bounds) for game in plan.games}
            for name in names
        }

    return {
        "policies": names,
        "bases": [name for name in names if base_of[name] == name],
        "seeds": {
            name: sorted({s.seed for s in subjects if s.name == name and s.seed is not None})
            for name in names
        },
        "games": {
            game: {"joint": float(payoff_table(plan.games[game]).sum(axis=-1).max())}
            for game in plan.games
        },
        "dilemma": plan.dilemma,
        "label_sets": list(plan.label_sets),
        "layouts": list(plan.layouts),
        "rewards": list(judged),
        "judges": {
            label: {"reward": judge.reward, "policies": list(judge.policies), "seat": judge.seat,
                    "kind": judge.headline}
            for label, judge in judged.items()
        },
        "questions": len(measured.rows),
        "distinct_questions": len({row["question"] for row in measured.rows}),
        "as_trained": {
            name: found
            for name in names
            if (found := as_trained([t for t in told if t.policy == name], plan))
        },
        "table": {name: heat_map(by_policy[name], plan) for name in names},
        "legality": {
            name: {
                game: {
                    key: estimate(
                        (t.seed, t.key, float(getattr(t, key).mean()))
                        for t in by_policy[name]
                        if t.cell.game == game
                    )
                    for key in ("legality", "legality_ended")
                }
                for game in plan.games
            }
            for name in names
        },
        "regret": per_judge(regret),
        "null_regret": {
            label: {
                null: null_regret(table, judge, plan) for null, table in NULL_POLICIES.items()
            }
            for label, judge in judged.items()
        },
        "payoff_reading": per_judge(payoff_reading),
        "reciprocity": per_game(reciprocity, (-1.0, 1.0)),
        "distance": per_game(distances, UNIT),
        "sensitivity": {name: sensitivity(by_policy[name]) for name in names},
        "change": {
            name: change_from_base(by_policy[name], by_policy[base_of[name]], plan)
            for name in names
        },
        "label_exchange": {name: label_exchange(by_policy[name], plan) for name in names},
        "framings": {
            name: framings_compared(
                [t for t in told if t.policy == name and t.cell.persona == personas[name]], plan
            )
            for name in names
        },
        "off_task": _off_task(measured.rows, names),
        "personas": _personas(told, judged, plan),
        "play": published_protocol(measured.played, judged, names, plan),
        **elsewhere(measured.played, judged, names, plan),
    }  # fmt: skip


def _off_task(rows: Sequence[Json], names: Sequence[str]) -> Json:
    """Shares of the C label, the D label and everything else, without the dilemma."""
    columns = {
        "C": lambda row: row["cooperate"],
        "D": lambda row: row["defect"],
        "other": lambda row: max(0.0, 1.0 - row["legality"]),
        "P(C)": lambda row: row["cooperation"],
    }

    def shares(rows: Iterable[Json]) -> Json:
        chosen = list(rows)
        return {
            column: estimate((r["training_seed"], r["question"], value(r)) for r in chosen)
            for column, value in columns.items()
        }

    found: Json = {}
    for name, framing in product(names, OFF_TASK):
        mine = [r for r in rows if r["policy"] == name and r["framing"] == framing]
        if not mine:
            continue
        found.setdefault(name, {})[framing] = shares(mine) | {
            f"P(C|{shown})": estimate(
                (r["training_seed"], r["question"], r["cooperation"])
                for r in mine
                if r["state"][1] == shown
            )
            for shown in "CD"
        } | {"shown": {s: shares(r for r in mine if r["state"][1] == s) for s in "CD"}}  # fmt: skip
    return found


def _personas(told: Sequence[Telling], judged: Mapping[str, Judge], plan: Plan) -> Json:
    """Each base model with a persona: cooperation and headline regrets by game."""
    bases = {name for judge in judged.values() for name in judge.policies[:1]}
    mine = [t for t in told if t.cell.persona is not None and t.policy in bases]
    found: Json = {}
    kinds = dict.fromkeys((t.policy, t.cell.persona, t.cell.goal) for t in mine)
    for policy, persona, goal in kinds:
        title = f"{persona}, {goal} goal" + ("" if policy == BASE else f", {policy}")
        for game in plan.games:
            here = [
                t
                for t in mine
                if (t.policy, t.cell.game, t.cell.persona, t.cell.goal)
                == (policy, game, persona, goal)
            ]
            if here:
                found.setdefault(title, {})[game] = {
                    "cooperation": estimate((t.seed, t.key, float(t.table.mean())) for t in here),
                    **{
                        label: estimate(
                            (
                                (t.seed, t.key, _expected(t, judge))
                                for t in here
                                if t.cell.seat == judge.seat
                            ),
                            judge.bounds(game, judge.headline),
                        )
                        for label, judge in judged.items()
                    },
                }
    return found


def _expected(telling: Telling, judge: Judge) -> float:
    return expected(telling.table, judge.stakes[telling.cell.game])[judge.headline]
