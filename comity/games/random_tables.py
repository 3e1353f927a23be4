"""Symmetric games of two moves whose payoffs are drawn anew for every match.

What is fixed is the order of the four payoffs, which is what makes a dilemma of its kind;
the numbers are not, so that a policy cannot learn them by heart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from comity.errors import ComityError
from comity.games.iterated import Iterated
from comity.games.lengths import make_length
from comity.games.randomness import PAYOFFS, generator
from comity.games.stages import OUTCOMES, MatrixStage
from comity.games.tables import COOPERATE_DEFECT, DEFAULT_LENGTH, LengthChoice

TRIES = 10_000


@dataclass(frozen=True)
class OrderedPayoffs:
    """Four different whole numbers in a given order; all that fit are equally likely."""

    order: tuple[str, ...]
    """`OUTCOMES` from the one that pays a seat most to the one that pays it least."""
    low: int
    high: int
    """Both included."""
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

    def draw(self, seed: int) -> dict[str, int]:
        """Own payoff of every outcome in the match of this environment seed."""
        rng = generator(seed, PAYOFFS)
        for _ in range(TRIES):
            numbers = rng.choice(self.high - self.low + 1, size=4, replace=False) + self.low
            found = dict(zip(self.order, sorted(map(int, numbers), reverse=True), strict=True))
            if not self.efficient or 2 * found["CC"] > found["CD"] + found["DC"]:
                return found
        raise ComityError(
            f"no payoffs from {self.low} to {self.high} in this order fulfil 2 CC > CD + DC; "
            "set efficient=false"
        )


@dataclass(frozen=True, kw_only=True)
class RandomTables(Iterated):
    """An iterated game whose table every match draws; its own `stage` is one example."""

    law: OrderedPayoffs

    def dealt(self, seed: int) -> Iterated:
        """The match's game, with its own table."""
        stage = _stage(self.stage.title, self.law.draw(seed))
        return Iterated(stage, self.length, self.noise, self.illegal, self.start_rule)


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
    start: str | tuple[str, ...] = "none",
) -> RandomTables:
    """A dilemma whose payoffs are drawn for every match, in the order of the prisoner's."""
    law = OrderedPayoffs(tuple(order), low, high, efficient)
    return RandomTables(
        stage=_stage(title, law.draw(0)),
        length=make_length(length),
        noise=noise,
        illegal=illegal,
        start_rule=start,
        law=law,
    )
