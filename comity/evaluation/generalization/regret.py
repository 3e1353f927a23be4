"""Exact regret of policies, under the reward and for the seat of their training.

Every policy is evaluated under its own reward's penalties. If these differ between policies, each
reward variant has its own payoff-blind baselines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from comity.evaluation.generalization.exact_answers import Bounds, PolicyTable, estimate
from comity.evaluation.generalization.plan import Json, Plan, Subject
from comity.evaluation.moral.metrics import RewardTable, all_cases, regrets, reward_table
from comity.evaluation.moral.policy_tables import PAYOFF_BLIND_POLICIES, expected
from comity.evaluation.moral.published_protocol import (
    chance_outcomes,
    deterministic_answers,
    play_episodes,
)
from comity.rewards.base import Reward

Rewards = Mapping[str, Reward]


def kinds(reward: str) -> tuple[str, ...]:
    """The regrets that mean something for a reward."""
    special = {"utilitarian": ("global",), "deontological": ("deontological",)}
    return (*special.get(reward, ()), "legal", "counterfactual")


def headline(reward: str) -> str:
    """The regret that is shown first: the published one where there is one."""
    return kinds(reward)[0]


@dataclass(frozen=True)
class RewardVariant:
    """A reward with the parameters, and of the seat, that some policies were trained with."""

    reward: str
    """Its name."""
    reward_tables: Mapping[str, RewardTable]
    """By game."""
    policies: tuple[str, ...]
    """Policies that are evaluated under it; base models are evaluated under every variant."""
    seat: int = 0

    @property
    def kinds(self) -> tuple[str, ...]:
        return kinds(self.reward)

    @property
    def headline(self) -> str:
        return headline(self.reward)

    def bounds(self, game: str, kind: str, legal: bool = False) -> Bounds | None:
        """Least and greatest value of a decision's regret (or of its `reward`).

        `legal`: of legal answers only.
        """
        reward_table, cases = self.reward_tables[game], all_cases()
        if legal:
            cases = cases.part(cases.own >= 0)
        values = (
            reward_table.rewards(cases) if kind == "reward" else regrets(cases, reward_table)[kind]
        )
        if not np.isfinite(values).all():
            return None
        return float(values.min()), float(values.max())


def regret(tables: Sequence[PolicyTable], variant: RewardVariant, plan: Plan) -> Json:
    """Expected regrets by game: of legal answers alone (`legal`), and with the illegal (`all`)."""
    found: Json = {}
    for game in plan.games:
        here, reward_table = [t for t in tables if t.cell.game == game], variant.reward_tables[game]
        laws = {
            "legal": [(t.seed, t.key, expected(t.table, reward_table)) for t in here],
            "all": [(t.seed, t.key, expected(t.table, reward_table, t.p_legal)) for t in here],
        }
        found[game] = {
            law: {
                kind: estimate(
                    ((seed, key, values[kind]) for seed, key, values in rows),
                    variant.bounds(game, kind, legal=law == "legal"),
                )
                for kind in ("reward", *variant.kinds)
            }
            for law, rows in laws.items()
        }
    return found


def payoff_blind_regret(table: np.ndarray, variant: RewardVariant, plan: Plan) -> Json:
    """A payoff-blind baseline's expected regrets, and those under the models' chance outcomes."""
    found = {}
    for game in plan.games:
        here = variant.reward_tables[game]
        drawn = [
            play_episodes(
                chance_outcomes(seed, plan.episodes, plan.rounds), deterministic_answers(table)
            )
            for seed in plan.play_seeds
        ]
        found[game] = {
            "expected": {k: _finite(expected(table, here)[k]) for k in ("reward", *variant.kinds)},
            "drawn": {
                k: _finite(float(np.mean([regrets(one, here)[k].mean() for one in drawn])))
                for k in variant.kinds
            },
        }
    return found


def _finite(value: float) -> float | None:
    """None for a regret that has no meaning (nothing is worse than what is illegal)."""
    return value if np.isfinite(value) else None


def payoff_sensitivity_test(
    tables: Sequence[PolicyTable], variant: RewardVariant, plan: Plan
) -> Json:
    """Whether a policy's mean regret over the games is below all payoff-blind baselines.

    Against an opponent who plays at random, the regret of a policy that ignores payoffs is a
    mixture of the baselines' in every game, and so is its mean over games. Only a policy that
    answers differently in different games can be below all of them. `beats` is true where the
    whole interval over seeds is, or, with one policy, where every prompt variant is.
    """
    kind = variant.headline
    ways: dict[tuple[Any, ...], dict[str, tuple[str, float]]] = {}
    for t in tables:
        value = expected(t.table, variant.reward_tables[t.cell.game])[kind]
        ways.setdefault((t.seed, *t.cell.prompt_variant[1:]), {})[t.cell.game] = t.key, value
    limits = [variant.bounds(game, kind, legal=True) for game in plan.games]
    known = [one for one in limits if one is not None]
    mean = estimate(
        (
            (where[0], *_mean(list(values.values())))
            for where, values in ways.items()
            if len(values) == len(plan.games)
        ),
        tuple(np.mean(known, axis=0)) if len(known) == len(limits) else None,
    )
    payoff_blind = {
        null: _finite(
            float(
                np.mean([expected(table, variant.reward_tables[game])[kind] for game in plan.games])
            )
        )
        for null, table in PAYOFF_BLIND_POLICIES.items()
    }
    best = min((value for value in payoff_blind.values() if value is not None), default=-np.inf)
    worst = None if mean is None else mean["max"] if mean["high"] is None else mean["high"]
    return {
        "kind": kind,
        "mean": mean,
        "payoff_blind": payoff_blind,
        "below_all": len(plan.games) > 1 and worst is not None and bool(worst < best - 1e-9),
    }


def _mean(values: Sequence[tuple[str, float]]) -> tuple[str, float]:
    """The joint key of questions and the mean of their values."""
    return " ".join(key for key, _ in values), float(np.mean([value for _, value in values]))


def reward_variants(
    plan: Plan, subjects: Sequence[Subject], rewards: Rewards, own: Mapping[str, Rewards]
) -> dict[str, RewardVariant]:
    """Reward variants: each policy under its own reward's parameters and for its own seat.

    Policies for whom a reward comes to the same in all games share a variant. Where it does not for
    all, each is called after its policies.
    """
    policies = [subject for subject in subjects if not subject.untrained] or list(subjects)
    names = dict.fromkeys(key for one in (rewards, *own.values()) for key in one)
    found: dict[str, RewardVariant] = {}
    for key in names:
        alike: list[RewardVariant] = []
        for subject in policies:
            reward = own.get(subject.name, rewards).get(key)
            if reward is None:
                continue
            reward_tables = {
                game: reward_table(reward, plan.games[game], subject.seat) for game in plan.games
            }
            whose = dict.fromkeys((subject.base, subject.name))
            for number, variant in enumerate(alike):
                if _same(variant, reward_tables):
                    whose = dict.fromkeys((*variant.policies, *whose))
                    alike[number] = RewardVariant(key, reward_tables, tuple(whose), variant.seat)
                    break
            else:
                alike.append(RewardVariant(key, reward_tables, tuple(whose), subject.seat))
        bases = {subject.base for subject in subjects}
        for variant in alike:
            mine = [name for name in variant.policies if name not in bases]
            found[key if len(alike) == 1 else f"{key} ({', '.join(mine)})"] = variant
    return found


def _same(variant: RewardVariant, reward_tables: Mapping[str, Any]) -> bool:
    """Whether a reward is worth the same in all games."""
    return all(
        np.array_equal(one.values, reward_tables[game].values)
        and one.illegal == reward_tables[game].illegal
        for game, one in variant.reward_tables.items()
    )
