"""Returns, baselines and whitening: from the rewards of a batch of matches to advantages.

Rewards become discounted returns, a baseline is subtracted, and the advantages may be whitened.
All functions are pure, on float64 arrays `[match, seat, round]` with `alive`, bool
`[match, round]`: whether the match had this round. M matches, S seats, R rounds of the longest
match. Rounds after a match's end never enter a sum and are 0 in results.

The unit of credit is a round (messages belong to their round), or with `expand_rounds` each step
of the game; "round" below means either. Discounts apply per unit.

`trained`, bool `[match, seat]`, marks the trained seats (default: all). Only their entries are
pooled into baselines and whitening moments; the other seats' entries still get advantages, by
the same formula.

Every baseline but `batch_mean` leaves out the entry's *whole* match, so that it does not depend
on the entry's decision and the policy gradient stays unbiased (Williams 1992, section 4; Kool,
van Hoof and Welling 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!").
"""

from dataclasses import dataclass

import numpy as np

from comity.errors import ComityError, lookup

BASELINES: dict[str, str] = {
    "leave_one_out": "mean return of the group's other matches, same seat and round",
    "batch": "mean return of the batch's other matches, same seat and round",
    "batch_pooled": "mean return of the batch's other matches, same seat, all rounds together",
    "shared": "mean return of the batch's other matches, all seats together, same round",
    "batch_mean": "mean return of all matches, this one included, same seat and round",
    "none": "no baseline: the advantage is the return",
}
"""Every baseline with its definition in one line."""

WHITENING: dict[str, str] = {
    "all": "one mean and deviation for the whole batch",
    "round": "a mean and deviation for each round",
    "center": "one mean for the whole batch is taken off; the deviation stays",
}
"""Every scope of whitening with its definition in one line."""

CREDIT_STEPS: dict[str, str] = {
    "rounds": "whole rounds: all that a seat says in a round has the round's credit",
    "steps": "single steps: the round is paid at its last step, and the discount counts steps",
}
"""The units of credit, each with a sentence."""

SMALLEST_DEVIATION = 1e-9
"""Added to the standard deviation, so that equal advantages whiten to 0 and not to NaN."""


@dataclass(frozen=True)
class CreditSettings:
    """How rewards become advantages."""

    discount: float = 0.9
    """Weight of the next round's reward relative to this round's, in [0, 1]."""
    baseline: str = "batch"
    """A name in `BASELINES`."""
    whiten: bool | str = True
    """False; "all" or True; "round"; or "center" (see `WHITENING`)."""
    reward_scale: float = 1.0
    """Rewards are divided by it first."""
    visitation_discount: bool = False
    """Multiply advantages by discount^t, as in the gradient of the discounted return."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.discount <= 1.0:
            raise ComityError(f"discount must lie between 0 and 1, not {self.discount}")
        if not (self.reward_scale > 0.0 and np.isfinite(self.reward_scale)):
            raise ComityError(f"reward_scale must be positive, not {self.reward_scale}")
        lookup("baseline", self.baseline, BASELINES)
        if not isinstance(self.whiten, bool):
            lookup("scope of whitening", self.whiten, WHITENING)


@dataclass(frozen=True)
class CreditBatch:
    """A batch of matches, for algorithms that combine advantages (`Reinforce.combined`).

    M matches, S seats, T steps. Rewards and alternatives are divided by the reward's scale.
    """

    rewards: np.ndarray
    """float64 `[M, S, T]`."""
    alive: np.ndarray
    """bool `[M, T]`."""
    groups: np.ndarray | None = None
    """Group of each match, `[M]`; None: one group."""
    trained: np.ndarray | None = None
    """bool `[M, S]`: the seat is trained; None: all are."""
    present: np.ndarray | None = None
    """bool `[M, S]`: the seat takes part; None: all do."""
    iteration: int = 0
    """Number of finished iterations, for annealing."""
    alternatives: np.ndarray | None = None
    """`[M, S, T]`: mean return of alternative decisions (NaN: none were played)."""


def advantages(
    rewards: np.ndarray,
    alive: np.ndarray,
    settings: CreditSettings,
    groups: np.ndarray | None = None,
    trained: np.ndarray | None = None,
) -> np.ndarray:
    """float64 `[match, seat, round]`: return minus baseline, whitened if configured.

    `groups`, int `[match]`, is only used by the baseline `leave_one_out`.
    """
    returns = discounted_returns(rewards / settings.reward_scale, alive, settings.discount)
    result = returns - baseline(returns, alive, settings.baseline, groups, trained)
    return postprocess(result, alive, settings, trained)


def postprocess(
    credit: np.ndarray,
    alive: np.ndarray,
    settings: CreditSettings,
    trained: np.ndarray | None = None,
) -> np.ndarray:
    """Whitening and the visitation discount, if configured, in this order.

    float64 `[match, seat, round]`; 0 where the match is over.
    """
    if settings.whiten:
        scope = "all" if settings.whiten is True else settings.whiten
        credit = whiten(credit, _valid(credit, alive, trained), scope)
    if settings.visitation_discount:
        credit = credit * np.float64(settings.discount) ** np.arange(credit.shape[2])
    return np.where(alive[:, None, :], credit, 0.0)


def expand_rounds(
    rewards: np.ndarray, alive: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expands rounds into their steps: rewards, alive, and each round's first step.

    `steps`, int `[match, round]`: how many steps the round had (only where alive). The rewards,
    float64 `[match, seat, step]`, stand at each round's last step; alive is bool
    `[match, step]`; the first steps are int `[match, round]`.
    """
    _check(rewards, alive)
    alive = alive.astype(bool)
    if steps.shape != alive.shape or (steps[alive] < 1).any():
        raise ValueError("steps needs at least one step for every round that was played")
    lengths = np.where(alive, steps, 0)
    ends = lengths.cumsum(axis=1)
    longest = int(ends[:, -1].max(initial=0)) if ends.shape[1] else 0
    opened = np.zeros((*rewards.shape[:2], longest))
    match, when = np.nonzero(alive)
    opened[match, :, ends[match, when] - 1] = rewards[match, :, when]
    return opened, np.arange(longest) < lengths.sum(axis=1)[:, None], ends - lengths


def discounted_returns(rewards: np.ndarray, alive: np.ndarray, discount: float) -> np.ndarray:
    """G_t = sum over s >= t of discount^(s-t) r_s, float64 `[match, seat, round]`.

    Each return is discounted from its own round on; it is not multiplied by discount^t (see
    `comity.learning.exact.policy_gradient` for what that means for the gradient, and
    `CreditSettings.visitation_discount`).
    """
    _check(rewards, alive)
    rewards = np.where(alive[:, None, :], rewards, 0.0).astype(np.float64)
    returns = np.zeros_like(rewards)
    ahead = np.zeros(rewards.shape[:2])
    for t in reversed(range(rewards.shape[2])):
        ahead = rewards[:, :, t] + discount * ahead
        returns[:, :, t] = ahead
    return returns


def horizon_returns(
    rewards: np.ndarray, alive: np.ndarray, discount: float, depth: int | None
) -> np.ndarray:
    """Returns over a round and the next `depth` rounds, `[match, seat, round]`; None: over all."""
    if depth is None:
        return discounted_returns(rewards, alive, discount)
    _check(rewards, alive)
    rewards = np.where(alive[:, None, :], rewards, 0.0).astype(np.float64)
    returns = np.zeros_like(rewards)
    for k in range(min(depth + 1, rewards.shape[2])):
        returns[:, :, : rewards.shape[2] - k] += discount**k * rewards[:, :, k:]
    return returns


def baseline(
    returns: np.ndarray,
    alive: np.ndarray,
    kind: str,
    groups: np.ndarray | None = None,
    trained: np.ndarray | None = None,
) -> np.ndarray:
    """The baseline of each return, float64 `[match, seat, round]`; `kind` in `BASELINES`.

    Where the pool is empty (a single match, a group of one, no other match this long) the
    baseline is 0 and the advantage is the return itself. With `leave_one_out` and groups of one
    match this is the case everywhere; there is no fallback to the whole batch.

    Bias. A baseline that does not depend on a match's own decisions does not change the expected
    gradient. This holds for every leave-one-out pool here; for `shared` because the other seats
    of the same match are left out too: their returns depend on this seat's decision, and leaving
    out only the own entry would bias self-play. Seats with different expected payoffs make
    `shared` noisier than `batch`, not biased; in symmetric self-play its variance is lower, with
    S times as many entries. `batch_mean` includes the match itself and shrinks the expected
    gradient by (n-1)/n in a pool of n.
    """
    lookup("baseline", kind, BASELINES)
    _check(returns, alive)
    valid = _valid(returns, alive, trained)
    if kind == "none":
        return np.zeros(returns.shape)
    if kind == "leave_one_out":
        if groups is None:
            raise ValueError("the baseline leave_one_out needs the matches' groups")
        pools = np.unique(groups, return_inverse=True)[1]
    else:
        pools = np.zeros(len(returns), dtype=np.intp)

    # Contributions of each match to its pool's sum and count. Pooled axes are summed and kept
    # with length 1, so that all kinds are treated alike below.
    pooled_axis = {"batch_pooled": 2, "shared": 1}.get(kind)
    sums = np.where(valid, returns, 0.0)
    counts = valid.astype(np.float64)
    if pooled_axis is not None:
        sums = sums.sum(axis=pooled_axis, keepdims=True)
        counts = counts.sum(axis=pooled_axis, keepdims=True)
    own = 0.0 if kind == "batch_mean" else 1.0
    sums, counts = (_pool_sums(a, pools) - own * a for a in (sums, counts))
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0.0)
    return np.where(alive[:, None, :], np.broadcast_to(means, returns.shape), 0.0)


def whiten(advantages: np.ndarray, valid: np.ndarray, scope: str = "all") -> np.ndarray:
    """(A - mean) / (deviation + 1e-9), float64 `[match, seat, round]`.

    Mean and deviation (n - 1 in the denominator) are those of the entries in `valid`, bool
    of the same shape: of all of them together (`all`) or of each round's (`round`). With
    `center` only the mean of all is subtracted. The other entries are transformed by the same
    numbers. A single valid entry becomes 0; without any, nothing changes.
    """
    lookup("scope of whitening", scope, WHITENING)
    axes = (0, 1) if scope == "round" else (0, 1, 2)
    count = valid.sum(axis=axes, keepdims=True)
    total = np.where(valid, advantages, 0.0).sum(axis=axes, keepdims=True)
    mean = total / np.maximum(count, 1)
    if scope == "center":
        return np.asarray(advantages - mean)
    squares = np.where(valid, (advantages - mean) ** 2, 0.0).sum(axis=axes, keepdims=True)
    deviation = np.sqrt(squares / np.maximum(count - 1, 1))
    return np.where(count > 0, (advantages - mean) / (deviation + SMALLEST_DEVIATION), advantages)


def _pool_sums(values: np.ndarray, pools: np.ndarray) -> np.ndarray:
    """For each match the sum over all matches of its pool, itself included."""
    sums = np.zeros((int(pools.max(initial=-1)) + 1, *values.shape[1:]))
    np.add.at(sums, pools, values)
    return sums[pools]


def _valid(values: np.ndarray, alive: np.ndarray, trained: np.ndarray | None) -> np.ndarray:
    """bool `[match, seat, round]`: trained entries of played rounds."""
    valid = np.broadcast_to(alive[:, None, :].astype(bool), values.shape)
    if trained is None:
        return valid
    if trained.shape != values.shape[:2]:
        raise ValueError(f"trained has shape {trained.shape}, expected {values.shape[:2]}")
    return valid & trained[:, :, None].astype(bool)


def _check(values: np.ndarray, alive: np.ndarray) -> None:
    """Raises ValueError unless `values` is `[match, seat, round]` and `alive` fits."""
    if values.ndim != 3 or alive.shape != (values.shape[0], values.shape[2]):
        raise ValueError(
            f"expected [match, seat, round] with alive [match, round], "
            f"not {values.shape} with {alive.shape}"
        )
