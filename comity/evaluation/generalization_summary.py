"""Everything that the page on generalization states, as one JSON-ready mapping."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from comity.evaluation.generalization import BASE, Json, Measured, Plan, Played, Subject
from comity.evaluation.generalization_tables import (
    Stakes,
    Telling,
    change_from_base,
    estimate,
    framings_compared,
    headline,
    heat_map,
    kinds,
    null_regret,
    of_tables,
    payoff_reading,
    regret,
    sensitivity,
    tellings,
)
from comity.evaluation.moral import (
    ACTION_TYPES,
    Answered,
    action_types,
    payoff_table,
    regrets,
    stake,
)
from comity.evaluation.policy_tables import (
    NULL_POLICIES,
    distances,
    expected,
    reciprocity,
)
from comity.evaluation.questions import (
    OFF_TASK,
)
from comity.rewards.base import Reward


def summarize(
    plan: Plan, subjects: Sequence[Subject], measured: Measured, rewards: Mapping[str, Reward]
) -> Json:
    """All numbers of `generalization.json` but the description of the run."""
    told = tellings(measured.rows)
    names = list(dict.fromkeys(subject.name for subject in subjects))
    seats = {subject.name: subject.seat for subject in subjects}
    stakes = {
        (name, key, game): stake(reward, plan.games[game], seats[name])
        for name in names
        for key, reward in rewards.items()
        for game in plan.games
    }
    main = [t for t in told if t.cell.framing == "structured" and t.cell.persona is None]
    by_policy = {name: [t for t in main if t.policy == name] for name in names}
    return {
        "policies": names,
        "seeds": {
            name: [s.seed for s in subjects if s.name == name and s.seed is not None]
            for name in names
        },
        "games": {
            game: {"joint": float(payoff_table(plan.games[game]).sum(axis=-1).max())}
            for game in plan.games
        },
        "dilemma": plan.dilemma,
        "label_sets": list(plan.label_sets),
        "layouts": list(plan.layouts),
        "rewards": list(rewards),
        "questions": len(measured.rows),
        "table": {name: heat_map(by_policy[name], plan) for name in names},
        "legality": {
            name: {
                game: {
                    key: estimate(
                        (t.seed, float(getattr(t, key).mean()))
                        for t in by_policy[name]
                        if t.cell.game == game
                    )
                    for key in ("legality", "legality_ended")
                }
                for game in plan.games
            }
            for name in names
        },
        "regret": {
            key: {name: regret(by_policy[name], name, key, stakes, plan) for name in names}
            for key in rewards
        },
        "null_regret": {
            key: {null: null_regret(table, names[-1], key, stakes, plan)
                  for null, table in NULL_POLICIES.items()}
            for key in rewards
        },
        "payoff_reading": payoff_reading(by_policy, rewards, stakes, plan),
        "reciprocity": {
            name: {
                game: of_tables(by_policy[name], game, reciprocity) for game in plan.games
            }
            for name in names
        },
        "distance": {
            name: {game: of_tables(by_policy[name], game, distances) for game in plan.games}
            for name in names
        },
        "sensitivity": {name: sensitivity(by_policy[name]) for name in names},
        "change": change_from_base(by_policy, plan),
        "framings": framings_compared(told, names, plan),
        "off_task": _off_task(measured.rows, names),
        "personas": _personas(told, stakes, rewards, plan),
        "play": _played(measured.played, stakes, rewards, names, plan),
    }  # fmt: skip


def _off_task(rows: Sequence[Json], names: Sequence[str]) -> Json:
    """Shares of the C label, the D label and everything else, without the dilemma."""
    columns = {
        "C": lambda row: row["cooperate"],
        "D": lambda row: row["defect"],
        "other": lambda row: max(0.0, 1.0 - row["legality"]),
        "P(C)": lambda row: row["cooperation"],
    }
    found: Json = {}
    for name, framing in product(names, OFF_TASK):
        mine = [r for r in rows if r["policy"] == name and r["framing"] == framing]
        if not mine:
            continue
        found.setdefault(name, {})[framing] = {
            column: estimate((r["training_seed"], value(r)) for r in mine)
            for column, value in columns.items()
        } | {
            f"P(C|{shown})": estimate(
                (r["training_seed"], r["cooperation"]) for r in mine if r["state"][1] == shown
            )
            for shown in "CD"
        }
    return found


def _personas(
    told: Sequence[Telling], stakes: Stakes, rewards: Mapping[str, Reward], plan: Plan
) -> Json:
    """The base model with a persona: cooperation and headline regrets by game."""
    found: Json = {}
    mine = [t for t in told if t.cell.persona is not None]
    for persona, goal in dict.fromkeys((t.cell.persona, t.cell.goal) for t in mine):
        found[f"{persona}, {goal} goal"] = {
            game: {
                "cooperation": estimate((t.seed, float(t.table.mean())) for t in here),
                **{
                    key: estimate(
                        (t.seed, expected(t.table, stakes[BASE, key, game])[headline(key)])
                        for t in here
                    )
                    for key in rewards
                },
            }
            for game in plan.games
            if (
                here := [
                    t
                    for t in mine
                    if (t.cell.game, t.cell.persona, t.cell.goal) == (game, persona, goal)
                ]
            )
        }
    return found


def _played(
    played: Sequence[Played],
    stakes: Stakes,
    rewards: Mapping[str, Reward],
    names: Sequence[str],
    plan: Plan,
) -> Json:
    """Sampled play: action types under both readings, regrets, and the base's beside it."""
    found: Json = {}
    for name, game in product(names, plan.games):
        mine = [p for p in played if p.subject.name == name and p.game == game]
        readings = {
            "strict": [(p, p.strict) for p in mine],
            "lenient": [(p, _with(p.strict, p.lenient)) for p in mine],
            "base_same_prompts": [(p, p.base) for p in mine if p.base is not None],
            "base_same_prompts_lenient": [
                (p, _with(p.base, p.base_lenient))
                for p in mine
                if p.base is not None and p.base_lenient is not None
            ],
        }
        found.setdefault(name, {})[game] = {
            reading: {
                "types": _summed([action_types(answers) for _, answers in pairs]),
                **{
                    key: {
                        kind: estimate(
                            (p.subject.seed, float(episode.mean()))
                            for p, answers in pairs
                            for episode in regrets(answers, stakes[name, key, game])[kind]
                            .reshape(plan.episodes, plan.rounds)
                        )
                        for kind in kinds(key)
                    }
                    for key in rewards
                },
            }
            for reading, pairs in readings.items()
            if pairs
        }  # fmt: skip
    return found


def _with(answered: Answered, own: np.ndarray) -> Answered:
    """The same decisions under another reading of the answers."""
    return Answered(own, answered.other, answered.shown_own, answered.shown_other)


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {kind: sum(one[kind] for one in counts) for kind in ACTION_TYPES}
