"""The named matrix games, and a factory for custom payoff tables.

Each factory takes the parameters of `Iterated`; the tables are the usual ones of the literature.
Cells are (seat 0, seat 1); rows are the moves of seat 0, cooperation first.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from comity.errors import ComityError
from comity.games.lengths import Fixed, Length, make_length
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.stages import MatrixStage, PublicGoods, Stage

LengthChoice = Length | Mapping[str, Any]
DEFAULT_LENGTH = Fixed(10)


def _named(sentence: str, stage: MatrixStage) -> Callable[..., Iterated]:
    """A factory for a fixed payoff table."""

    def factory(
        length: LengthChoice = DEFAULT_LENGTH,
        noise: float = 0.0,
        illegal: str = "as_defect",
        initial_state: str | tuple[str, ...] = "none",
    ) -> Iterated:
        return Iterated(stage, make_length(length), noise, illegal, initial_state)

    factory.__doc__ = sentence
    return factory


def repeated(name: str, kind: Callable[..., Stage]) -> Callable[..., Iterated]:
    """A factory for games that repeat a stage; `kind` makes the stage from its own parameters."""

    def factory(
        length: LengthChoice = DEFAULT_LENGTH,
        noise: float = 0.0,
        illegal: str = "as_defect",
        initial_state: str | tuple[str, ...] = "none",
        **parameters: Any,
    ) -> Iterated:
        return Iterated(kind(**parameters), make_length(length), noise, illegal, initial_state)

    # Config checks read the signature of a factory.
    *rules, _ = inspect.signature(factory).parameters.values()
    own = inspect.signature(kind).parameters
    if taken := [rule.name for rule in rules if rule.name in own]:
        raise ComityError(f"stage {name!r}: {', '.join(taken)} are parameters of the repetition")
    keyword = inspect.Parameter.KEYWORD_ONLY
    merged = [one.replace(kind=keyword) for one in (*own.values(), *rules)]
    hints = get_type_hints(kind.__init__ if inspect.isclass(kind) else kind)
    factory.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
    factory.__annotations__ = {**hints, **get_type_hints(factory)}
    factory.__doc__ = inspect.getdoc(kind)
    return factory


def _social_dilemma(
    title: str,
    moves: tuple[str, str],
    both: float,
    sucker: float,
    temptation: float,
    neither: float,
) -> MatrixStage:
    """A symmetric 2 x 2 stage game (R, S, T, P in the usual letters)."""
    cells = (((both, both), (sucker, temptation)), ((temptation, sucker), (neither, neither)))
    return MatrixStage(title, moves, cells)


COOPERATE_DEFECT = ("cooperate", "defect")

prisoners_dilemma = _named(
    "Prisoner's dilemma with the payoffs T/R/P/S = 5/3/1/0 of Axelrod's tournaments (1984).",
    _social_dilemma("Prisoner's Dilemma", COOPERATE_DEFECT, 3, 0, 5, 1),
)

prisoners_dilemma_4310 = _named(
    "Prisoner's dilemma with the payoffs T/R/P/S = 4/3/1/0 of the moral-reward studies.",
    _social_dilemma("Prisoner's Dilemma", COOPERATE_DEFECT, 3, 0, 4, 1),
)

stag_hunt = _named(
    "Stag hunt: hunting the stag together pays most, hunting the hare is safe.",
    _social_dilemma("Stag Hunt", ("stag", "hare"), 4, 0, 3, 1),
)

chicken = _named(
    "Chicken: the one who goes straight wins, unless both do.",
    _social_dilemma("Chicken", ("swerve", "straight"), 2, 1, 4, 0),
)

bach_or_stravinsky = _named(
    "Bach or Stravinsky: both want to meet, each at another concert.",
    MatrixStage("Bach or Stravinsky", ("bach", "stravinsky"), (((3, 2), (0, 0)), ((0, 0), (2, 3)))),
)

defective_coordination = _named(
    "Defective coordination: agreeing pays, and agreeing on defection pays most.",
    _social_dilemma("Defective Coordination", COOPERATE_DEFECT, 1, 0, 0, 4),
)

volunteers_dilemma = _named(
    "Volunteer's dilemma: one volunteer is enough; without one, all seats earn 0.",
    _social_dilemma("Volunteer's Dilemma", ("volunteer", "wait"), 3, 1, 4, 0),
)


def public_goods(
    seats: int = 4,
    contribution: float = 10.0,
    multiplier: float = 1.6,
    length: LengthChoice = DEFAULT_LENGTH,
    noise: float = 0.0,
    illegal: str = "as_defect",
    initial_state: str | tuple[str, ...] = "none",
) -> Iterated:
    """Public goods: N seats put points into a pot that is multiplied and shared, or keep them."""
    stage = PublicGoods(seats, contribution, multiplier)
    return Iterated(stage, make_length(length), noise, illegal, initial_state)


def matrix(
    moves: Sequence[Any],
    payoffs: Sequence[Any],
    title: str = "Matrix",
    length: LengthChoice = DEFAULT_LENGTH,
    noise: float = 0.0,
    illegal: str = "as_defect",
    initial_state: str | tuple[str, ...] = "none",
) -> Iterated:
    """Your own table: two seats, k named moves, payoffs [seat 0's move][seat 1's move][seat]."""
    stage = MatrixStage(title, tuple(moves), tuple(payoffs))
    return Iterated(stage, make_length(length), noise, illegal, initial_state)
