"""The exact policy gradient: matches of two memory-one players, enumerated.

A policy that observes only the last joint move has 1 + k*k states for k moves: state 0 is the
start (nothing shown yet), state 1 + k*own + other is "I played `own`, the other played
`other`". A policy is a table of probabilities `[1 + k*k, k]`, each row summing to 1; a table
of one row `[1, k]` is the same in every state, as in a one-shot game.
Each seat's table is from its own perspective. When the learner is in state 1 + k*a + b its
opponent is in state 1 + k*b + a, the mirrored state (`mirrored`); the start mirrors to itself.

With learner pi, opponent q, rewards r(s, a, b) and the start distribution d_0, for rounds
t = 0..T-1 and discount g:

    d_{t+1}(1 + k*a + b) = sum_s d_t(s) pi(a|s) q(b|mirror s)           states that are reached
    Q_t(s, a) = sum_b q(b|mirror s) [r(s, a, b) + g V_{t+1}(1 + k*a + b)],      V_T = 0
    V_t(s)    = sum_a pi(a|s) Q_t(s, a)

Two gradients are called the policy gradient, and they differ where 0 < g < 1 and
T > 1 (Nota and Thomas 2020, "Is the Policy Gradient a Gradient?"):

- *discounted*: the gradient of J = E[sum_t g^t r_t] = sum_s d_0(s) V_0(s), by the policy
  gradient theorem (Sutton et al. 2000)

      grad J = sum_t g^t sum_s d_t(s) sum_a grad pi(a|s) Q_t(s, a).

  `expected_return` is J itself; autograd differentiates it.
- *undiscounted visitation*: the same sum without g^t. It is what REINFORCE computes in
  expectation when each decision is weighted by the return from its own round on
  (`comity.learning.credit.returns.discounted_returns`), as is usual in practice. In general it
  is not the gradient of any function. `reinforce_surrogate` has it as its derivative.

Random lengths are supported: if a round is followed by another with probability p
(`continuation`), up to a cap, T is the cap, and d_{t+1} and V_{t+1} above are multiplied by p
(d_{t+1} no longer sums to 1: the match may be over). `with_trembles` applies trembling-hand
noise to the tables.
"""

import torch
from torch import Tensor

from comity.errors import lookup

OBJECTIVES: dict[str, str] = {
    "reinforce": "the gradient that sampled REINFORCE averages to (undiscounted visitation)",
    "discounted": "the gradient of the discounted sum of rewards",
}
"""Objectives of `exact_loss`, each with a sentence."""


def expected_return(
    learner: Tensor,
    opponent: Tensor,
    rewards: Tensor,
    rounds: int,
    discount: float = 1.0,
    start: Tensor | None = None,
    continuation: float = 1.0,
) -> Tensor:
    """J = E[sum_t discount^t r_t] of the learner, a scalar; differentiable in every tensor.

    `learner`, `opponent`: tables `[1 + k*k, k]` or `[1, k]`, each from its own perspective.
    `rewards`: the learner's, `[k, k]` by (own move, other's move), or `[1 + k*k, k, k]` where
    they also depend on the learner's state. `start`: distribution over the learner's states
    before round 0, `[1 + k*k]`; default: the start state (see `uniform_start`).
    `continuation`: probability that a round before the last one is followed by another.
    """
    learner, opponent, rewards = _tables(learner, opponent, rewards)
    states = _start(learner, start)
    total = learner.new_zeros(())
    for t in range(rounds):
        joint = _joint(states, learner, opponent)
        total = total + discount**t * (joint * rewards).sum()
        states = continuation * _next_states(joint)
    return total


def reinforce_surrogate(
    learner: Tensor,
    opponent: Tensor,
    rewards: Tensor,
    rounds: int,
    discount: float = 1.0,
    start: Tensor | None = None,
    continuation: float = 1.0,
) -> Tensor:
    """A scalar whose gradient in `learner` is the expected gradient of REINFORCE.

    sum_t sum_s d_t(s) sum_a pi(a|s) Q_t(s, a) with d_t and Q_t held constant: the sum over a
    match of grad log pi(a_t|s_t) G_t, in expectation, where G_t is discounted from round t on.
    Any baseline that does not depend on the match leaves it unchanged. Only the gradient is
    meaningful. Equal to that of `expected_return` where discount is 1 or rounds is 1. Arguments
    as there.
    """
    learner, opponent, rewards = _tables(learner, opponent, rewards)
    k = learner.shape[1]
    with torch.no_grad():
        reached = _reached(learner, opponent, rounds, start, continuation)
        values = learner.new_zeros(learner.shape[0])
        weights = torch.zeros_like(learner)
        for states in reversed(reached):
            # After (a, b) the state is 1 + k*a + b, whatever the state before.
            outcomes = rewards + continuation * discount * values[1:].reshape(k, k)
            action_values = (outcomes * _mirror_rows(opponent)[:, None, :]).sum(dim=2)
            values = (learner * action_values).sum(dim=1)
            weights += states[:, None] * action_values
    return (learner * weights).sum()


def expected_visits(
    learner: Tensor,
    opponent: Tensor,
    rounds: int,
    start: Tensor | None = None,
    continuation: float = 1.0,
) -> Tensor:
    """Expected number of the learner's decisions in each state of a match: `[1 + k*k]`.

    Constant (no gradient); its sum is the expected number of rounds. Arguments as in
    `expected_return`.
    """
    k = learner.shape[1]
    with torch.no_grad():
        learner, opponent, _ = _tables(learner, opponent, learner.new_zeros(k, k))
        return torch.stack(_reached(learner, opponent, rounds, start, continuation)).sum(dim=0)


def exact_loss(
    log_probs: Tensor,
    rewards: Tensor,
    rounds: int,
    discount: float = 1.0,
    opponent: Tensor | None = None,
    start: Tensor | None = None,
    continuation: float = 1.0,
    objective: str = "reinforce",
) -> Tensor:
    """The loss of one learning seat for one match, a scalar to be minimized.

    `log_probs`: the learner's at every state, `[1 + k*k, k]` (or `[1, k]`), normalized over
    the k moves, differentiable. `opponent`: the other seat's table of probabilities; None:
    self-play against a copy of the learner that observes the mirrored states. Either way the
    opponent is constant, as in naive learning: the loss does not include effects on the other's
    learning. `rewards`: this seat's, as in `expected_return`. Where one adapter
    plays both seats of a game that is not symmetric, add the losses of the two seats, each
    with its own rewards.

    Divide by `rounds` (the expected number, where it is random) to compare with a loss that
    is averaged over the decisions of a batch.
    Raises ValueError if the probabilities of a state do not sum to 1 (the enumeration has no
    illegal answers).
    """
    lookup("objective", objective, OBJECTIVES)
    learner = log_probs.exp()
    if not torch.allclose(learner.sum(dim=1), torch.ones_like(learner[:, 0]), atol=1e-3):
        raise ValueError("log_probs must be normalized over the moves of each state")
    other = (learner if opponent is None else opponent.to(learner)).detach()
    value = {"reinforce": reinforce_surrogate, "discounted": expected_return}[objective]
    return -value(learner, other, rewards.to(learner), rounds, discount, start, continuation)


def mirrored(moves: int) -> Tensor:
    """For each state of one seat the other seat's, int64 `[1 + moves * moves]`."""
    pairs = 1 + torch.arange(moves * moves).reshape(moves, moves).T.reshape(-1)
    return torch.cat([torch.zeros(1, dtype=torch.int64), pairs])


def uniform_start(moves: int) -> Tensor:
    """Fictitious moves before round 0, all pairs equally likely: float64 `[1 + moves**2]`."""
    states = torch.full((1 + moves * moves,), 1.0 / (moves * moves), dtype=torch.float64)
    states[0] = 0.0
    return states


def with_trembles(policy: Tensor, noise: float) -> Tensor:
    """The table if, with probability `noise`, one of the other moves is played instead."""
    others = (policy.sum(dim=1, keepdim=True) - policy) / (policy.shape[1] - 1)
    return (1.0 - noise) * policy + noise * others


def _tables(learner: Tensor, opponent: Tensor, rewards: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All three at full size: `[1 + k*k, k]` twice, and `[1 + k*k, k, k]`."""
    k = learner.shape[-1]
    states = 1 + k * k
    for name, table in (("learner", learner), ("opponent", opponent)):
        if table.shape not in ((states, k), (1, k)):
            raise ValueError(f"{name} has shape {tuple(table.shape)}, expected {(states, k)}")
    if rewards.shape not in ((k, k), (states, k, k)):
        raise ValueError(f"rewards have shape {tuple(rewards.shape)}, expected {(k, k)}")
    return learner.expand(states, k), opponent.expand(states, k), rewards.expand(states, k, k)


def _reached(
    learner: Tensor, opponent: Tensor, rounds: int, start: Tensor | None, continuation: float
) -> list[Tensor]:
    """For each round the distribution over states, `[1 + k*k]`."""
    reached = [_start(learner, start)]
    for _ in range(rounds - 1):
        joint = _joint(reached[-1], learner, opponent)
        reached.append(continuation * _next_states(joint))
    return reached


def _start(learner: Tensor, start: Tensor | None) -> Tensor:
    """The distribution over states before round 0, `[1 + k*k]`."""
    if start is not None:
        return start.to(learner)
    states = learner.new_zeros(learner.shape[0])
    states[0] = 1.0
    return states


def _mirror_rows(policy: Tensor) -> Tensor:
    """The opponent's table with its rows in the order of the learner's states."""
    return policy[mirrored(policy.shape[1]).to(policy.device)]


def _joint(states: Tensor, learner: Tensor, opponent: Tensor) -> Tensor:
    """Probability of (state, own move, other's move), `[1 + k*k, k, k]`."""
    return states[:, None, None] * learner[:, :, None] * _mirror_rows(opponent)[:, None, :]


def _next_states(joint: Tensor) -> Tensor:
    """Distribution over the states after the round, `[1 + k*k]`."""
    return torch.cat([joint.new_zeros(1), joint.sum(dim=0).reshape(-1)])
