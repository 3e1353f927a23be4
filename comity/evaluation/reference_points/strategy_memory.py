"""What a strategy needs to remember: keys that merge histories after which it plays alike.

A key is right if two histories of the same length with the same key have the same probability of
cooperation now, and the same key again after any joint move. Then the best response depends on
(round, key) only, and dynamic programming needs few states instead of all histories. Tests compare
every entry of the table with the program over full histories.

A strategy of a user can declare its own by a method `memory(observation)` that returns a hashable
key.
"""

from collections.abc import Callable, Hashable
from typing import Any

from comity.games.base import Observation
from comity.players.scripted import strategies
from comity.players.scripted.strategies import COOPERATE, others_cooperated

Memory = Callable[[Observation], Hashable]


def nothing(known: Observation) -> Hashable:
    """No history; the round is part of every state anyway."""
    return None


def last(known: Observation) -> Hashable:
    """Whether the others cooperated in the last round."""
    return tuple(others_cooperated(known)[-1:])


def last_two(known: Observation) -> Hashable:
    """The same for the last two rounds."""
    return tuple(others_cooperated(known)[-2:])


def last_joint(known: Observation) -> Hashable:
    """The same and whether the strategy itself cooperated in the last round."""
    if known.last is None:
        return ()
    return known.last[known.seat] == COOPERATE, others_cooperated(known)[-1]


def ever_defected(known: Observation) -> Hashable:
    """Whether the others always cooperated."""
    return all(others_cooperated(known))


MEMORY: dict[type[Any], Memory] = {
    strategies.AlwaysCooperate: nothing,
    strategies.AlwaysDefect: nothing,
    strategies.Random: nothing,
    strategies.Alternator: nothing,
    strategies.TitForTat: last,
    strategies.NoisyTitForTat: last,
    strategies.SuspiciousTitForTat: last,
    strategies.GenerousTitForTat: last,
    strategies.TitForTwoTats: last_two,
    strategies.GrimTrigger: ever_defected,
    strategies.WinStayLoseShift: last_joint,
}
"""The memory of each scripted strategy; subclasses are not meant, they may remember more."""


def memory_of(strategy: Any) -> Memory | None:
    """The declared memory of a strategy; None if there is none."""
    own = getattr(strategy, "memory", None)
    return own if callable(own) else MEMORY.get(type(strategy))
