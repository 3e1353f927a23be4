"""Stage games: the payoffs of one round.

- `Stage`: the interface of a stage game. Prompts describe it by its `opponent_profiles` and
  `payoffs_own_first` only.
- `MatrixStage`: two seats with the same k moves and any payoff table.
- `PublicGoods`: the linear public goods game of N seats.

A stage game knows nothing of rounds, noise or time; `comity.games.matrix.iterated` repeats it.
"""

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import Any, ClassVar, Protocol, runtime_checkable

from comity.errors import ComityError
from comity.games.base import Move

PayoffTable = tuple[tuple[tuple[float, float], ...], ...]
"""`[seat 0's move][seat 1's move][seat]`, shape `[k, k, 2]`."""


OUTCOMES = ("CC", "CD", "DC", "DD")
"""Joint moves of two seats with two moves, own move first; C is move 0."""


@runtime_checkable
class Stage(Protocol):
    """One round's rules; implementations are frozen dataclasses."""

    @property
    def title(self) -> str:
        """Name of the game, as in "the game Stag Hunt"."""
        ...

    @property
    def seats(self) -> int: ...

    @property
    def moves(self) -> tuple[str, ...]:
        """Names of the moves; in social dilemmas cooperation is the first."""
        ...

    def payoff(self, moves: tuple[Move, ...]) -> tuple[float, ...]:
        """`[seat]` points for the joint move `[seat]`."""
        ...


MAX_JOINT_MOVES = 10_000
"""Most joint moves that are compared to detect interchangeable seats."""

MAX_OPPONENT_PROFILES = 100
"""Most opponent profiles that a prompt lists."""


def interchangeable(stage: Stage) -> bool:
    """Whether payoffs depend on how many others play each move, not on which of them do.

    A stage can declare it with an attribute of this name. Otherwise all joint moves are compared;
    with more than `MAX_JOINT_MOVES` of them the result is False.
    """
    said = getattr(stage, "interchangeable", None)
    if said is not None:
        return bool(said)
    if len(stage.moves) ** stage.seats > MAX_JOINT_MOVES:
        return False
    earned: dict[tuple[Any, ...], float] = {}
    for joint in product(range(len(stage.moves)), repeat=stage.seats):
        for seat, payoff in enumerate(stage.payoff(joint)):
            others = tuple(sorted(joint[:seat] + joint[seat + 1 :]))
            if earned.setdefault((seat, joint[seat], others), payoff) != payoff:
                return False
    return True


def opponent_profiles(stage: Stage) -> list[tuple[Move, ...]]:
    """Every joint move of the other seats, `[seats - 1]` each, as far as payoffs differ.

    In seat order, or sorted if the seats are interchangeable. Raises `ComityError` if there are
    more than `MAX_OPPONENT_PROFILES`.
    """
    moves, others = range(len(stage.moves)), stage.seats - 1
    alike = others > 1 and interchangeable(stage)
    count = math.comb(len(moves) + others - 1, others) if alike else len(moves) ** others
    if count > MAX_OPPONENT_PROFILES:
        more = "" if alike else "; if only their numbers count, give it `interchangeable = True`"
        raise ComityError(
            f"{stage.title}: there are {count} things that {others} others can do, too many to "
            f"tell{more}"
        )
    return list(
        combinations_with_replacement(moves, others) if alike else product(moves, repeat=others)
    )


def payoffs_own_first(
    stage: Stage, seat: int, own: Move, others: tuple[Move, ...]
) -> tuple[float, ...]:
    """Payoff of `seat` with the move `own`, then those of the others in seat order."""
    payoffs = stage.payoff((*others[:seat], own, *others[seat:]))
    return (payoffs[seat], *payoffs[:seat], *payoffs[seat + 1 :])


@dataclass(frozen=True)
class MatrixStage:
    """Two seats, k moves each, and two payoffs in every cell.

    Accepts lists for tuples. Raises `ComityError` if names or numbers are invalid.
    """

    title: str
    moves: tuple[str, ...]
    payoffs: PayoffTable

    def __post_init__(self) -> None:
        if not isinstance(self.title, str) or not self.title.strip():
            raise ComityError(f"the title must be text, not {self.title!r}")
        object.__setattr__(self, "moves", _names(self.moves))
        object.__setattr__(self, "payoffs", _table(self.payoffs, self.moves))

    @property
    def seats(self) -> int:
        """2."""
        return 2

    def payoff(self, moves: tuple[Move, ...]) -> tuple[float, ...]:
        """The cell of the table."""
        row, column = moves
        return self.payoffs[row][column]


@dataclass(frozen=True)
class PublicGoods:
    """N seats; each owns `contribution` points and contributes or keeps them.

    Contributions are multiplied and shared equally among all seats:
    seat s earns `contribution * (kept_s + multiplier * contributors / seats)`. It is a
    social dilemma where 1 < multiplier < seats (the linear public goods game, Ledyard 1995).
    """

    seats: int
    """Number of seats."""
    contribution: float
    """Endowment of every seat in a round."""
    multiplier: float
    """Factor of the pot."""
    interchangeable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.seats < 2:
            raise ComityError(f"seats must be at least 2, not {self.seats}")
        for name in ("contribution", "multiplier"):
            value = getattr(self, name)
            if not _finite(value) or value <= 0:
                raise ComityError(f"{name} must be a positive number, not {value!r}")

    @property
    def title(self) -> str:
        """Name of the game."""
        return "Public Goods"

    @property
    def moves(self) -> tuple[str, ...]:
        """Contribute (cooperate) and withhold (defect)."""
        return ("cooperate", "defect")

    def payoff(self, moves: tuple[Move, ...]) -> tuple[float, ...]:
        """The points that each seat kept plus its share."""
        contributors = sum(move == 0 for move in moves)
        share = self.contribution * self.multiplier * contributors / self.seats
        return tuple(share + (self.contribution if move == 1 else 0.0) for move in moves)


def _names(moves: Any) -> tuple[str, ...]:
    """Move names as a tuple, or a `ComityError`."""
    if not isinstance(moves, list | tuple):
        raise ComityError(f"moves must be a list of names, not {moves!r}")
    for name in moves:
        if not isinstance(name, str) or not name.strip():
            raise ComityError(f"a move's name must be text, not {name!r} (quote it in YAML)")
    if len(moves) < 2:
        raise ComityError(f"a game needs at least two moves; moves has {len(moves)}")
    seen: dict[str, str] = {"illegal": "the word for answers that are no move"}
    for name in moves:
        key = name.strip().casefold()
        if key in seen:
            raise ComityError(f"the move name {name!r} collides with {seen[key]}")
        seen[key] = f"the move name {name!r}"
    return tuple(moves)


def _table(payoffs: Any, moves: tuple[str, ...]) -> PayoffTable:
    """The payoff table as nested tuples of floats `[k, k, 2]`, or a `ComityError`."""
    k = len(moves)
    rows = _list(payoffs, k, f"payoffs must have one row for each of the {k} moves")
    table = []
    for own, row in zip(moves, rows, strict=True):
        cells = _list(row, k, f"the row of {own!r} must have one cell for each of the {k} moves")
        line = []
        for other, cell in zip(moves, cells, strict=True):
            where = f"the cell of {own!r} and {other!r}"
            pair = _list(cell, 2, f"{where} must have two payoffs, one for each seat")
            for value in pair:
                if not _finite(value):
                    raise ComityError(f"{where} holds {value!r}, which is no finite number")
            line.append((float(pair[0]), float(pair[1])))
        table.append(tuple(line))
    return tuple(table)


def _list(value: Any, length: int, complaint: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ComityError(f"{complaint}; found {value!r}")
    if len(value) != length:
        raise ComityError(f"{complaint}; found {len(value)}")
    return list(value)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
