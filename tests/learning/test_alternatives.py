"""Credit from alternatives that were tried: worked examples, and a loop that says the same."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.learning.advantages import estimate_advantages
from comity.learning.algorithms.advantage_alignment import AdvantageAlignment
from comity.learning.algorithms.reinforce import Reinforce

NAN = float("nan")


def tree(rewards: Any) -> np.ndarray:
    return np.array(rewards, dtype=float)


def test_branches_worked_example() -> None:
    """r = (1, 0, 2), discount 0.5: returns (1.5, 1, 2) less what the alternatives returned."""
    rewards = tree([[[1, 0, 2]], [[0, 2, 4]]])
    alive = np.ones((2, 3), bool)
    alternatives = tree([[[1, 0.5, NAN]], [[NAN, 2, 5]]])
    settings: dict[str, Any] = {
        "discount": 0.5,
        "whiten": False,
        "estimator": "branches",
        "alternatives": 2,
        "baseline": "batch",
    }
    found = estimate_advantages(rewards, alive, Reinforce(**settings), alternatives=alternatives)
    # Nothing was tried: the other match is the baseline (2 - 4 and 2 - 1.5).
    assert found.advantages == pytest.approx(tree([[[0.5, 0.5, -2]], [[0.5, 2, -1]]]))
    # Over one round more: (1, 1, 2) and (1, 4, 4); where nothing was tried, as before.
    near = Reinforce(**settings, branch_depth=1)
    found = estimate_advantages(rewards, alive, near, alternatives=alternatives)
    assert found.advantages == pytest.approx(tree([[[0, 0.5, -2]], [[0.5, 2, -1]]]))
    scaled = Reinforce(**settings, reward_scale=2)
    found = estimate_advantages(rewards, alive, scaled, alternatives=alternatives)
    assert found.advantages == pytest.approx(tree([[[0.25, 0.25, -1]], [[0.25, 1, -0.5]]]))


def test_the_branch_form_worked_example() -> None:
    """Both seats, two rounds: w_1 = 0.5 x 0.5 x (mean of what was tried, less the others')."""
    rewards = tree([[[4, 2], [1, 1]], [[0, 0], [3, 5]]])
    alive = np.ones((2, 2), bool)
    alternatives = tree([[[2, 9], [3, 9]], [[6, 9], [NAN, 9]]])
    common: dict[str, Any] = {
        "discount": 0.5,
        "branched": True,
        "alternatives": 3,
        "baseline": "batch",
        "weight": 1.0,
    }
    # Returns (5, 2), (1.5, 1) and (0, 0), (5.5, 5); advantages (5, 2), (-4, -4) and reversed.
    # With the trunk: (3x2+5)/4 = 2.75 against (3x6+0)/4 = 4.5: -1.75; (3x3+1.5)/4 = 2.625
    # against 5.5, for nothing was tried: -2.875.
    found = estimate_advantages(
        rewards, alive, AdvantageAlignment(**common), alternatives=alternatives
    )
    w = 0.25 * np.array([-1.75, -2.875])
    assert found.advantages[0] == pytest.approx(tree([[5, 2 - 4 * w[0]], [-4, -4 + 2 * w[1]]]))
    assert found.advantages[1] == pytest.approx(tree([[-5, -2 - 4 * w[0]], [4, 4 + 2 * w[1]]]))
    without = AdvantageAlignment(**common, include_trunk=False)
    found = estimate_advantages(rewards, alive, without, alternatives=alternatives)
    w = 0.25 * np.array([2 - 6, 3 - 5.5])
    assert found.advantages[0] == pytest.approx(tree([[5, 2 - 4 * w[0]], [-4, -4 + 2 * w[1]]]))


@given(
    st.integers(0, 10_000),
    st.booleans(),
    st.sampled_from([None, 0, 1]),
    st.sampled_from(["baseline", "branches"]),
    st.sampled_from(["past", "past_plain", "present", "sum"]),
    st.sampled_from(["leave_one_out", "batch"]),
)
def test_credit_is_the_loop(
    seed: int, trunk: bool, depth: int | None, estimator: str, form: str, baseline: str
) -> None:
    rng = np.random.default_rng(seed)
    matches, rounds, count = 4, 3, 2
    lengths = rng.integers(1, rounds + 1, matches)
    alive = np.arange(rounds) < lengths[:, None]
    rewards = rng.normal(size=(matches, 2, rounds)) * alive[:, None]
    tried = rng.normal(size=rewards.shape)
    tried[(rng.random(rewards.shape) < 0.3) | ~np.repeat(alive[:, None], 2, 1)] = NAN
    groups = np.arange(matches) // 2
    g, h, weight = 0.9, 0.7, 1.5
    settings = AdvantageAlignment(
        discount=g,
        alignment_discount=h,
        weight=weight,
        form=form,
        estimator=estimator,
        branched=True,
        include_trunk=trunk,
        alternatives=count,
        branch_depth=depth,
        baseline=baseline,  # type: ignore[arg-type]
    )
    found = estimate_advantages(rewards, alive, settings, groups, alternatives=tried).advantages

    def ahead(m: int, i: int, t: int, longest: int | None) -> float:
        last = lengths[m] if longest is None else min(lengths[m], t + longest + 1)
        return sum(g ** (s - t) * rewards[m, i, s] for s in range(t, last))

    def less(values: dict[tuple[int, int, int], float], m: int, i: int, t: int) -> float:
        pool = [
            values[n, i, t]
            for n in range(matches)
            if n != m and lengths[n] > t and (baseline == "batch" or groups[n] == groups[m])
        ]
        return values[m, i, t] - (sum(pool) / len(pool) if pool else 0.0)

    entries = [(m, i, t) for m in range(matches) for i in range(2) for t in range(lengths[m])]
    returns = {place: ahead(*place, None) for place in entries}
    mean, advantage = {}, {}
    for place in entries:
        near, other = ahead(*place, depth), tried[place]
        mean[place] = near if np.isnan(other) else other
        if trunk:
            mean[place] = (count * mean[place] + near) / (count + 1)
        advantage[place] = less(returns, *place)
        if estimator == "branches" and not np.isnan(other):
            advantage[place] = near - other
    branched = {place: less(mean, *place) for place in entries}
    for m, i, t in entries:
        past = sum(h ** (t - k) * branched[m, i, k] for k in range(t))
        w = {
            "past": h * past,
            "past_plain": past,
            "present": past + branched[m, i, t],
            "sum": 1.0,
        }[form]
        expected = advantage[m, i, t] + weight * w * advantage[m, 1 - i, t]
        assert found[m, i, t] == pytest.approx(expected)
    assert (found[~np.repeat(alive[:, None], 2, 1)] == 0).all()
