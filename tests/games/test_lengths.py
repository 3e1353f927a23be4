"""Numbers of rounds that are drawn before the matches begin."""

import numpy as np
import pytest

from comity.errors import ComityError
from comity.games.lengths import Fixed, Geometric, SampledLength


def test_a_drawn_number_follows_its_law() -> None:
    distribution, count = Geometric(0.7, 4), 20_000
    rng = np.random.default_rng(0)
    rounds = [SampledLength.sample(distribution, rng).rounds for _ in range(count)]
    expected = [0.3, 0.3 * 0.7, 0.3 * 0.7**2, 0.7**3]
    for length, p in enumerate(expected, start=1):
        share = rounds.count(length) / count
        assert abs(share - p) < 4.5 * np.sqrt(p * (1 - p) / count)
    assert {SampledLength.sample(Fixed(3), rng).rounds for _ in range(5)} == {3}
    assert {SampledLength.sample(Geometric(1, 6), rng).rounds for _ in range(5)} == {6}


def test_it_ends_after_what_was_drawn_and_tells_of_the_law() -> None:
    distribution = Geometric(0.85, 30, draw="batch")
    shared = SampledLength(distribution, 2)
    assert [shared.continuation(n) for n in (1, 2, 3)] == [1.0, 0.0, 0.0]
    assert (
        (shared.longest, shared.expected)
        == (distribution.longest, distribution.expected)
        == (30, distribution.expected)
    )


def test_unknown_draws_are_refused() -> None:
    with pytest.raises(ComityError, match="batch"):
        Geometric(0.85, 30, draw="bacth")
