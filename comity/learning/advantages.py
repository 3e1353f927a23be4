"""Advantage estimation: from a batch's rewards to every decision's advantage.

    rewards / scale -> returns -> advantages (less a baseline, or by GAE from values)
    -> alignment with the other seats' advantages -> whitening -> visitation discount

All seats' advantages come from one estimator. Alignment uses those of the other seats whether
or not they are trained, so with it the baseline pools all seats' returns, and without it only
the trained seats'.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.credit.gae import annealed_lambda, gae_advantages
from comity.learning.credit.returns import (
    CreditBatch,
    baseline,
    discounted_returns,
    expand_rounds,
    horizon_returns,
    postprocess,
)
from comity.rollout.records import Decision


@dataclass(frozen=True)
class AdvantageEstimates:
    """float64 `[match, seat, step]` each; 0 where the match is over."""

    returns: np.ndarray
    advantages: np.ndarray
    """The final advantages, with which decisions are trained."""
    value_targets: np.ndarray | None = None
    """Targets for the critics; None without critics."""


@dataclass(frozen=True)
class StepRewards:
    """Rewards by step, and the step of each decision. M matches, S seats, T steps."""

    rewards: np.ndarray
    """float64 `[M, S, T]`."""
    alive: np.ndarray
    """bool `[M, T]`."""
    trained: np.ndarray
    """bool `[M, S]`: the seat had a learner; not all of its answers need be trained on."""
    decision_steps: tuple[tuple[int, int, int], ...]
    """(match, seat, step) of every decision."""

    @staticmethod
    def of(
        decisions: Sequence[Decision], rewards: np.ndarray, alive: np.ndarray, credit_steps: str
    ) -> "StepRewards":
        """From rewards `[match, seat, round]` and alive `[match, round]` of a rollout.

        `credit_steps`: one of `comity.learning.credit.returns.CREDIT_STEPS`.
        """
        first = min((d.match for d in decisions), default=0)
        trained = np.zeros(rewards.shape[:2], dtype=bool)
        steps = np.ones(alive.shape, dtype=np.int64)
        for d in decisions:
            trained[d.match - first, d.seat] |= d.controller == "live"
            place = (d.match - first, d.round)
            steps[place] = max(steps[place], d.step + 1)
        before = np.arange(alive.shape[1])[None, :].repeat(len(alive), axis=0)
        inside = credit_steps == "steps"
        if inside:
            rewards, alive, before = expand_rounds(rewards, alive, steps)
        decision_steps = tuple(
            (
                d.match - first,
                d.seat,
                int(before[d.match - first, d.round]) + (d.step if inside else 0),
            )
            for d in decisions
        )
        return StepRewards(rewards, alive, trained, decision_steps)


def estimate_advantages(
    rewards: np.ndarray,
    alive: np.ndarray,
    algorithm: Reinforce,
    groups: np.ndarray | None = None,
    trained: np.ndarray | None = None,
    iteration: int = 0,
    values: np.ndarray | None = None,
    alternatives: np.ndarray | None = None,
    present: np.ndarray | None = None,
) -> AdvantageEstimates:
    """Advantages of all seats; arrays as in `comity.learning.credit.returns`.

    `iteration`: number of finished iterations, for annealing. `values`, `[match, seat, step]`:
    required by the estimator `gae` (NaN: the seat made no decision). `alternatives`, of that
    shape: mean return of alternative decisions over the algorithm's branch_depth (NaN: none were
    played; the baseline is used). `present`: see `comity.learning.credit.advantage_alignment`.
    """
    settings = algorithm.credit()
    rewards = rewards / settings.reward_scale
    returns = discounted_returns(rewards, alive, settings.discount)
    targets = None
    if algorithm.estimator == "gae":
        if values is None:
            raise ValueError("the estimator gae needs the critic's values")
        lam = annealed_lambda(algorithm.lambda_max, algorithm.lambda_anneal, iteration)
        advantages, targets = gae_advantages(rewards, values, alive, settings.discount, lam)
    else:
        pooled = present if algorithm.uses_all_seats else trained
        advantages = returns - baseline(returns, alive, settings.baseline, groups, pooled)
    tried = None if alternatives is None else alternatives / settings.reward_scale
    if algorithm.estimator == "branches":
        if tried is None:
            raise ValueError("the estimator branches needs alternatives")
        ahead = horizon_returns(rewards, alive, settings.discount, algorithm.branch_depth)
        advantages = np.where(np.isnan(tried), advantages, ahead - tried)
    batch = CreditBatch(rewards, alive, groups, trained, present, iteration, tried)
    credit = algorithm.combined(advantages, batch)
    return AdvantageEstimates(returns, postprocess(credit, alive, settings, trained), targets)
