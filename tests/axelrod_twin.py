"""The axelrod package's `Match`, drawing from our streams."""

from typing import Any

from comity.games.randomness import TREMBLE, generator


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
