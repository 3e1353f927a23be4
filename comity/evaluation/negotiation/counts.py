"""What each statistic of negotiation counts: numerators and denominators as arrays.

Definitions in words stand in `comity.evaluation.negotiation.statistics`; shapes there under `per`.
"""

from collections.abc import Callable

import numpy as np

from comity.evaluation.negotiation.outcomes import NegotiationOutcomes

Counts = tuple[np.ndarray, np.ndarray]
"""Numerators and denominators, one for each of what a statistic is counted per."""


def payoff(b: NegotiationOutcomes) -> Counts:
    return b.payoff, np.ones_like(b.payoff)


def efficiency(b: NegotiationOutcomes) -> Counts:
    known = b.max_welfare > 0
    return np.where(known, b.points.sum(axis=1) / np.where(known, b.max_welfare, 1.0), 0.0), known


def percent_of_max(b: NegotiationOutcomes) -> Counts:
    known = b.max_welfare > 0
    return np.where(known, b.points.sum(axis=1), 0.0), np.where(known, b.max_welfare, 0.0)


def own_share(b: NegotiationOutcomes) -> Counts:
    return b.points, b.max_welfare_points


def allocative_efficiency(b: NegotiationOutcomes) -> Counts:
    most = b.values == b.values.max(axis=1, keepdims=True)
    return (b.allocation * most).sum(axis=(1, 2)), b.allocation.sum(axis=(1, 2))


def claims_where(relative_value: int) -> Callable[[NegotiationOutcomes], Counts]:
    def counted(b: NegotiationOutcomes) -> Counts:
        there = (
            (b.relative_value == relative_value) & (b.stock > 0)[:, None] & b.claimed[:, :, None]
        )
        return np.where(there, b.claim, 0.0).sum(axis=2), there.sum(axis=2)

    return counted


def stock_claimed(b: NegotiationOutcomes) -> Counts:
    claim = np.where(b.claimed[:, :, None], b.claim, 0.0).sum(axis=2)
    return claim, b.claimed * b.stock.sum(axis=1)[:, None]


def over_claimed(b: NegotiationOutcomes) -> Counts:
    there = (b.stock > 0) & ~np.isnan(b.claim).any(axis=1)
    over = np.nansum(b.claim, axis=1) > b.stock
    return (over & there).sum(axis=1), there.sum(axis=1)


def agreement(b: NegotiationOutcomes) -> Counts:
    return b.agreed, np.ones_like(b.agreed)


def points_on_agreement(b: NegotiationOutcomes) -> Counts:
    agreed = np.repeat(b.agreed[:, None], b.seats, axis=1)
    return np.where(agreed, b.points, 0.0), agreed


def imbalance(b: NegotiationOutcomes) -> Counts:
    totals = np.zeros((b.matches, b.seats))
    np.add.at(totals, b.round_match, b.points)
    return np.abs(totals[:, 0] - totals[:, 1]), totals.sum(axis=1)


def messages(b: NegotiationOutcomes) -> Counts:
    found = np.zeros(b.row.shape)
    sent = (b.kind == "message") & (b.round >= 0)
    np.add.at(found, (b.round[sent], b.seat[sent]), 1.0)
    return found, np.ones_like(found)


def exceeded(b: NegotiationOutcomes) -> Counts:
    ended = b.excess_message[b.row].any(axis=1)
    return ended, np.ones_like(ended)


def of_messages(
    value: Callable[[NegotiationOutcomes], np.ndarray],
) -> Callable[[NegotiationOutcomes], Counts]:
    def counted(b: NegotiationOutcomes) -> Counts:
        sent = b.kind == "message"
        return np.where(sent, value(b), 0), sent

    return counted


def tokens(b: NegotiationOutcomes) -> Counts:
    written = (b.kind == "message") & (b.tokens > 0)
    return np.where(written, b.tokens, 0), written


def illegal_claims(b: NegotiationOutcomes) -> Counts:
    due = b.kind != "message"
    return due & (b.move < 0) & ~b.excess_message & ~b.withheld, due
