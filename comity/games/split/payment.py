"""Payment at the end of a round of a split game: the claims that count, and units per seat."""

from collections.abc import Mapping
from typing import Any

from comity.games.base import Claim, Illegal
from comity.games.split.state import Instance

ACCEPT, REJECT = 0, 1
"""Responses to a proposal."""


def counted_claims(
    answers: Mapping[int, Any], instance: Instance, proposal: bool
) -> tuple[tuple[Claim | None, ...], bool | None]:
    """The claim of every seat, `[seat]`, and whether a proposal was accepted.

    `answers`: what seats answered, by seat, in the order of their turns. An illegal claim claims
    nothing. `proposal`: the first answer is a claim and the second the response to it; otherwise
    all answers are claims and the second result is None.
    """
    none = (0,) * len(instance.stock)
    if not proposal:
        return tuple(
            answers[s] if isinstance(answers.get(s), tuple) else none
            for s in range(len(instance.values))
        ), None
    (proposer, proposed), (_, response) = answers.items()
    claim = none if isinstance(proposed, Illegal) else proposed
    # The responder gets the rest of the stock.
    rest = tuple(q - p for q, p in zip(instance.stock, claim, strict=True))
    accepted = not isinstance(response, Illegal) and response == ACCEPT
    return tuple(claim if seat == proposer else rest for seat in range(2)), accepted


def allocate(
    claims: tuple[Claim | None, ...], instance: Instance, exact: bool, accepted: bool | None = None
) -> tuple[tuple[float, ...], ...]:
    """Units that each seat gets, `[seat][item]`.

    `exact`: claims that do not add up to the stock get nothing; otherwise claims beyond the stock
    are scaled down in proportion, item by item. `accepted`: the response to a proposal; a
    rejected one gets nothing.
    """
    if accepted is False:
        return empty_allocation(len(claims), instance)
    given = [claim or (0,) * len(instance.stock) for claim in claims]
    totals = [sum(column) for column in zip(*given, strict=True)]
    if exact and tuple(totals) != instance.stock:
        return empty_allocation(len(claims), instance)
    return tuple(
        tuple(
            float(q * p / max(q, total, 1))
            for q, p, total in zip(instance.stock, claim, totals, strict=True)
        )
        for claim in given
    )


def empty_allocation(seats: int, instance: Instance) -> tuple[tuple[float, ...], ...]:
    """No units of anything to any seat, `[seat][item]`."""
    return ((0.0,) * len(instance.stock),) * seats
