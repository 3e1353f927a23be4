"""Our strategies as finite-state machines, which play without looking at the whole history.

A state machine (Moore machine; Rubinstein 1986, doi:10.1016/0022-0531(86)90021-9) cooperates with
the probability of its state, and the joint move leads to the next state. A strategy without a
machine here is played from its observations instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from comity.errors import ComityError
from comity.games.base import Game, Move
from comity.players.scripted import strategies

Successors = tuple[int, int, int, int]
"""The next state after the joint moves CC, CD, DC and DD, own move first."""


@dataclass(frozen=True)
class StateMachine:
    """A strategy for two seats and two moves."""

    cooperation: tuple[float, ...]
    """Probability of cooperating, `[state]`."""
    successors: tuple[Successors, ...]
    """`[state]`."""
    initial: int = 0
    """The state before the first joint move."""
    counts_prior: bool = True
    """A fictitious joint move before round 0 counts like one that was played."""

    @property
    def deterministic(self) -> bool:
        """Whether it never mixes."""
        return all(chance in (0, 1) for chance in self.cooperation)

    def start(self, prior: tuple[Move, Move] | None) -> int:
        """The state in round 0; `prior`: the fictitious joint move, own first."""
        if prior is None or not self.counts_prior:
            return self.initial
        return self.successors[self.initial][2 * prior[0] + prior[1]]


ONE_STATE = ((0, 0, 0, 0),)
OTHER_LAST = ((0, 1, 0, 1), (0, 1, 0, 1))
"""State 0 after a cooperation of the other, state 1 after a defection."""


def _generous(strategy: Any, game: Game) -> StateMachine | None:
    generosity = strategy.generosity
    if generosity is None:
        try:
            generosity = strategies.deterring_generosity(game)
        except ComityError:  # Raised in play, and only if it is needed.
            return None
    return StateMachine((1.0, generosity), OTHER_LAST)


MACHINES: dict[type, Callable[[Any, Game], StateMachine | None]] = {
    strategies.AlwaysCooperate: lambda s, g: StateMachine((1.0,), ONE_STATE),
    strategies.AlwaysDefect: lambda s, g: StateMachine((0.0,), ONE_STATE),
    strategies.TitForTat: lambda s, g: StateMachine((1.0, 0.0), OTHER_LAST),
    strategies.NoisyTitForTat: lambda s, g: StateMachine((1 - s.noise, s.noise), OTHER_LAST),
    strategies.SuspiciousTitForTat: lambda s, g: StateMachine((1.0, 0.0), OTHER_LAST, 1),
    strategies.GenerousTitForTat: _generous,
    # The number of the other's last defections in a row, at most 2.
    strategies.TitForTwoTats: lambda s, g: StateMachine(
        (1.0, 1.0, 0.0), ((0, 1, 0, 1), (0, 2, 0, 2), (0, 2, 0, 2))
    ),
    strategies.GrimTrigger: lambda s, g: StateMachine((1.0, 0.0), ((0, 1, 0, 1), (1, 1, 1, 1))),
    strategies.WinStayLoseShift: lambda s, g: StateMachine(
        (1.0, 0.0), ((0, 1, 1, 0), (0, 1, 1, 0))
    ),
    strategies.Random: lambda s, g: StateMachine((s.p,), ONE_STATE),
    strategies.Alternator: lambda s, g: StateMachine(
        (1.0, 0.0), ((1, 1, 1, 1), (0, 0, 0, 0)), counts_prior=False
    ),
}
"""The machine of a strategy of exactly that class in a game."""


def state_machine(strategy: Any, game: Game) -> StateMachine | None:
    """The machine of a strategy in a game; None: it has none."""
    made = MACHINES.get(type(strategy))
    return None if made is None else made(strategy, game)
