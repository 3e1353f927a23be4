"""The split games of the studies of negotiation, each a factory of `Split`.

Trust and Split in three forms, the split without talk, Deal or No Deal, and the ultimatum
game. Factories differ in their instances and in the defaults of the rules; the rules that all
of them take are in `docs/reference/games.md`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from comity.errors import ComityError, lookup
from comity.games.lengths import Fixed, Geometric, Length, make_length
from comity.games.split.divided_values import ClassicValues, CutValues
from comity.games.split.game import Split
from comity.games.split.game_types import GameTypeValues
from comity.games.split.instances import HandInstances, SampledInstances, check_items
from comity.games.split.quantities import QUANTITIES, FixedQuantities, Quantities, per_item
from comity.games.split.state import InstanceDistribution
from comity.games.split.valuations import (
    BimodalValues,
    DistinctValues,
    FixedValues,
    UniformValues,
    Valuations,
)
from comity.registry import build

LengthChoice = Length | Mapping[str, Any]
Messages = int | Mapping[str, int]
"""Messages per seat and round: a number, or `{least, most}`."""
TEN_ROUNDS = Fixed(10)
ABOUT_SEVEN = Geometric(0.85, 30)
ONE_ROUND = Fixed(1)

VALUATIONS: Final = {
    "cut": CutValues,
    "classic": ClassicValues,
    "uniform": UniformValues,
    "distinct": DistinctValues,
    "bimodal": BimodalValues,
    "fixed": FixedValues,
    "type": GameTypeValues,
}
"""Every distribution of values by name."""

MODES: Final = {
    "basic": "every seat is paid what it got",
    "coop": "every seat is paid what all got together",
}

RESPONSE_FORMS: Final = {
    "answer": "the other accepts or rejects",
    "division": "the other writes the division that it agrees to, which has to match the claim",
}
"""The form of the response to an ultimatum."""


def trust_and_split(
    items: Sequence[str] = ("coins",),
    stock: int | Sequence[int] = 10,
    low: int | Sequence[int] = 1,
    high: int | Sequence[int] = 20,
    seats: int = 2,
    messages: Messages = 1,
    message_limit: int = 400,
    finalization: str = "in_turn",
    payment: str = "proportional",
    open_values: bool = False,
    starter: str = "alternate",
    illegal: str = "zero_all",
    disclosed: Sequence[str] = ("claims", "values"),
    length: LengthChoice = ABOUT_SEVEN,
) -> Split:
    """Trust and Split: private values from 1 to 20, one message each, sequential claims.

    The value of a unit is uniform from `low` to `high`, and only its seat knows it. With any
    illegal claim, the round pays 0 to every seat.
    """
    items = _named(items)
    quantities = FixedQuantities(len(items), stock)
    instances = SampledInstances(items, quantities, UniformValues(len(items), low, high, seats))
    return Split(
        title="Trust and Split",
        instances=instances,
        **_talk(messages),
        message_limit=message_limit,
        finalization=finalization,
        payment=payment,
        open_values=open_values,
        starter=starter,
        illegal=illegal,
        disclosed=tuple(disclosed),
        length=make_length(length),
    )


def trust_and_split_rps(
    items: Sequence[str] = ("coins",),
    stock: int | Sequence[int] = 10,
    win: float = 10.0,
    lose: float = 1.0,
    alternating_hands: bool = False,
    messages: Messages = 1,
    message_limit: int = 500,
    finalization: str = "together",
    payment: str = "proportional",
    open_values: bool = False,
    starter: str = "alternate",
    illegal: str = "zero_claim",
    disclosed: Sequence[str] = ("claims", "values", "points"),
    length: LengthChoice = TEN_ROUNDS,
) -> Split:
    """Trust and Split: rock-paper-scissors hands determine which seat values the coins more.

    Two different hands are sampled, and each seat knows its own. A coin is worth `win` points to
    the seat with the winning hand and `lose` points to the other.
    """
    items = _named(items)
    units = per_item("stock", stock, len(items))
    return Split(
        title="Trust and Split with Rock-Paper-Scissors",
        instances=HandInstances(items, units, win, lose, alternating_hands),
        **_talk(messages),
        message_limit=message_limit,
        finalization=finalization,
        payment=payment,
        open_values=open_values,
        starter=starter,
        illegal=illegal,
        disclosed=tuple(disclosed),
        length=make_length(length),
    )


def trust_and_split_items(
    items: Sequence[str] = ("hats", "books"),
    stock: int | Sequence[int] = 10,
    game_type: str = "10-1-ties",
    equal_sums: bool = True,
    conflict: bool = False,
    messages: Messages = 1,
    message_limit: int = 500,
    finalization: str = "together",
    payment: str = "proportional",
    open_values: bool = False,
    starter: str = "alternate",
    illegal: str = "zero_claim",
    disclosed: Sequence[str] = ("claims", "values", "points"),
    length: LengthChoice = TEN_ROUNDS,
) -> Split:
    """Trust and Split with several items and private values of a game type.

    The stock is ten units of each item. The values satisfy `equal_sums` and `conflict`.
    """
    return Split(
        title="Trust and Split with Items",
        instances=_typed(items, stock, game_type, equal_sums, conflict),
        **_talk(messages),
        message_limit=message_limit,
        finalization=finalization,
        payment=payment,
        open_values=open_values,
        starter=starter,
        illegal=illegal,
        disclosed=tuple(disclosed),
        length=make_length(length),
    )


def split_no_talk(
    items: Sequence[str] = ("hats", "books", "balls"),
    stock: int | Sequence[int] = 10,
    game_type: str = "10-1-ties",
    equal_sums: bool = True,
    conflict: bool = True,
    messages: Messages = 0,
    message_limit: int = 500,
    finalization: str = "together",
    payment: str = "proportional",
    open_values: bool = True,
    starter: str = "alternate",
    illegal: str = "zero_claim",
    disclosed: Sequence[str] = ("claims", "values", "points"),
    length: LengthChoice = TEN_ROUNDS,
) -> Split:
    """Split several items without messages, with public values of a game type.

    The values satisfy `equal_sums` and `conflict`.
    """
    return Split(
        title="Split",
        instances=_typed(items, stock, game_type, equal_sums, conflict),
        **_talk(messages),
        message_limit=message_limit,
        finalization=finalization,
        payment=payment,
        open_values=open_values,
        starter=starter,
        illegal=illegal,
        disclosed=tuple(disclosed),
        length=make_length(length),
    )


def deal_or_no_deal(
    items: Sequence[str] = ("books", "hats", "balls"),
    quantities: str | Mapping[str, Any] = "cut",
    values: str | Mapping[str, Any] = "cut",
    redraw_stock: bool = True,
    redraw_values: bool = False,
    mode: str = "basic",
    messages: Messages = 1,
    message_limit: int = 400,
    finalization: str = "together",
    payment: str = "exact",
    open_values: bool = False,
    starter: str = "alternate",
    illegal: str = "zero_claim",
    disclosed: Sequence[str] = ("claims", "points"),
    length: LengthChoice = TEN_ROUNDS,
) -> Split:
    """Deal or No Deal: claims must add up to the stock exactly, otherwise all seats get 0.

    `quantities` and `values` are distributions; a seat knows only its own values.
    """
    lookup("mode", mode, MODES)
    return Split(
        title="Deal or No Deal",
        instances=_drawn(items, quantities, values, redraw_stock, redraw_values),
        **_talk(messages),
        message_limit=message_limit,
        finalization=finalization,
        payment=payment,
        open_values=open_values,
        shared_payoff=mode == "coop",
        starter=starter,
        illegal=illegal,
        disclosed=tuple(disclosed),
        length=make_length(length),
    )


def ultimatum(
    items: Sequence[str] = ("coins",),
    stock: int | Sequence[int] = 10,
    value: float = 1.0,
    messages: Messages = 0,
    message_limit: int = 400,
    response: str = "answer",
    starter: str = "fixed",
    illegal: str = "zero_claim",
    disclosed: Sequence[str] = ("claims", "values", "points"),
    length: LengthChoice = ONE_ROUND,
) -> Split:
    """Ultimatum: one seat proposes a split, the other accepts it or both get nothing.

    Seat 0 proposes. The other seat accepts or rejects (`response=answer`), or writes a division
    (`division`), which has to add up to the stock with the proposal.
    """
    lookup("response", response, RESPONSE_FORMS)
    answers = response == "answer"
    items = _named(items)
    kinds = len(items)
    worth = FixedValues(kinds, ((value,) * kinds,) * 2)
    return Split(
        title="Ultimatum",
        instances=SampledInstances(items, FixedQuantities(kinds, stock), worth),
        **_talk(messages),
        message_limit=message_limit,
        finalization="proposal" if answers else "visible",
        payment="proportional" if answers else "exact",
        open_values=True,
        starter=starter,
        illegal=illegal,
        disclosed=tuple(disclosed),
        length=make_length(length),
    )


def _talk(messages: Messages) -> dict[str, Any]:
    """The fields of `Split` for the number of messages."""
    if isinstance(messages, int):
        return {"messages": messages}
    for name in messages:
        lookup("limit of messages", name, {"least": None, "most": None})
    if len(messages) < 2:
        raise ComityError("messages needs both, least and most, or one number")
    if messages["most"] < 1:
        raise ComityError("messages: most must be at least 1; without talk, set messages=0")
    return {"messages": messages["most"], "least_messages": messages["least"]}


def _named(items: Sequence[str]) -> tuple[str, ...]:
    """The item names as a tuple, checked."""
    check_items(tuple(items))
    return tuple(items)


def _typed(
    items: Sequence[str],
    stock: int | Sequence[int],
    game_type: str,
    equal_sums: bool,
    conflict: bool,
) -> InstanceDistribution:
    items = _named(items)
    kinds = len(items)
    values = GameTypeValues(kinds, game_type, equal_sums, conflict)
    return SampledInstances(items, FixedQuantities(kinds, stock), values)


def _drawn(
    items: Sequence[str],
    quantities: str | Mapping[str, Any],
    values: str | Mapping[str, Any],
    redraw_stock: bool,
    redraw_values: bool,
) -> InstanceDistribution:
    """Instances from two named distributions; `classic` values need at least one of each item."""
    items = _named(items)
    kinds = len(items)
    drawn: Quantities = build("distribution of quantities", _sized(quantities, kinds), QUANTITIES)
    worth: Valuations = build("distribution of values", _sized(values, kinds), VALUATIONS)
    if worth.needs_stock and min(drawn.outcomes()[0].min(axis=0)) < 1:
        raise ComityError("classic values need every item: set quantities=whole (or fixed)")
    return SampledInstances(items, drawn, worth, redraw_stock, redraw_values)


def _sized(distribution: str | Mapping[str, Any], kinds: int) -> dict[str, Any]:
    named = {"name": distribution} if isinstance(distribution, str) else dict(distribution)
    return {**named, "kinds": kinds}
