"""Everything that the page on generalization states, as one JSON-ready mapping."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from comity.evaluation.generalization.conduct import elsewhere, published_protocol
from comity.evaluation.generalization.exact_answers import (
    UNIT,
    PolicyTable,
    as_trained,
    change_from_base,
    estimate,
    framings_compared,
    heat_map,
    label_exchange,
    of_tables,
    policy_tables,
    sensitivity,
)
from comity.evaluation.generalization.measurement import Measurement
from comity.evaluation.generalization.plan import BASE, Json, Plan, Subject, with_base_seats
from comity.evaluation.generalization.questions import OFF_TASK
from comity.evaluation.generalization.regret import (
    Rewards,
    RewardVariant,
    payoff_blind_regret,
    payoff_sensitivity_test,
    regret,
    reward_variants,
)
from comity.evaluation.moral.metrics import payoff_table
from comity.evaluation.moral.policy_tables import (
    PAYOFF_BLIND_POLICIES,
    distances,
    expected,
    reciprocity,
)


def summarize(
    plan: Plan,
    subjects: Sequence[Subject],
    measured: Measurement,
    rewards: Rewards,
    own: Mapping[str, Rewards] | None = None,
) -> Json:
    """All numbers of `generalization.json` but the description of the run.

    `rewards`: the rewards that every policy is evaluated under; `own`: by policy, the same rewards
    with the parameters that it was trained with, where those are not the same for all.
    """
    subjects = with_base_seats(subjects)
    tables = policy_tables(measured.rows)
    names = list(dict.fromkeys(subject.name for subject in subjects))
    base_of = {subject.name: subject.base for subject in subjects}
    personas = {subject.name: subject.conditions.persona for subject in subjects}
    variants = reward_variants(plan, subjects, rewards, own or {})
    by_policy = {
        name: [
            t
            for t in tables
            if t.policy == name
            and t.cell.framing == "structured"
            and t.cell.persona == personas[name]
        ]
        for name in names
    }

    def of(name: str, variant: RewardVariant) -> list[PolicyTable]:
        # A base model was asked on the seats of all who are compared with it.
        return [t for t in by_policy[name] if base_of[name] != name or t.cell.seat == variant.seat]

    def per_variant(function: Any) -> Json:
        return {
            label: {name: function(of(name, variant), variant, plan) for name in variant.policies}
            for label, variant in variants.items()
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
            game: {"max_joint_payoff": float(payoff_table(plan.games[game]).sum(axis=-1).max())}
            for game in plan.games
        },
        "dilemma": plan.dilemma,
        "label_sets": list(plan.label_sets),
        "layouts": list(plan.layouts),
        "rewards": list(variants),
        "reward_variants": {
            label: {"reward": variant.reward, "policies": list(variant.policies),
                    "seat": variant.seat, "kind": variant.headline}
            for label, variant in variants.items()
        },
        "questions": len(measured.rows),
        "distinct_questions": len({row["question"] for row in measured.rows}),
        "as_trained": {
            name: found
            for name in names
            if (found := as_trained([t for t in tables if t.policy == name], plan))
        },
        "policy_tables": {name: heat_map(by_policy[name], plan) for name in names},
        "p_legal": {
            name: {
                game: {
                    key: estimate(
                        (t.seed, t.key, float(getattr(t, key).mean()))
                        for t in by_policy[name]
                        if t.cell.game == game
                    )
                    for key in ("p_legal", "p_legal_then_end")
                }
                for game in plan.games
            }
            for name in names
        },
        "regret": per_variant(regret),
        "payoff_blind_regret": {
            label: {
                name: payoff_blind_regret(table, variant, plan)
                for name, table in PAYOFF_BLIND_POLICIES.items()
            }
            for label, variant in variants.items()
        },
        "payoff_sensitivity_test": per_variant(payoff_sensitivity_test),
        "reciprocity": per_game(reciprocity, (-1.0, 1.0)),
        "distance": per_game(distances, UNIT),
        "payoff_sensitivity": {name: sensitivity(by_policy[name]) for name in names},
        "change_from_base": {
            name: change_from_base(by_policy[name], by_policy[base_of[name]], plan)
            for name in names
        },
        "label_exchange": {name: label_exchange(by_policy[name], plan) for name in names},
        "framings": {
            name: framings_compared(
                [t for t in tables if t.policy == name and t.cell.persona == personas[name]], plan
            )
            for name in names
        },
        "off_task": _off_task(measured.rows, names),
        "personas": _personas(tables, variants, plan),
        "play": published_protocol(measured.played, variants, names, plan),
        **elsewhere(measured.played, variants, names, plan),
    }  # fmt: skip


def _off_task(rows: Sequence[Json], names: Sequence[str]) -> Json:
    """Shares of the C label, the D label and everything else, without the dilemma."""
    columns = {
        "C": lambda row: row["p_cooperate"],
        "D": lambda row: row["p_defect"],
        "other": lambda row: max(0.0, 1.0 - row["p_legal"]),
        "P(C)": lambda row: row["p_cooperate_given_legal"],
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
                (r["training_seed"], r["question"], r["p_cooperate_given_legal"])
                for r in mine
                if r["state"][1] == shown
            )
            for shown in "CD"
        } | {"shown": {s: shares(r for r in mine if r["state"][1] == s) for s in "CD"}}  # fmt: skip
    return found


def _personas(
    tables: Sequence[PolicyTable], variants: Mapping[str, RewardVariant], plan: Plan
) -> Json:
    """Each base model with a persona: cooperation and headline regrets by game."""
    bases = {name for variant in variants.values() for name in variant.policies[:1]}
    mine = [t for t in tables if t.cell.persona is not None and t.policy in bases]
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
                                (t.seed, t.key, _expected(t, variant))
                                for t in here
                                if t.cell.seat == variant.seat
                            ),
                            variant.bounds(game, variant.headline, legal=True),
                        )
                        for label, variant in variants.items()
                    },
                }
    return found


def _expected(policy: PolicyTable, variant: RewardVariant) -> float:
    return expected(policy.table, variant.reward_tables[policy.cell.game])[variant.headline]
