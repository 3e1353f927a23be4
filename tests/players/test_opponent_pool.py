"""Who is drawn from the past: counted over many groups, and properties of every draw."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.config.compose import compose
from comity.experiments.rules import check_training
from comity.games.randomness import generator
from comity.players.opponent_pool import (
    CURRENT_POLICIES,
    Opponent,
    OpponentProbabilities,
    available_snapshots,
    learning_seat,
    sample_opponent,
)

DRAWS = 4000


def near(count: int, chance: float, of: int = DRAWS) -> bool:
    """Within four standard deviations of the binomial law."""
    return abs(count - of * chance) < 4 * np.sqrt(of * chance * (1 - chance))


def draws(
    chances: OpponentProbabilities, snapshots: list[int], scripted: int = 0
) -> list[Opponent]:
    streams = (generator(7, "past", k // 10, k % 10) for k in range(DRAWS))
    return [sample_opponent(rng, chances, snapshots, scripted) for rng in streams]


def test_opponents_are_drawn_as_often_as_asked() -> None:
    found = draws(OpponentProbabilities(past=0.6, scripted=0.25), [4], scripted=2)
    assert near(found.count(CURRENT_POLICIES), 0.4)
    scripts = Counter(one.scripted for one in found if one.scripted is not None)
    assert scripts.keys() == {0, 1} and all(near(n, 0.6 * 0.25 / 2) for n in scripts.values())
    past = Counter(one.past for one in found if one.past)
    assert past.keys() == {(0,), (1,), (2,), (3,)}
    assert all(near(n, 0.6 * 0.75 / 4) for n in past.values())


@pytest.mark.parametrize("algorithm", ["reinforce", "advantage_alignment"])
def test_the_mixed_pool_is_half_strategies_and_a_quarter_past(algorithm: str) -> None:
    config = compose("ipd", ["opponent_pool=mixed", f"algorithm={algorithm}"])
    check_training(config)
    pool = config.opponent_pool
    assert pool is not None
    chances = OpponentProbabilities(pool.probability, pool.scripted_probability)
    found = draws(chances, [4], len(pool.scripted))
    scripts = Counter(one.scripted for one in found if one.scripted is not None)
    assert len(scripts) == 6 and near(scripts.total(), pool.probability * 0.67)
    assert near(found.count(CURRENT_POLICIES), 0.25)


def test_probabilities_of_nought_and_one_are_kept_exactly() -> None:
    assert set(draws(OpponentProbabilities(past=0.0, scripted=1.0), [3], 1)) == {CURRENT_POLICIES}
    assert set(draws(OpponentProbabilities(past=1.0, scripted=0.0), [1], 1)) == {
        Opponent(past=(0,))
    }
    assert set(draws(OpponentProbabilities(past=1.0, scripted=1.0), [3], 1)) == {
        Opponent(scripted=0)
    }


def test_without_snapshots_the_present_policies_play_but_scripts_still_may() -> None:
    assert set(draws(OpponentProbabilities(past=1.0), [0, 0])) == {CURRENT_POLICIES}
    found = draws(OpponentProbabilities(past=1.0, scripted=0.25), [0], 1)
    assert near(found.count(Opponent(scripted=0)), 0.25)
    assert set(found) == {CURRENT_POLICIES, Opponent(scripted=0)}


def test_the_learners_snapshots_are_drawn_independently() -> None:
    pairs = Counter(one.past for one in draws(OpponentProbabilities(past=1.0), [2, 2]))
    assert len(pairs) == 4 and all(near(n, 1 / 4) for n in pairs.values())


def test_more_snapshots_move_no_other_chance() -> None:
    """Whether a group faces the past, and whether a script, does not hang on the buffer."""
    few, many = (
        draws(OpponentProbabilities(0.5, 0.5), [1], 1),
        draws(OpponentProbabilities(0.5, 0.5), [9], 1),
    )
    for one, other in zip(few, many, strict=True):
        assert one.scripted == other.scripted and bool(one.past) == bool(other.past)


@given(
    st.lists(st.integers(), unique=True, max_size=12),
    st.none() | st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 99),
)
def test_what_is_available_keeps_order_capacity_and_the_newest(
    snapshots: list[int], recent: int | None, capacity: int, seed: int
) -> None:
    found = available_snapshots(snapshots, recent, capacity, np.random.default_rng(seed))
    newest = snapshots[-recent:] if recent is not None else snapshots
    assert len(found) == min(len(newest), capacity)
    assert len(set(found)) == len(found) and set(found) <= set(newest)
    places = [snapshots.index(one) for one in found]
    assert all(one < other for one, other in pairwise(places))


def test_over_capacity_every_snapshot_is_as_likely_as_another() -> None:
    count: Counter[int] = Counter()
    for k in range(DRAWS):
        count.update(available_snapshots(range(6), None, 2, generator(0, "past", "available", k)))
    assert len(count) == 6 and all(near(n, 2 / 6) for n in count.values())


def test_seats_take_turns_also_with_one_group_an_iteration() -> None:
    assert [learning_seat(number, [0, 1, 2]) for number in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert [learning_seat(number, [0, 2]) for number in range(4)] == [0, 2, 0, 2]
