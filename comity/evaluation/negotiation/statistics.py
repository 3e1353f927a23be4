"""Statistics of negotiation in split games.

`STATISTICS` has them by name, each with its definition in one line; pages print those.
`measure` makes one a measure as in `comity.evaluation.metrics`: decisions of all seats go in,
`(numerator, denominator)` comes out, and counts of several matches add up. It can be about
one seat, about matches with one kind of opponent, or about the learners:

    mean_over_seeds([per_match(run, measure("efficiency")) for run in runs_of_all_seeds], (0, 1))

A statistic that the game has none of (messages in a game without messages) raises `ComityError`.
What is defined but was never seen has denominator 0, and its rate is None.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from comity.errors import ComityError, lookup
from comity.evaluation.measures import Count, Measure
from comity.evaluation.negotiation import counts as count
from comity.evaluation.negotiation.counts import Counts
from comity.evaluation.negotiation.outcomes import (
    NegotiationOutcomes,
    is_split,
    negotiation_outcomes,
)
from comity.rollout.records import Decision


@dataclass(frozen=True)
class Statistic:
    """Something to count."""

    title: str
    text: str
    """Its definition, in one sentence."""
    unit: str
    """What its values are: "share", "points", "units" (of an item), "characters", "tokens" or
    "number"."""
    per: str
    """What is counted: each "answer" `[D]`, the "seat" in a round `[R, S]`, the "round" `[R]`
    or the "match" `[M]`; one in which no chosen player took part is left out."""
    count: Callable[[NegotiationOutcomes], Counts]
    needs: str = "claims"
    """One of `NEEDS`."""


NEEDS: dict[str, Callable[[NegotiationOutcomes], bool]] = {
    "claims": lambda b: True,
    "messages": lambda b: bool((b.kind == "message").any()),
    "a stock that is claimed by all": lambda b: not b.responds.any(),
    "claims that must fit or proposals": lambda b: b.can_agree,
    "two seats": lambda b: b.seats == 2,
}
"""What a game must have for a statistic to be defined."""


STATISTICS: dict[str, Statistic] = {
    "payoff": Statistic("Payoff", "Payoff of a seat per round.", "points", "seat", count.payoff),
    "efficiency": Statistic(
        "Split efficiency (E1)",
        "Joint payoff of a round over that of the welfare-maximizing allocation, averaged "
        "over rounds.",
        "share",
        "round",
        count.efficiency,
    ),
    "percent_of_max": Statistic(
        "Percent of the maximum (E2)",
        "Joint payoff of all rounds over that of the welfare-maximizing allocations; rounds "
        "with high stakes weigh more than in E1.",
        "share",
        "round",
        count.percent_of_max,
    ),
    "own_share": Statistic(
        "Payoff over own share of the maximum",
        "Payoff of a seat over its payoff in the welfare-maximizing allocation, with ties "
        "divided equally; more than 100 % is taken from others.",
        "share",
        "seat",
        count.own_share,
    ),
    "allocative_efficiency": Statistic(
        "Allocative efficiency",
        "Share of the allocated units that went to a seat with the highest value for them "
        "(all units of an item that all seats value equally).",
        "share",
        "round",
        count.allocative_efficiency,
    ),
    "stock_claimed": Statistic(
        "Stock claimed",
        "Units claimed over units in stock; legal claims only.",
        "share",
        "seat",
        count.stock_claimed,
    ),
    "claim_higher": Statistic(
        "Claim on items valued more",
        "Units claimed of an item that the seat values more than any other seat does; legal "
        "claims only.",
        "units",
        "seat",
        count.claims_where(1),
    ),
    "claim_equal": Statistic(
        "Claim on items valued the same",
        "Units claimed of an item that another seat values as much, and none more; legal "
        "claims only.",
        "units",
        "seat",
        count.claims_where(0),
    ),
    "claim_lower": Statistic(
        "Claim on items valued less",
        "Units claimed of an item that another seat values more; legal claims only.",
        "units",
        "seat",
        count.claims_where(-1),
    ),
    "over_claimed": Statistic(
        "Over-claimed items",
        "Share of the items in stock of which the seats together claimed more than the stock.",
        "share",
        "round",
        count.over_claimed,
        "a stock that is claimed by all",
    ),
    "agreement": Statistic(
        "Agreement",
        "Share of rounds whose proposal was accepted, or whose claims added up to the stock "
        "exactly; an illegal answer is no agreement.",
        "share",
        "round",
        count.agreement,
        "claims that must fit or proposals",
    ),
    "points_on_agreement": Statistic(
        "Payoff on agreement",
        "Payoff of a seat per round that ended in agreement.",
        "points",
        "seat",
        count.points_on_agreement,
        "claims that must fit or proposals",
    ),
    "imbalance": Statistic(
        "Imbalance",
        "Absolute difference of the two seats' payoffs in a match over their sum; matches weigh "
        "by that sum.",
        "share",
        "match",
        count.imbalance,
        "two seats",
    ),
    "messages": Statistic(
        "Messages", "Messages of a seat per round.", "number", "seat", count.messages, "messages"
    ),
    "exceeded": Statistic(
        "Message limit exceeded",
        "Share of rounds that ended with payoff 0 because of a message beyond the limit.",
        "share",
        "round",
        count.exceeded,
        "messages",
    ),
    "characters": Statistic(
        "Message length",
        "Characters of a message as the others read it.",
        "characters",
        "answer",
        count.of_messages(lambda b: b.characters),
        "messages",
    ),
    "tokens": Statistic(
        "Message tokens",
        "Sampled tokens of a message, delimiters included.",
        "tokens",
        "answer",
        count.tokens,
        "messages",
    ),
    "empty_messages": Statistic(
        "Empty messages",
        "Share of messages that the others read as empty.",
        "share",
        "answer",
        count.of_messages(lambda b: b.characters == 0),
        "messages",
    ),
    "illegal_messages": Statistic(
        "Illegal messages",
        "Share of messages that broke the format.",
        "share",
        "answer",
        count.of_messages(lambda b: b.move < 0),
        "messages",
    ),
    "illegal_claims": Statistic(
        "Illegal claims",
        "Share of claims and responses to proposals that could not be parsed.",
        "share",
        "answer",
        count.illegal_claims,
    ),
    "retries": Statistic(
        "Retries",
        "Failed attempts before the final answer, per answer.",
        "number",
        "answer",
        lambda b: (b.attempts - 1, b.all_answers),
    ),
    "constrained": Statistic(
        "Constrained answers",
        "Share of answers generated under a grammar.",
        "share",
        "answer",
        lambda b: (b.constrained, b.all_answers),
    ),
}


def counts(b: NegotiationOutcomes, name: str, who: np.ndarray | None = None) -> np.ndarray:
    """float64 `[match, 2]`: a statistic's numerator and denominator in every match.

    `who` (bool `[D]`) picks answers; matches without any are left out. Raises `ComityError`
    where the game has none of what the statistic is about.
    """
    statistic = lookup("statistic of negotiation", name, STATISTICS)
    if not NEEDS[statistic.needs](b):
        raise ComityError(f"{name} is about {statistic.needs}; these matches have none")
    chosen = b.all_answers if who is None else who
    taken = np.bincount(b.match[chosen], minlength=b.matches) > 0
    of_match = {
        "answer": (b.match, chosen),
        "seat": (np.repeat(b.round_match, b.seats), chosen[b.row].reshape(-1)),
        "round": (b.round_match, chosen[b.row].any(axis=1)),
        "match": (np.arange(b.matches), taken),
    }
    match, counted = of_match[statistic.per]
    sums = [
        np.bincount(match, np.where(counted, part.reshape(-1), 0), b.matches)
        for part in statistic.count(b)
    ]
    return np.stack(sums, axis=1)[taken]


def applicable(b: NegotiationOutcomes) -> list[str]:
    """Names of the statistics that these matches have."""
    return [name for name, one in STATISTICS.items() if NEEDS[one.needs](b)]


def measure(
    name: str,
    seat: int | None = None,
    opponent_kind: str | None = None,
    exact_claims: bool | None = None,
) -> Measure:
    """The statistic as a measure of decisions of all seats.

    Only of the answers of `seat`, and of those whose opponents' controller was `opponent_kind`
    ("live", "past"). What is counted by rounds or matches counts those that such an answer
    belongs to. `exact_claims`: `comity.evaluation.payoff_ranges.requires_exact_claims` of the game.
    """
    lookup("statistic of negotiation", name, STATISTICS)

    def counted(decisions: Sequence[Decision]) -> Count:
        b = negotiation_outcomes(decisions, exact_claims)
        who = b.all_answers.copy()
        if seat is not None:
            who &= b.seat == seat
        if opponent_kind is not None:
            who &= b.opponent_kind == opponent_kind
        numerator, denominator = counts(b, name, who).sum(axis=0)
        return float(numerator), float(denominator)

    return counted


def negotiation_metrics(
    decisions: Sequence[Decision], exact_claims: bool | None = None
) -> dict[str, dict[str, float | None]]:
    """The key `negotiation` of a line of metrics.jsonl; `{}` unless the game is a split game.

    `pooled`: over the answers of learners' seats. `seat_0`, ...: of each seat, whichever player sat
    there, and without what is counted by whole rounds or matches.
    """
    if not is_split([d.kind for d in decisions]):
        return {}
    b = negotiation_outcomes(decisions, exact_claims)
    names = applicable(b)
    own = [name for name in names if STATISTICS[name].per in ("answer", "seat")]

    def rates(who: np.ndarray, wanted: Sequence[str]) -> dict[str, float | None]:
        sums = {name: counts(b, name, who).sum(axis=0) for name in wanted}
        return {name: float(n / d) if d else None for name, (n, d) in sums.items()}

    seats = {f"seat_{seat}": rates(b.seat == seat, own) for seat in range(b.seats)}
    return {"pooled": rates(b.trained, names), **seats}
