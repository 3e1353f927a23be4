"""The axelrod package's `Match`, drawing from our streams."""

from types import ModuleType
from typing import Any

import pytest

from comity.errors import ComityError
from comity.games.randomness import TREMBLE, generator
from comity.players.scripted.axelrod_package import package


def axelrod_or_skip() -> ModuleType:
    """The package, imported as we do it; skips a test where it is missing."""
    try:
        return package()
    except ComityError as error:
        pytest.skip(str(error))


class OurChances:
    """What one match of the package takes from its generator.

    `seeds`: of the players that mix, in seat order. Trembles are those of the environment seed.
    """

    def __init__(self, seeds: list[int], environment: int) -> None:
        self._seeds, self._environment, self._flips = iter(seeds), environment, 0

    def random_seed_int(self) -> int:
        return next(self._seeds)

    def random_flip(self, action: Any, noise: float) -> Any:
        """Called for seat 0 and then for seat 1, round by round."""
        number, seat = divmod(self._flips, 2)
        self._flips += 1
        flips = generator(self._environment, TREMBLE, number, seat).random() < noise
        return action.flip() if flips else action
