"""Derived randomness: stable, distinct, uniform."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.games.randomness import generator

IDENTITY = st.lists(st.integers() | st.text(max_size=5), max_size=4)


@settings(deadline=None)
@given(IDENTITY, IDENTITY)
def test_equal_streams_only_for_equal_identities(a: list[int | str], b: list[int | str]) -> None:
    same = generator(*a).integers(2**63) == generator(*b).integers(2**63)
    assert same == (a == b)


def test_identities_that_a_plain_seed_sequence_confuses() -> None:
    def words(entropy: int | list[int]) -> list[int]:
        return np.random.SeedSequence(entropy).generate_state(4).tolist()

    assert words([1, 2]) == words([1 + 2 * 2**32])
    assert generator(1, 2).random() != generator(1 + 2 * 2**32).random()
    assert generator("1").random() != generator(1).random()


def test_numpy_integers_count_as_integers_and_floats_are_refused() -> None:
    assert generator(np.int64(7), "x").random() == generator(7, "x").random()
    with pytest.raises(TypeError):
        generator(7.0)  # type: ignore[arg-type]


def test_streams_are_the_same_in_another_process() -> None:
    code = (
        "from comity.games.randomness import generator; print(generator(3, 'tremble', -1).random())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "12345", "PYTHONPATH": ":".join(sys.path)},
    )
    assert float(other.stdout) == generator(3, "tremble", -1).random()


def test_first_draws_over_seeds_are_uniform() -> None:
    draws = np.array([generator(seed, "stream").random() for seed in range(2000)])
    counts, _ = np.histogram(draws, bins=10, range=(0, 1))
    chi_square = float((((counts - 200) ** 2) / 200).sum())
    assert chi_square < 27.9  # the 0.1 % point with 9 degrees of freedom
