"""The summary that the page of a tournament of more than two seats is made from: plain values.

What is not here is as in `comity.reports.tournament.summary_format`.
"""

from typing import Any, NotRequired, TypedDict

from comity.reports.tournament.summary_format import (
    Comparison,
    Estimate,
    Game,
    Metric,
    Outcomes,
    Player,
    References,
    TranscriptRound,
    Usage,
)


class SeatedTranscript(TypedDict):
    """One match of more than two seats."""

    seats: list[str]
    """The agent of each seat."""
    seed: int
    rounds: list[TranscriptRound]


class SeatedAgent(TypedDict):
    """An agent over all compositions with it, by their weights."""

    name: str
    rank: int
    metrics: dict[str, Estimate]
    without: int
    """Compositions of which no match is in the table."""


class CompositionRow(TypedDict):
    """What one composition of agents came to."""

    agents: dict[str, int]
    """Seats of each agent."""
    weight: int
    """Its seatings, or how often it was drawn."""
    matches: int
    welfare_share: Estimate
    gini: Estimate
    payoffs: dict[str, Estimate]
    cooperation: dict[str, Estimate]


class MixPoint(TypedDict):
    """Payoffs per round with `focal` seats of the focal agent."""

    focal: int
    own: Estimate
    background: Estimate | None
    """None where all seats are focal."""


class Visitor(TypedDict):
    """The visitor that gains most among residents, compared with them among themselves."""

    resident: str
    visitor: str
    gain: Estimate


class ManySeatsSummary(TypedDict):
    """What `write_seats_page` takes; the keys that are not here are those of a tournament."""

    schema: int
    kind: str
    """"many-seats"."""
    title: str
    game: Game
    seed: int
    seats: int
    matches: int
    """Matches of each composition that were asked for."""
    played: int
    missing: int
    missing_reasons: dict[str, int]
    existing: int
    """How many compositions of these agents there are."""
    drawn: int | None
    """How many were drawn at random; None: all were played."""
    version: str
    created: str
    command: NotRequired[str]
    """What starts the same again."""
    versions: NotRequired[dict[str, Any]]
    """Libraries, code revision and machine."""
    players: list[Player]
    metrics: dict[str, Metric]
    agents: list[SeatedAgent]
    clean: list[SeatedAgent] | None
    compositions: list[CompositionRow]
    mixes: dict[str, dict[str, list[MixPoint]]]
    """By focal agent and background; "": all other agents in turn."""
    visitors: list[Visitor]
    deviation_ratings: dict[str, float]
    """Of the empirical game; {} where compositions are missing, sampled or too many."""
    comparisons: list[Comparison]
    outcomes: dict[str, Outcomes]
    usage: dict[str, Usage]
    references: References
    transcripts: list[SeatedTranscript]
