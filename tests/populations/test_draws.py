"""Random numbers by name: no order of use, no neighbour and no restart changes them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.games.randomness import POPULATION, generator
from comity.populations.streams import BLOCK, Draws, ranks

OWNERS = [("S", 0), ("S", 1), ("UT", 0)]


def expected(run: int, owner: tuple[str, int], count: int) -> np.ndarray:
    blocks = range(count // BLOCK + 1)
    name = (7, run, POPULATION, *owner, "moves")
    return np.concatenate([generator(*name, block).random(BLOCK) for block in blocks])[:count]


@given(st.lists(st.lists(st.integers(0, 5), min_size=0, max_size=40), max_size=8), st.data())
@settings(max_examples=25, deadline=None)
def test_rows_get_the_numbers_of_their_own_stream_in_order(
    calls: list[list[int]], data: st.DataObject
) -> None:
    draws = Draws(7, [2, 9], OWNERS, "moves", 300)
    got: list[list[float]] = [[] for _ in range(6)]
    # Starts near the end of a block, so that the next one is needed.
    skip = data.draw(st.sampled_from([0, 200, BLOCK - 3, 3 * BLOCK - 1]))
    for start in range(0, skip, 250):
        draws.many_each(min(250, skip - start))
    for call in calls:
        stream = np.array(call, dtype=int)
        rank, counts = ranks(stream, 6)
        for one, number in zip(call, draws.rows(stream, rank, counts), strict=True):
            got[one].append(number)
        again = Draws(7, [2, 9], OWNERS, "moves", 300)
        again.load(draws.save())
        draws = again
    for stream, numbers in enumerate(got):
        wanted = expected([2, 9][stream // 3], OWNERS[stream % 3], skip + len(numbers))
        assert numbers == wanted[skip:].tolist()


def test_one_for_everyone_crosses_blocks() -> None:
    draws = Draws(7, [0], OWNERS, "moves", 1)
    got = np.stack([draws.one_each()[0] for _ in range(2 * BLOCK + 5)])
    for column, owner in enumerate(OWNERS):
        assert np.array_equal(got[:, column], expected(0, owner, len(got)))


@given(st.lists(st.integers(0, 4), max_size=30))
def test_ranks_count_earlier_equal_rows(keys: list[int]) -> None:
    rank, counts = ranks(np.array(keys, dtype=int), 5)
    assert rank.tolist() == [keys[:place].count(key) for place, key in enumerate(keys)]
    assert counts.tolist() == [keys.count(key) for key in range(5)]
