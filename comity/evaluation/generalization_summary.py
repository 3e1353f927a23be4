"""Everything that the page on generalization states, as one JSON-ready mapping."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from comity.evaluation.generalization import (
    BASE,
    RANDOM,
    Json,
    Measured,
    Plan,
    Subject,
    everyone,
)
from comity.evaluation.generalization_play import Played, Stage
from comity.evaluation.generalization_tables import (
    UNIT,
    Judge,
    Telling,
    as_trained,
    change_from_base,
    estimate,
    framings_compared,
    heat_map,
    null_regret,
    of_tables,
    payoff_reading,
    regret,
    sensitivity,
    tellings,
)
from comity.evaluation.metrics import OUTCOMES
from comity.evaluation.moral import (
    ACTION_TYPES,
    Answered,
    action_types,
    payoff_table,
    regrets,
    stake,
)
from comity.evaluation.policy_tables import NULL_POLICIES, distances, expected, reciprocity
from comity.evaluation.questions import OFF_TASK
from comity.evaluation.statistics import mean_over_seeds
from comity.rewards.base import Reward

Rewards = Mapping[str, Reward]


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
        "framings": {
            name: framings_compared(
                [t for t in told if t.policy == name and t.cell.persona == personas[name]], plan
            )
            for name in names
        },
        "off_task": _off_task(measured.rows, names),
        "personas": _personas(told, judged, plan),
        "play": _played(measured.played, judged, names, plan),
        **_elsewhere(measured.played, judged, names, plan),
    }  # fmt: skip


def judges(
    plan: Plan, subjects: Sequence[Subject], rewards: Rewards, own: Mapping[str, Rewards]
) -> dict[str, Judge]:
    """Who is judged by what: each policy by its own reward's parameters and from its own seat.

    Policies for whom a reward comes to the same in all games share a judge. Where it does not for
    all, each is called after its policies.
    """
    policies = [subject for subject in subjects if not subject.untrained] or list(subjects)
    names = dict.fromkeys(key for one in (rewards, *own.values()) for key in one)
    found: dict[str, Judge] = {}
    for key in names:
        alike: list[Judge] = []
        for subject in policies:
            reward = own.get(subject.name, rewards).get(key)
            if reward is None:
                continue
            stakes = {game: stake(reward, plan.games[game], subject.seat) for game in plan.games}
            whose = dict.fromkeys((subject.base, subject.name))
            for number, judge in enumerate(alike):
                if _same(judge, stakes):
                    whose = dict.fromkeys((*judge.policies, *whose))
                    alike[number] = Judge(key, stakes, tuple(whose), judge.seat)
                    break
            else:
                alike.append(Judge(key, stakes, tuple(whose), subject.seat))
        bases = {subject.base for subject in subjects}
        for judge in alike:
            mine = [name for name in judge.policies if name not in bases]
            found[key if len(alike) == 1 else f"{key} ({', '.join(mine)})"] = judge
    return found


def _same(judge: Judge, stakes: Mapping[str, Any]) -> bool:
    """Whether a reward is worth the same in all games."""
    return all(
        np.array_equal(one.values, stakes[game].values) and one.illegal == stakes[game].illegal
        for game, one in judge.stakes.items()
    )


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


def _played(
    played: Sequence[Played], judged: Mapping[str, Judge], names: Sequence[str], plan: Plan
) -> Json:
    """The published protocol: action types under both readings, regrets, and the base's."""
    found: Json = {}
    for name, game in product(names, plan.games):
        here = [p for p in played if p.stage == Stage(game, "structured", RANDOM)]
        found.setdefault(name, {})[game] = _readings(_of(here, name), name, judged, plan)
    return found


def _of(played: Sequence[Played], name: str) -> list[Played]:
    """What a policy played; a base model, which was asked on several seats, on the first."""
    mine = [p for p in played if p.subject.name == name]
    return [p for p in mine if not p.subject.untrained or p.subject.seat == mine[0].subject.seat]


def _readings(mine: Sequence[Played], name: str, judged: Mapping[str, Judge], plan: Plan) -> Json:
    """Action types, regrets by judge and conduct, by who answered and how it is read."""
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
    return {
        reading: {
            "types": _summed([action_types(answers) for _, answers in pairs]),
            "conduct": conduct(pairs, plan),
            **{
                label: {
                    kind: estimate(
                        (
                            (p.subject.seed, (p.seed, number), float(episode.mean()))
                            for p, answers in pairs
                            for number, episode in enumerate(
                                regrets(answers, judge.stakes[p.stage.game])[kind].reshape(
                                    plan.episodes, plan.rounds
                                )
                            )
                        ),
                        judge.bounds(mine[0].stage.game, kind),
                        over="episodes",
                    )
                    for kind in judge.kinds
                }
                for label, judge in judged.items()
                if name in judge.policies
            },
        }
        for reading, pairs in readings.items()
        if pairs
    }


def conduct(pairs: Sequence[tuple[Played, Answered]], plan: Plan) -> Json:
    """P(C | state) and retaliation of sampled play, over legal answers.

    `retaliation` is the share of defections after the other's displayed defection, `unprovoked`
    after its cooperation.
    """

    def rate(counted: Any, among: Any) -> Json | None:
        seeds: dict[Any, list[np.ndarray]] = {}
        for p, answers in pairs:
            den = (among(answers) & (answers.own >= 0)).reshape(plan.episodes, plan.rounds)
            num = counted(answers).reshape(plan.episodes, plan.rounds) & den
            seeds.setdefault(p.subject.seed, []).append(
                np.stack([num.sum(axis=1), den.sum(axis=1)], axis=1)
            )
        arrays = [np.concatenate(one).astype(float) for one in seeds.values()]
        found = mean_over_seeds(arrays, UNIT, over="episodes")
        return None if found is None else found.as_dict()

    states = {
        state: rate(
            lambda a: a.own == 0,
            lambda a, state=state: (
                (a.shown_own == "CD".index(state[0])) & (a.shown_other == "CD".index(state[1]))
            ),
        )
        for state in OUTCOMES
    }
    return {
        "cooperation": rate(lambda a: a.own == 0, lambda a: a.own >= 0),
        **states,
        "retaliation": rate(lambda a: a.own == 1, lambda a: a.shown_other == 1),
        "unprovoked": rate(lambda a: a.own == 1, lambda a: a.shown_other == 0),
    }


def _elsewhere(
    played: Sequence[Played], judged: Mapping[str, Judge], names: Sequence[str], plan: Plan
) -> Json:
    """Play against other scripts, by opponent; and in other framings, by framing."""

    def at(stage: Stage, name: str) -> Json:
        here = _of([p for p in played if p.stage == stage], name)
        return _readings(here, name, judged, plan)

    opponents: Json = {
        opponent: {
            name: {game: at(Stage(game, "structured", opponent), name) for game in plan.games}
            for name in names
        }
        for opponent in plan.opponents
    }
    framings: Json = {
        framing: {name: at(Stage(plan.dilemma, framing, RANDOM), name) for name in names}
        for framing in plan.play_framings
    }
    return {"play_opponents": opponents, "play_framings": framings}


def _with(answered: Answered, own: np.ndarray) -> Answered:
    """The same decisions under another reading of the answers."""
    return Answered(own, answered.other, answered.shown_own, answered.shown_other)


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {kind: sum(one[kind] for one in counts) for kind in ACTION_TYPES}
