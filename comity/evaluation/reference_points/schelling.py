"""Schelling diagrams: what a cooperator and a defector earn, by how many others cooperate.

Schelling 1973, "Hockey Helmets, Concealed Weapons, and Daylight Saving", Journal of Conflict
Resolution 17, 381-428: the picture of N-seat social dilemmas with two moves (for learned policies:
Hughes et al. 2018, NeurIPS, figure 2). Move 0 is cooperation.
"""

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.games.matrix.stages import Stage

MAX_COALITIONS = 200_000
"""Most sets of cooperators that are averaged over."""


@dataclass(frozen=True)
class SchellingDiagram:
    """Payoffs of one seat by the number of other cooperators, 0 to N - 1."""

    cooperator: tuple[float, ...]
    """Its payoff if it cooperates, `[number of others]`; the mean over which others they are."""
    defector: tuple[float, ...]
    """The same if it defects."""
    average: tuple[float, ...]
    """Mean payoff of all seats, `[number of cooperators]`, 0 to N."""

    @property
    def is_dilemma(self) -> bool:
        """Whether it is a social dilemma (Hughes et al. 2018, section 2, after Macy and Flache
        2002): all prefer mutual cooperation to mutual defection and to being the only cooperator,
        and defection pays somewhere: by fear (few others cooperate) or by greed (many do)."""
        reward, punishment = self.cooperator[-1], self.defector[0]
        fear, greed = punishment > self.cooperator[0], self.defector[-1] > reward
        return reward > punishment and reward > self.cooperator[0] and (fear or greed)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "is_dilemma": self.is_dilemma}


def schelling_diagram(stage: Stage, seat: int = 0) -> SchellingDiagram:
    """The diagram of `seat`; exact.

    Raises `ComityError` unless the stage has two moves, and for more than `MAX_COALITIONS` sets
    of cooperators (seats that are declared `interchangeable` need one set per number).
    """
    if len(stage.moves) != 2:
        raise ComityError(
            f"a Schelling diagram needs two moves; {stage.title} has {len(stage.moves)}"
        )
    n = stage.seats
    alike = bool(getattr(stage, "interchangeable", False))
    if not alike and 2**n > MAX_COALITIONS:
        raise ComityError(
            f"{stage.title} has 2 ** {n} sets of cooperators, too many; if only their numbers "
            "count, give it `interchangeable = True`"
        )
    others = [s for s in range(n) if s != seat]
    lines: list[list[float]] = []
    for own in (0, 1):
        line = []
        for number in range(n):
            sets = [tuple(others[:number])] if alike else combinations(others, number)
            paid = [stage.payoff(_joint(n, seat, own, group))[seat] for group in sets]
            line.append(float(np.mean(paid)))
        lines.append(line)
    average = []
    for number in range(n + 1):
        groups = [tuple(range(number))] if alike else combinations(range(n), number)
        means = [np.mean(stage.payoff(_joint(n, None, 0, group))) for group in groups]
        average.append(float(np.mean(means)))
    return SchellingDiagram(tuple(lines[0]), tuple(lines[1]), tuple(average))


def _joint(seats: int, seat: int | None, own: int, cooperators: tuple[int, ...]) -> tuple[int, ...]:
    """The joint move in which these others cooperate."""
    return tuple(own if s == seat else int(s not in cooperators) for s in range(seats))
