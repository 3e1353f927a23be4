"""Who gets what at the end of a round of a split game: claims as they count, and units."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from comity.games.base import Claim, Illegal
from comity.games.split.state import Deal

if TYPE_CHECKING:
    from comity.games.split.game import Split

ACCEPT, REJECT = 0, 1
"""Responses to a proposal."""


def claims_counted(
    game: "Split", answers: Mapping[int, Any], deal: Deal
) -> tuple[tuple[Claim | None, ...], bool | None]:
    """Every seat's claim, an illegal one claiming nothing, and the response to a proposal."""
    none = (0,) * len(deal.stock)
    if game.finalization != "proposal":
        return tuple(
            answers[s] if isinstance(answers.get(s), tuple) else none for s in range(game.seats)
        ), None
    (proposer, proposed), (_, response) = answers.items()
    claim = none if isinstance(proposed, Illegal) else proposed
    # Who responds to a claim gets what is left of the stock.
    rest = tuple(q - p for q, p in zip(deal.stock, claim, strict=True))
    accepted = not isinstance(response, Illegal) and response == ACCEPT
    return tuple(claim if seat == proposer else rest for seat in range(2)), accepted


def allocation(
    game: "Split", claims: tuple[Claim | None, ...], deal: Deal, accepted: bool | None = None
) -> tuple[tuple[float, ...], ...]:
    """Units that each seat gets, `[seat][item]`."""
    if accepted is False:
        return nothing(game.seats, deal)
    given = [claim or (0,) * len(deal.stock) for claim in claims]
    totals = [sum(column) for column in zip(*given, strict=True)]
    if game.payment == "exact" and tuple(totals) != deal.stock:
        return nothing(game.seats, deal)
    return tuple(
        tuple(
            float(q * p / max(q, total, 1))
            for q, p, total in zip(deal.stock, claim, totals, strict=True)
        )
        for claim in given
    )


def nothing(seats: int, deal: Deal) -> tuple[tuple[float, ...], ...]:
    """No units of anything to anybody, `[seat][item]`."""
    return ((0.0,) * len(deal.stock),) * seats
