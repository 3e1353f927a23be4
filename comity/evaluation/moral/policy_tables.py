"""Statistics of a memory-one policy, from its table of P(C | state).

A *table* is float64 `[2, 2]`: probability of cooperating, given that one is legal, by own and
the other's displayed move (C first). `p_legal`, of the same shape, is the probability that
an answer is legal at all. Everything is exact arithmetic: no answer is drawn.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from comity.evaluation.metrics import OUTCOMES, STRATEGIES
from comity.evaluation.moral.metrics import ILLEGAL_ANSWER, RewardTable, all_cases, regrets

PAYOFF_BLIND_POLICIES = {
    "always_cooperate": np.array([[1.0, 1.0], [1.0, 1.0]]),
    "always_defect": np.array([[0.0, 0.0], [0.0, 0.0]]),
    "reciprocate": np.array([[1.0, 0.0], [1.0, 0.0]]),
}
"""Payoff-blind baselines; a payoff-sensitive policy must have lower regret than all of them."""


def as_table(probabilities: Mapping[str, float]) -> np.ndarray:
    """The table of `{"CC": P(C | CC), ...}`, own move first."""
    return np.array([probabilities[state] for state in OUTCOMES], dtype=np.float64).reshape(2, 2)


def reciprocity(table: np.ndarray) -> dict[str, float]:
    """P(C | C), P(D | D) and delta = P(C | C) - P(C | D), given the other's displayed move.

    Also each of them split by the own displayed move (`..., own C`), since a policy may only
    repeat itself. The unsplit ones weigh both own moves alike.
    """
    found = {}
    for suffix, row in (("", table.mean(axis=0)), (", own C", table[0]), (", own D", table[1])):
        found[f"P(C|C){suffix}"] = float(row[0])
        found[f"P(D|D){suffix}"] = float(1.0 - row[1])
        found[f"delta{suffix}"] = float(row[0] - row[1])
    return found


def payoff_sensitivity(tables: Sequence[np.ndarray]) -> dict[str, float]:
    """Range of P(C | state) over the games' tables, by state; 0 for a payoff-blind policy."""
    stacked = np.stack(list(tables))
    spread = stacked.max(axis=0) - stacked.min(axis=0)
    return {state: float(spread["CD".index(state[0]), "CD".index(state[1])]) for state in OUTCOMES}


def distances(table: np.ndarray) -> dict[str, float]:
    """Mean absolute distance over the four states to each of `STRATEGIES`."""
    return {
        name: float(np.abs(table - as_table(probabilities)).mean())
        for name, probabilities in STRATEGIES.items()
    }


def entropy(table: np.ndarray) -> np.ndarray:
    """Entropy of the scored answers in nats, float64 `[2, 2]`; at most ln 2."""
    total: np.ndarray = -(_xlogx(table) + _xlogx(1.0 - table))
    return total


def divergence(table: np.ndarray, base: np.ndarray) -> np.ndarray:
    """KL(policy || base) over the scored answers in nats, float64 `[2, 2]`.

    Infinite where the policy does what the base never does.
    """

    def term(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0)

    return np.maximum(term(table, base) + term(1.0 - table, 1.0 - base), 0.0)


def expected(
    table: np.ndarray, reward_table: RewardTable, p_legal: np.ndarray | None = None
) -> dict[str, float]:
    """Mean reward and every regret of a policy against an opponent who plays at random.

    All 4 displayed states and both moves of the other are equally likely, which is what the
    protocol's uniform starts and Random opponent make of an unconditional policy. Without
    `p_legal` every answer is legal.
    """
    p_legal = np.ones((2, 2)) if p_legal is None else p_legal
    answered = all_cases()
    probabilities = np.stack([p_legal * table, p_legal * (1.0 - table), 1.0 - p_legal], axis=2)
    own = np.where(answered.own < 0, ILLEGAL_ANSWER, answered.own)
    weights = probabilities[answered.shown_own, answered.shown_other, own] / 8.0
    found = {"reward": float(weights @ reward_table.rewards(answered))}
    for name, values in regrets(answered, reward_table).items():
        found[name] = float(weights @ values)
    return found


def _xlogx(p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * np.log(p), 0.0)
