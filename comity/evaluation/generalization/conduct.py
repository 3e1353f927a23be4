"""Statistics of sampled play: action types, regrets and P(C | state)."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from comity.evaluation.generalization.exact_answers import UNIT, estimate
from comity.evaluation.generalization.plan import RANDOM, Json, Plan, PlaySetting
from comity.evaluation.generalization.regret import RewardVariant
from comity.evaluation.generalization.sampled_play import SampledPlay
from comity.evaluation.metrics import OUTCOMES
from comity.evaluation.moral.metrics import ACTION_TYPES, DecisionArrays, action_types, regrets
from comity.evaluation.statistics import mean_over_seeds


def published_protocol(
    played: Sequence[SampledPlay],
    variants: Mapping[str, RewardVariant],
    names: Sequence[str],
    plan: Plan,
) -> Json:
    """The published protocol: action types under both readings, regrets, and the base's."""
    found: Json = {}
    for name, game in product(names, plan.games):
        here = [p for p in played if p.setting == PlaySetting(game, "structured", RANDOM)]
        found.setdefault(name, {})[game] = _readings(_of(here, name), name, variants, plan)
    return found


def _of(played: Sequence[SampledPlay], name: str) -> list[SampledPlay]:
    """What a policy played; a base model, which was asked on several seats, on the first."""
    mine = [p for p in played if p.subject.name == name]
    return [p for p in mine if not p.subject.untrained or p.subject.seat == mine[0].subject.seat]


def _readings(
    mine: Sequence[SampledPlay], name: str, variants: Mapping[str, RewardVariant], plan: Plan
) -> Json:
    """Action types, regrets by variant and conduct, by who answered and how it is read."""
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
            "action_types": _summed([action_types(answers) for _, answers in pairs]),
            "conduct": conduct(pairs, plan),
            **{
                label: {
                    kind: estimate(
                        (
                            (p.subject.seed, (p.seed, number), float(episode.mean()))
                            for p, answers in pairs
                            for number, episode in enumerate(
                                regrets(answers, variant.reward_tables[p.setting.game])[
                                    kind
                                ].reshape(plan.episodes, plan.rounds)
                            )
                        ),
                        variant.bounds(mine[0].setting.game, kind),
                        over="episodes",
                    )
                    for kind in variant.kinds
                }
                for label, variant in variants.items()
                if name in variant.policies
            },
        }
        for reading, pairs in readings.items()
        if pairs
    }


def conduct(pairs: Sequence[tuple[SampledPlay, DecisionArrays]], plan: Plan) -> Json:
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


def elsewhere(
    played: Sequence[SampledPlay],
    variants: Mapping[str, RewardVariant],
    names: Sequence[str],
    plan: Plan,
) -> Json:
    """Play against other scripts, by opponent; and in other framings, by framing."""

    def at(setting: PlaySetting, name: str) -> Json:
        here = _of([p for p in played if p.setting == setting], name)
        return _readings(here, name, variants, plan)

    opponents: Json = {
        opponent: {
            name: {game: at(PlaySetting(game, "structured", opponent), name) for game in plan.games}
            for name in names
        }
        for opponent in plan.opponents
    }
    framings: Json = {
        framing: {name: at(PlaySetting(plan.dilemma, framing, RANDOM), name) for name in names}
        for framing in plan.play_framings
    }
    return {"play_opponents": opponents, "play_framings": framings}


def _with(answered: DecisionArrays, own: np.ndarray) -> DecisionArrays:
    """The same decisions under another reading of the answers."""
    return DecisionArrays(own, answered.other, answered.shown_own, answered.shown_other)


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {kind: sum(one[kind] for one in counts) for kind in ACTION_TYPES}
