"""Who gets what at the end of a round of a split game: claims as they count, and units."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from comity.games.base import Claim, Illegal
from comity.games.split.state import Instance

if TYPE_CHECKING:
    from comity.games.split.game import Split

ACCEPT, REJECT = 0, 1
"""Responses to a proposal."""


def counted_claims(
    game: "Split", answers: Mapping[int, Any], instance: Instance
) -> tuple[tuple[Claim | None, ...], bool | None]:
    """Every seat's claim, an illegal one claiming nothing, and the response to a proposal."""
    none = (0,) * len(instance.stock)
    if game.finalization != "proposal":
        return tuple(
            answers[s] if isinstance(answers.get(s), tuple) else none for s in range(game.seats)
        ), None
    (proposer, proposed), (_, response) = answers.items()
    claim = none if isinstance(proposed, Illegal) else proposed
    # Who responds to a claim gets what is left of the stock.
    rest = tuple(q - p for q, p in zip(instance.stock, claim, strict=True))
    accepted = not isinstance(response, Illegal) and response == ACCEPT
    return tuple(claim if seat == proposer else rest for seat in range(2)), accepted


def allocate(
    game: "Split",
    claims: tuple[Claim | None, ...],
    instance: Instance,
    accepted: bool | None = None,
) -> tuple[tuple[float, ...], ...]:
    """Units that each seat gets, `[seat][item]`."""
    if accepted is False:
        return empty_allocation(game.seats, instance)
    given = [claim or (0,) * len(instance.stock) for claim in claims]
    totals = [sum(column) for column in zip(*given, strict=True)]
    if game.payment == "exact" and tuple(totals) != instance.stock:
        return empty_allocation(game.seats, instance)
    return tuple(
        tuple(
            float(q * p / max(q, total, 1))
            for q, p, total in zip(instance.stock, claim, totals, strict=True)
        )
        for claim in given
    )


def empty_allocation(seats: int, instance: Instance) -> tuple[tuple[float, ...], ...]:
    """No units of anything to anybody, `[seat][item]`."""
    return ((0.0,) * len(instance.stock),) * seats
