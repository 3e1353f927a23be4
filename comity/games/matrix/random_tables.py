"""Symmetric games of two moves whose payoffs are sampled per match.

The order of the four payoffs is fixed and defines the dilemma; the numbers vary, so that a policy
cannot memorize them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

from comity.errors import ComityError
from comity.games.lengths import make_length
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.stages import OUTCOMES, MatrixStage
from comity.games.matrix.tables import COOPERATE_DEFECT, DEFAULT_LENGTH, LengthChoice
from comity.games.randomness import PAYOFFS, generator

MAX_TRIES = 10_000


@dataclass(frozen=True)
class OrderedPayoffs:
    """Four distinct integers in a given order, uniform over all that satisfy the constraints."""

    order: tuple[str, ...]
    """`OUTCOMES` from a seat's largest payoff to its smallest."""
    low: int
    """Least payoff."""
    high: int
    """Largest payoff."""
    efficient: bool
    """Both cooperating pays more than taking turns at exploiting: 2 CC > CD + DC."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(self.order))
        if sorted(map(str, self.order)) != sorted(OUTCOMES):
            raise ComityError(f"order must name {', '.join(OUTCOMES)} once each, best first")
        if self.high - self.low < 3:
            raise ComityError(
                f"four different payoffs need high to be at least low + 3, not {self.low} and "
                f"{self.high}"
            )
        self.draw(0)

    def enumerate_all(self, most: int) -> list[dict[str, int]] | None:
        """Own payoffs by outcome for every possible table; None if there are more than `most`.

        All are equally likely.
        """
        # Larger ranges are too expensive to enumerate.
        if comb(self.high - self.low + 1, 4) > 100 * most:
            return None
        found = [
            payoff
            for numbers in combinations(range(self.low, self.high + 1), 4)
            if self._fits(payoff := dict(zip(self.order, reversed(numbers), strict=True)))
        ]
        return found if len(found) <= most else None

    def _fits(self, payoff: dict[str, int]) -> bool:
        return not self.efficient or 2 * payoff["CC"] > payoff["CD"] + payoff["DC"]

    def draw(self, seed: int) -> dict[str, int]:
        """Own payoff of every outcome in the match with this environment seed."""
        rng = generator(seed, PAYOFFS)
        for _ in range(MAX_TRIES):
            numbers = rng.choice(self.high - self.low + 1, size=4, replace=False) + self.low
            found = dict(zip(self.order, sorted(map(int, numbers), reverse=True), strict=True))
            if self._fits(found):
                return found
        raise ComityError(
            f"no payoffs from {self.low} to {self.high} in this order fulfil 2 CC > CD + DC; "
            "set efficient=false"
        )


@dataclass(frozen=True, kw_only=True)
class RandomTables(Iterated):
    """An iterated game with a payoff table sampled per match; `stage` is one example."""

    distribution: OrderedPayoffs

    def sample_instance(self, seed: int) -> Iterated:
        """The game with the table of this match."""
        return self._with(self.distribution.draw(seed))

    def tables(self, most: int) -> tuple[list[Iterated], bool]:
        """Equally likely games, and whether these are all possible ones.

        If there are more than `most`, those of the first `most` seeds.
        """
        every = self.distribution.enumerate_all(most)
        if every is None:
            return [self.sample_instance(seed) for seed in range(most)], False
        return [self._with(payoff) for payoff in every], True

    def _with(self, payoff: dict[str, int]) -> Iterated:
        stage = _stage(self.stage.title, payoff)
        return Iterated(stage, self.length, self.noise, self.illegal, self.initial_state)


def _stage(title: str, payoff: dict[str, int]) -> MatrixStage:
    cells = tuple(
        tuple((payoff[own + other], payoff[other + own]) for other in "CD") for own in "CD"
    )
    return MatrixStage(title, COOPERATE_DEFECT, cells)


def random_dilemma(
    order: Sequence[str] = ("DC", "CC", "DD", "CD"),
    low: int = 0,
    high: int = 9,
    efficient: bool = True,
    title: str = "Dilemma",
    length: LengthChoice = DEFAULT_LENGTH,
    noise: float = 0.0,
    illegal: str = "as_defect",
    initial_state: str | tuple[str, ...] = "none",
) -> RandomTables:
    """A dilemma whose payoffs are sampled per match, by default in the order of the prisoner's.

    Four different whole numbers from `low` to `high`.
    """
    distribution = OrderedPayoffs(tuple(order), low, high, efficient)
    return RandomTables(
        stage=_stage(title, distribution.draw(0)),
        length=make_length(length),
        noise=noise,
        illegal=illegal,
        initial_state=initial_state,
        distribution=distribution,
    )
