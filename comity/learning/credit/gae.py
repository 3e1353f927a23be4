"""Generalized advantage estimation: advantages from rewards and the values of a critic.

After Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage
Estimation", equations 11 to 16. Pure functions; values are treated as constants.
"""

import math
from collections.abc import Sequence

import numpy as np


def gae(
    rewards: np.ndarray | Sequence[float],
    values: np.ndarray | Sequence[float],
    discounts: np.ndarray | Sequence[float] | float,
    lam: float,
) -> np.ndarray:
    """Generalized advantages of trajectories of n terms, float64 `[..., n]`.

    delta_t = r_t + g_t V_{t+1} - V_t;  A_t = delta_t + g_t lam A_{t+1}, with g_t =
    `discounts[..., t]` between term t and the next (the last one's is not used). All arguments
    are `[..., n]`, or broadcast to it.
    """
    r, v = np.asarray(rewards, dtype=np.float64), np.asarray(values, dtype=np.float64)
    g = np.broadcast_to(np.asarray(discounts, dtype=np.float64), r.shape)
    advantages = np.zeros(r.shape)
    ahead, following = np.zeros(r.shape[:-1]), np.zeros(r.shape[:-1])
    for t in reversed(range(r.shape[-1])):
        after = g[..., t] if t < r.shape[-1] - 1 else 0.0
        ahead = r[..., t] + after * following - v[..., t] + after * lam * ahead
        advantages[..., t] = ahead
        following = v[..., t]
    return advantages


def gae_advantages(
    rewards: np.ndarray, values: np.ndarray, alive: np.ndarray, discount: float, lam: float
) -> tuple[np.ndarray, np.ndarray]:
    """Advantages and the critic's targets A + V, float64 `[match, seat, step]` each.

    `rewards`, `values`: `[match, seat, step]`; `alive`: bool `[match, step]`. Both results are 0
    where the match is over; the value after the last played step is 0. A value is NaN where the
    seat made no decision: it is replaced by r_t + discount * V_{t+1}, so that the step has no TD
    error of its own and passes the next one's on.
    """
    if values.shape != rewards.shape or alive.shape != (rewards.shape[0], rewards.shape[2]):
        raise ValueError(
            f"expected values like the rewards {rewards.shape} and alive [match, step], "
            f"not {values.shape} and {alive.shape}"
        )
    here = alive[:, None, :].astype(bool)
    rewards = np.where(here, rewards, 0.0).astype(np.float64)
    values = np.where(here, values, 0.0).astype(np.float64)
    for t in reversed(range(rewards.shape[2])):
        following = values[:, :, t + 1] if t + 1 < rewards.shape[2] else 0.0
        carried = rewards[:, :, t] + discount * following
        values[:, :, t] = np.where(np.isnan(values[:, :, t]), carried, values[:, :, t])
    # Entries after the end are 0, so that the discount into them does not matter.
    advantages = gae(rewards, values, discount, lam)
    return advantages, advantages + values


def annealed_lambda(lambda_max: float, tau: float | None, iteration: int) -> float:
    """lambda after k = `iteration` finished iterations: lambda_max (2 / (1 + e^(-k/tau)) - 1).

    It rises from 0 to `lambda_max`; without `tau` it is `lambda_max` from the start.
    """
    if tau is None:
        return lambda_max
    return lambda_max * (2.0 / (1.0 + math.exp(-iteration / tau)) - 1.0)
