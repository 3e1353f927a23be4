"""Advantage Alignment against its worked vectors and a loop that says the same, slowly."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.learning.advantages import StepRewards, estimate_advantages
from comity.learning.algorithms.advantage_alignment import AdvantageAlignment
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.credit.advantage_alignment import (
    FORMS,
    AlignmentSettings,
    align_advantages,
    alignment_weights,
)
from comity.learning.credit.returns import baseline, discounted_returns
from comity.rollout.records import Decision
from tests.runs.rows import DECISION_ROW

PAIR = np.array([[[2.0, -1, 3], [1, 4, -2]]])
"""Advantages of two seats in one match."""
ALIVE = np.ones((1, 3), bool)


@pytest.mark.parametrize(
    ("settings", "weights", "credit"),
    [
        ({}, [0, 1.62, 0.648], [2, 2.24, 2.352]),
        ({"form": "past_plain"}, [0, 1.8, 0.72], [2, 2.6, 2.28]),
        ({"form": "present"}, [2, 0.8, 3.72], [3, 0.6, -0.72]),
        ({"form": "present", "average": True}, [2, 0.4, 1.24], [3, -0.2, 1.76]),
        ({"form": "present", "sign": True, "weight": 1.0}, [1, 1, 1], [3, 3, 1]),
        ({"form": "present", "clip": 1.0}, [1, 0.8, 1], [2.5, 0.6, 2]),
        # By hand: S = (0, 1.8, 0.72), and 0.9^t of the present advantage.
        ({"form": "present_discounted"}, [2, 0.9, 3.15], [3, 0.8, -0.15]),
        ({"unit_start": True}, [1, 1.62, 0.648], [2.5, 2.24, 2.352]),
        ({"form": "sum", "weight": 1.0}, [1, 1, 1], [3, 3, 1]),
    ],
)
def test_worked_vectors(
    settings: dict[str, Any], weights: list[float], credit: list[float]
) -> None:
    one = AlignmentSettings(**{"weight": 0.5, "discount": 0.9, **settings})
    np.testing.assert_allclose(alignment_weights(PAIR, ALIVE, one)[0, 0], weights, atol=1e-12)
    np.testing.assert_allclose(align_advantages(PAIR, ALIVE, one)[0, 0], credit, atol=1e-12)


def test_the_order_is_sign_clip_average_start() -> None:
    one = AlignmentSettings("present", sign=True, clip=0.5, average=True, unit_start=True)
    np.testing.assert_allclose(
        alignment_weights(-PAIR, ALIVE, one)[0, 0], [1, -0.25, -0.5 / 3], atol=1e-12
    )


@pytest.mark.parametrize("form", ["past", "present"])
def test_with_equal_own_returns_the_sign_is_0_and_not_that_of_a_rounding_error(form: str) -> None:
    rewards = np.array([[[1.0] * 3, [5.0, m, 1.0]] for m in range(4)])
    algorithm = AdvantageAlignment(form=form, sign=True, discount=0.9, baseline="batch")
    found = estimate_advantages(rewards, np.ones((4, 3), bool), algorithm)
    np.testing.assert_allclose(found.advantages[:, 0], 0, atol=1e-12)


# The definition, entry by entry.


def loop_weight(own: np.ndarray, settings: AlignmentSettings, t: int) -> float:
    """w_t of one seat with its own advantages `[step]`, by the sums of the definition."""
    g = settings.discount
    past = sum(g ** (t - k) * own[k] for k in range(t))
    w = {
        "past": g * past,
        "past_plain": past,
        "present": past + own[t],
        "present_discounted": past + g**t * own[t],
        "sum": 1.0,
    }[settings.form]
    if settings.sign:
        w = float(w > 0) - float(w < 0)
    if settings.clip is not None:
        w = min(max(w, -settings.clip), settings.clip)
    if settings.average:
        w /= t + 1
    if settings.unit_start and t == 0:
        w = 1.0
    return w


def loop_aligned(
    advantages: np.ndarray,
    alive: np.ndarray,
    settings: AlignmentSettings,
    branched: np.ndarray,
    present: np.ndarray,
    trained: np.ndarray,
) -> np.ndarray:
    matches, seats, _ = advantages.shape
    parts = np.zeros(advantages.shape)
    for b, i, t in np.ndindex(advantages.shape):
        if not (alive[b, t] and present[b, i]):
            continue
        w = loop_weight(branched[b, i], settings, t)
        for j in range(seats):
            if j != i and present[b, j]:
                omega = 1.0 if settings.peers == "sum" else 1.0 / (seats - 1)
                parts[b, i, t] += w * omega * advantages[b, j, t]
    result = np.zeros(advantages.shape)
    for i in range(seats):
        scale = 1.0
        some = [b for b in range(matches) if trained[b, i]]
        if settings.variance_match and len(some) > 1:
            last = [int(alive[b].sum()) - 1 for b in some]
            own = [
                advantages[b, i, t] if present[b, i] else 0.0
                for b, t in zip(some, last, strict=True)
            ]
            other = [parts[b, i, t] for b, t in zip(some, last, strict=True)]
            scale = float(np.std(own, ddof=1) / (np.std(other, ddof=1) + 1e-10))
        for b, t in np.argwhere(alive):
            if present[b, i]:
                own_part = advantages[b, i, t]
                result[b, i, t] = own_part + settings.weight * scale * parts[b, i, t]
    return result


@st.composite
def batches(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Matches of unequal lengths between three seats, some absent, some not trained."""
    lengths = np.array(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (len(lengths), draw(st.sampled_from([1, 2, 3, 3])), int(lengths.max()))
    return {
        "advantages": random.normal(size=shape),
        "branched": random.normal(size=shape),
        "alive": np.arange(shape[2]) < lengths[:, None],
        "present": random.random(shape[:2]) < draw(st.sampled_from([0.7, 1.0])),
        "trained": random.random(shape[:2]) < draw(st.sampled_from([0.6, 1.0])),
    }


options = st.fixed_dictionaries(
    {
        "form": st.sampled_from(list(FORMS)),
        "discount": st.sampled_from([0.0, 0.7, 1.0]),
        "clip": st.sampled_from([None, 0.3]),
        "average": st.booleans(),
        "unit_start": st.booleans(),
        "peers": st.sampled_from(["mean", "sum"]),
        "variance_match": st.booleans(),
    }
)
signs = st.sampled_from([{"sign": True}, {"sign": False, "weight": 0.4}])


@settings(max_examples=60)
@given(batches(), options, signs, st.booleans())
def test_every_option_equals_the_loop(
    batch: dict[str, np.ndarray], option: dict[str, Any], sign: dict[str, Any], branch: bool
) -> None:
    chosen = AlignmentSettings(**option, **sign)
    advantages, alive = batch["advantages"], batch["alive"]
    branched = batch["branched"] if branch else None
    present, trained = batch["present"], batch["trained"]
    ours = align_advantages(advantages, alive, chosen, None, branched, present, trained)
    own = advantages if branched is None else branched
    expected = loop_aligned(advantages, alive, chosen, own, present, trained)
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)
    # What lies behind the end is not read.
    here = np.broadcast_to(alive[:, None, :], advantages.shape)
    spoiled = np.where(here, advantages, np.nan)
    again = align_advantages(spoiled, alive, chosen, None, branched, present, trained)
    np.testing.assert_array_equal(ours, again)


@pytest.mark.parametrize("form", FORMS)
def test_finite_at_discount_0(form: str) -> None:
    weights = alignment_weights(PAIR, ALIVE, AlignmentSettings(form, discount=0.0))
    expected = {
        "past": [0, 0, 0],
        "past_plain": [0, 0, 0],
        "present": [2, -1, 3],
        "present_discounted": [2, 0, 0],
        "sum": [1, 1, 1],
    }
    np.testing.assert_array_equal(weights[0, 0], expected[form])


def test_peers_count_alike_for_two_seats_and_not_for_three() -> None:
    mean, total = AlignmentSettings("present"), AlignmentSettings("present", peers="sum")
    np.testing.assert_array_equal(
        align_advantages(PAIR, ALIVE, mean), align_advantages(PAIR, ALIVE, total)
    )
    three = np.array([[[1.0], [2.0], [6.0]]])
    alive = np.ones((1, 1), bool)
    np.testing.assert_allclose(align_advantages(three, alive, mean)[0, :, 0], [1 + 4, 2 + 7, 6 + 9])
    np.testing.assert_allclose(
        align_advantages(three, alive, total)[0, :, 0], [1 + 8, 2 + 14, 6 + 18]
    )


def test_the_weight_is_halved_down_to_a_tenth() -> None:
    one = AlignmentSettings(weight=0.5, anneal_matches=100)
    found = [one.weight_at(iteration, 64) for iteration in range(7)]
    # 0, 64, 128, 192, 256, 320 and 384 matches before.
    assert found == [0.5, 0.5, 0.25, 0.25, 0.125, 0.1, 0.1]
    assert one.weight_at(10**9, 64) == 0.1
    assert AlignmentSettings(weight=0.05, anneal_matches=1).weight_at(9, 1) == 0.05
    assert AlignmentSettings(weight=0.5).weight_at(9, 1) == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "pasts"}, "past"),
        ({"weight": -0.1}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"sign": True, "weight": 0.5}, "weight=1"),
        ({"sign": True, "anneal_matches": 5}, "annealing"),
        ({"clip": 0.0}, "clip"),
        ({"alignment_discount": 1.1}, "alignment_discount"),
        ({"peers": "median"}, "mean"),
        ({"anneal_matches": 0}, "anneal_matches"),
        ({"discount": 2.0}, "discount"),
        ({"credit_steps": "turns"}, "rounds"),
        ({"reward_scale": 0.0}, "reward_scale"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ComityError, match=message):
        AdvantageAlignment(**settings)


# In the whole of credit.


def batch(seed: int = 0, seats: int = 2) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "rewards": random.normal(size=(6, seats, 4)),
        "alive": np.arange(4) < random.integers(1, 5, size=6)[:, None],
        "groups": np.arange(6) // 3,
        "trained": np.arange(6)[:, None] // 3 == np.arange(seats),
    }


def loops(one: dict[str, np.ndarray], discount: float) -> np.ndarray:
    """Leave-one-out advantages inside the groups, trained or not."""
    rewards, alive, groups = one["rewards"], one["alive"], one["groups"]
    returns = discounted_returns(rewards, alive, discount)
    found = np.zeros(returns.shape)
    for b, i, t in np.ndindex(returns.shape):
        if alive[b, t]:
            pool = [
                returns[o, i, t]
                for o in range(len(returns))
                if o != b and groups[o] == groups[b] and alive[o, t]
            ]
            found[b, i, t] = returns[b, i, t] - (np.mean(pool) if pool else 0.0)
    return found


def test_untrained_seats_have_the_same_advantages_and_count_as_peers() -> None:
    one = batch()
    settings = AdvantageAlignment(0.8, "leave_one_out", alignment_discount=0.7, weight=0.6)
    ours = estimate_advantages(**one, algorithm=settings).advantages
    advantages = loops(one, 0.8)
    alignment = AlignmentSettings(weight=0.6, discount=0.7)
    everybody = np.ones(advantages.shape[:2], bool)
    expected = loop_aligned(advantages, one["alive"], alignment, advantages, everybody, everybody)
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    untrained = ~one["trained"]
    assert np.abs(ours[untrained]).max() > 0


@pytest.mark.parametrize("baseline_name", ["leave_one_out", "batch", "batch_pooled"])
def test_the_sum_of_advantages_is_the_advantage_of_the_sum(baseline_name: str) -> None:
    """Sum of rewards, form 1 and form 2, with pools that are shared by the seats."""
    one = batch(1, seats=3)
    form_1 = AdvantageAlignment(0.9, baseline_name, form="sum", peers="sum")
    everybody = {**one, "trained": np.ones((6, 3), bool)}
    ours = estimate_advantages(**everybody, algorithm=form_1).advantages
    together = np.broadcast_to(one["rewards"].sum(axis=1, keepdims=True), one["rewards"].shape)
    form_2 = Reinforce(0.9, baseline_name, whiten=False)
    theirs = estimate_advantages(**{**everybody, "rewards": together}, algorithm=form_2).advantages
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_weight_0_is_reinforce_to_the_last_bit() -> None:
    one = {**batch(2), "trained": np.ones((6, 2), bool)}
    naive = estimate_advantages(
        **one, algorithm=Reinforce(0.9, "leave_one_out", whiten=True)
    ).advantages
    settings = AdvantageAlignment(0.9, "leave_one_out", whiten=True, weight=0.0)
    np.testing.assert_array_equal(estimate_advantages(**one, algorithm=settings).advantages, naive)


@pytest.mark.parametrize("whiten", [True, "round", "center"])
def test_the_finished_credit_is_whitened_over_what_is_trained(whiten: bool | str) -> None:
    one = batch(3)
    plain = estimate_advantages(**one, algorithm=AdvantageAlignment(whiten=False)).advantages
    ours = estimate_advantages(**one, algorithm=AdvantageAlignment(whiten=whiten)).advantages
    valid = one["alive"][:, None, :] & one["trained"][:, :, None]
    for t in range(4) if whiten == "round" else [slice(None)]:
        pool = plain[..., t][valid[..., t]]
        if len(pool) > 1:
            deviation = 1.0 if whiten == "center" else pool.std(ddof=1) + 1e-9
            np.testing.assert_allclose(
                ours[..., t][valid[..., t]], (pool - pool.mean()) / deviation, atol=1e-9
            )


def test_scale_visitation_and_annealing_reach_the_credit() -> None:
    one = batch(4)
    plain = estimate_advantages(**one, algorithm=AdvantageAlignment(weight=0.8))
    halved = AdvantageAlignment(weight=0.8, anneal_matches=6)
    later = estimate_advantages(**one, algorithm=halved, iteration=1)
    expected = estimate_advantages(**one, algorithm=AdvantageAlignment(weight=0.4)).advantages
    np.testing.assert_array_equal(later.advantages, expected)
    fading = estimate_advantages(
        **one, algorithm=AdvantageAlignment(weight=0.8, visitation_discount=True)
    )
    np.testing.assert_allclose(fading.advantages, plain.advantages * 0.9 ** np.arange(4))
    scaled = estimate_advantages(**one, algorithm=AdvantageAlignment(weight=0.8, reward_scale=5.0))
    np.testing.assert_allclose(scaled.returns, plain.returns / 5)
    # The others' part is a product of two advantages.
    own = plain.returns - baseline(plain.returns, one["alive"], "batch")
    np.testing.assert_allclose(
        scaled.advantages, own / 5 + (plain.advantages - own) / 25, atol=1e-12
    )


def asked(match: int, seat: int, round: int, step: int, trained: bool = True) -> Decision:
    row = replace(DECISION_ROW, match=match, seat=seat, round=round, step=step, trained=trained)
    return row if trained else replace(row, controller="frozen")


def test_talk_belongs_to_its_round_or_is_a_step_of_its_own() -> None:
    """Match 5: seat 0 talks, seat 1 talks, both claim, twice; match 6: one round of claims."""
    found = [
        *(asked(5, s, r, t, s == 1) for r in (0, 1) for s, t in ((0, 0), (1, 1), (0, 2), (1, 2))),
        *(asked(6, s, 0, 0) for s in (0, 1)),
    ]
    rewards = np.array([[[3.0, 4.0], [5.0, 6.0]], [[7.0, 0.0], [8.0, 0.0]]])
    alive = np.array([[1, 1], [1, 0]], dtype=bool)
    rounds = StepRewards.of(found, rewards, alive, "rounds")
    np.testing.assert_array_equal(rounds.rewards, rewards)
    np.testing.assert_array_equal(rounds.trained, [[False, True], [True, True]])
    assert rounds.decision_steps[:4] == ((0, 0, 0), (0, 1, 0), (0, 0, 0), (0, 1, 0))
    assert rounds.decision_steps[7:] == ((0, 1, 1), (1, 0, 0), (1, 1, 0))
    steps = StepRewards.of(found, rewards, alive, "steps")
    np.testing.assert_array_equal(steps.rewards[0], [[0, 0, 3, 0, 0, 4], [0, 0, 5, 0, 0, 6]])
    np.testing.assert_array_equal(steps.rewards[1, :, :1], [[7], [8]])
    np.testing.assert_array_equal(steps.alive.sum(axis=1), [6, 1])
    assert [place[2] for place in steps.decision_steps] == [0, 1, 2, 2, 3, 4, 5, 5, 0, 0]
