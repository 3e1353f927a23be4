"""The answers and outcomes of split games as arrays, for the statistics of negotiation.

Messages, claims and responses are rows. Claims and allocations are joined by round, because most
statistics compare seats. Built from a list of decisions (`negotiation_outcomes`) or from the
columns of a file (`from_columns`); both need the decisions of all seats.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.prompts.answers import NOT_BEHAVIOR
from comity.rollout.records import Decision

ANSWERS = ("message", "claim", "respond")
"""Kinds of decisions in a split game; others (thoughts, follow-up questions) are no part of it."""

COLUMNS = (
    "iteration",
    "match",
    "group",
    "seat",
    "round",
    "kind",
    "player",
    "controller",
    "move",
    "payoff",
    "claim",
    "stock",
    "values",
    "allocation",
    "max_welfare",
    "parse_status",
    "attempts",
    "constrained",
    "characters",
    "tokens",
)
"""What is counted on: fields of `Decision`, but `characters` is the length of `message_as_read` and
`tokens` the number of tokens."""


@dataclass(frozen=True)
class NegotiationOutcomes:
    """D answers, R rounds, S seats, I items, M matches. Items that a round lacks have stock 0."""

    match: np.ndarray
    """int `[D]`: 0..M-1, in the order of (iteration, match)."""
    group: np.ndarray
    """int `[M]`: matches of one iteration and group share their deals."""
    round: np.ndarray
    """int `[D]`: 0..R-1; -1 where the round was never settled."""
    seat: np.ndarray
    """int `[D]`."""
    kind: np.ndarray
    """str `[D]`: one of `ANSWERS`."""
    player: np.ndarray
    """str `[D]`."""
    trained: np.ndarray
    """bool `[D]`: a learner sat there; not each of its answers need be used for learning."""
    opponent_kind: np.ndarray
    """str `[D]`: controllers of the other seats, joined by "+" where they differ."""
    move: np.ndarray
    """int `[D]`: -1 illegal; a response: 0 accepted."""
    excess_message: np.ndarray
    """bool `[D]`: a message more than the most, where only a claim was left to give."""
    withheld: np.ndarray
    """bool `[D]`: no answer of a model behind an API, which refused or was cut off."""
    attempts: np.ndarray
    """int `[D]`."""
    constrained: np.ndarray
    """bool `[D]`."""
    characters: np.ndarray
    """int `[D]`: of the message as read by the others."""
    tokens: np.ndarray
    """int `[D]`: sampled ones; 0 for other players than language models."""
    round_match: np.ndarray
    """int `[R]`."""
    row: np.ndarray
    """int `[R, S]`: the answer (0..D-1) that settled the round for the seat, or its last message
    where the round was ended before it could claim."""
    stock: np.ndarray
    """float64 `[R, I]`."""
    values: np.ndarray
    """float64 `[R, S, I]`: points per unit."""
    claim: np.ndarray
    """float64 `[R, S, I]`: units claimed as counted; NaN where the seat claims nothing
    (a response) or nothing counted."""
    allocation: np.ndarray
    """float64 `[R, S, I]`: units."""
    payoff: np.ndarray
    """float64 `[R, S]`."""
    max_welfare: np.ndarray
    """float64 `[R]`: W, points of the split that is best for all; NaN unknown."""
    exact_claims: bool | None = None
    """No seat is paid where the claims do not fit; None: it is not known from the game."""

    @property
    def matches(self) -> int:
        return int(self.match.max(initial=-1)) + 1

    @property
    def seats(self) -> int:
        return self.row.shape[1]

    @cached_property
    def all_answers(self) -> np.ndarray:
        """bool `[D]`: all answers."""
        return np.ones(len(self.match), dtype=bool)

    @cached_property
    def points(self) -> np.ndarray:
        """float64 `[R, S]`: worth of what the seat got. The payoff, unless that is shared."""
        return np.asarray((self.values * self.allocation).sum(axis=2))

    @cached_property
    def max_welfare_points(self) -> np.ndarray:
        """float64 `[R, S]`: the seat's points in the split that is best for all, ties divided."""
        most = self.values == self.values.max(axis=1, keepdims=True)
        share = most / most.sum(axis=1, keepdims=True)
        return np.asarray((self.stock[:, None] * share * self.values).sum(axis=2))

    @cached_property
    def relative_value(self) -> np.ndarray:
        """int `[R, S, I]`: own value below (-1), equal to (0) or above (1) every other seat's."""
        found = np.zeros(self.values.shape, dtype=int)
        for seat in range(self.seats):
            others = np.delete(self.values, seat, axis=1).max(axis=1)
            found[:, seat] = np.sign(self.values[:, seat] - others).astype(int)
        return found

    @cached_property
    def claimed(self) -> np.ndarray:
        """bool `[R, S]`: the seat made a legal claim."""
        legal = (self.kind[self.row] == "claim") & (self.move[self.row] >= 0)
        return np.asarray(legal & ~np.isnan(self.claim).any(axis=2))

    @cached_property
    def claims_match(self) -> np.ndarray:
        """bool `[R]`: all seats' claims add up to the stock of every item."""
        # NaN is not equal to anything: where a claim is missing, none claims_match.
        return np.asarray((self.claim.sum(axis=1) == self.stock).all(axis=1))

    @cached_property
    def responds(self) -> np.ndarray:
        """bool `[R, S]`: the seat accepted or rejected."""
        return np.asarray(self.kind[self.row] == "respond")

    @cached_property
    def at_reserve(self) -> np.ndarray:
        """int `[R, S]`: 1 where the seat's claim or response brings it no more than no deal does.

        Without a deal a seat gets 0 points. 0 where it brings more, or where a proposal was
        rejected; -1 where there was no legal claim or response.
        """
        claimed = (self.values * np.nan_to_num(self.claim)).sum(axis=2)
        responded = self.responds & (self.move[self.row] >= 0)
        accepted = responded & (self.move[self.row] == 0)
        low = np.where(self.responds, accepted & (self.points <= 0), claimed <= 0)
        return np.where(self.claimed | responded, low.astype(int), -1)

    @cached_property
    def agreed(self) -> np.ndarray:
        """bool `[R]`: the proposal was accepted, or the claims fit."""
        legal = (self.move[self.row] >= 0).all(axis=1)
        accepted = (self.responds & (self.move[self.row] == 0)).any(axis=1)
        return np.asarray(np.where(self.responds.any(axis=1), accepted, self.claims_match & legal))

    @cached_property
    def can_agree(self) -> bool:
        """Rounds can end in agreement: by a response, or because claims must fit.

        Where the game is not known, some round must have shown it: all seats claimed legally,
        their claims did not fit, and no seat got anything of what was claimed.
        """
        if self.responds.any():
            return True
        if self.exact_claims is not None:
            return self.exact_claims
        got = self.allocation.any(axis=(1, 2))
        wanted = self.claimed.all(axis=1) & (np.nan_to_num(self.claim) > 0).any(axis=(1, 2))
        return bool(
            (wanted & ~self.claims_match & ~got).any() and not (got & ~self.claims_match).any()
        )


def is_split(kinds: Sequence[str] | np.ndarray) -> bool:
    """Whether decisions of these kinds are of a split game."""
    return bool({"claim", "respond"} & {str(kind) for kind in kinds})


def is_learner(controllers: Sequence[str]) -> np.ndarray:
    """bool `[D]`: a decision of a learner's seat.

    Answers that nothing was learned from (illegal ones, where the config says so) are the
    learner's all the same, and statistics without them would be too good.
    """
    return np.array([controller == "live" for controller in controllers], dtype=bool)


def negotiation_outcomes(
    decisions: Sequence[Decision], exact_claims: bool | None = None
) -> NegotiationOutcomes:
    """The answers of split games among decisions of all seats; see `from_columns`."""
    plain = [name for name in COLUMNS if name not in ("characters", "tokens")]
    columns: dict[str, Sequence[Any]] = {n: [getattr(d, n) for d in decisions] for n in plain}
    columns["characters"] = [len(d.message_as_read) for d in decisions]
    columns["tokens"] = [len(d.tokens) for d in decisions]
    return from_columns(columns, exact_claims)


def from_columns(
    columns: Mapping[str, Sequence[Any]], exact_claims: bool | None = None
) -> NegotiationOutcomes:
    """From the columns `COLUMNS`; `ComityError` unless a split game and all seats are there."""
    keep = [i for i, kind in enumerate(columns["kind"]) if kind in ANSWERS]
    if not is_split([columns["kind"][i] for i in keep]):
        raise ComityError("statistics of negotiation need a split game; there are no claims")
    learning = is_learner(columns["controller"])
    column = {name: [columns[name][i] for i in keep] for name in COLUMNS}
    keys = list(zip(column["iteration"], column["match"], strict=True))
    matches = {key: number for number, key in enumerate(sorted(set(keys)))}
    match = np.array([matches[key] for key in keys])
    seats = max(column["seat"]) + 1
    rows = _settled(match, column, seats)
    rounds = {place: number for number, place in enumerate(rows)}
    row = np.array([[seat[s] for s in range(seats)] for seat in rows.values()])
    items = max(len(column["stock"][i]) for i in row.flat)

    def joined(name: str, missing: float = 0.0) -> np.ndarray:
        found = np.zeros((*row.shape, items))
        for place, i in np.ndenumerate(row):
            values = column[name][i]
            found[place][: len(values)] = values
            if not values:
                found[place] = missing
        return found

    def array(name: str, kind: type) -> np.ndarray:
        return np.array(column[name], dtype=kind)

    _, first = np.unique(match, return_index=True)
    return NegotiationOutcomes(
        match=match,
        group=array("group", int)[first],
        round=np.array(
            [rounds.get(p, -1) for p in zip(match.tolist(), column["round"], strict=True)]
        ),
        seat=array("seat", int),
        kind=array("kind", np.str_),
        player=array("player", np.str_),
        trained=learning[keep],
        opponent_kind=_opponent_kinds(match, column),
        move=array("move", int),
        excess_message=np.array([one == "exceeded" for one in column["parse_status"]], dtype=bool),
        withheld=np.array([one in NOT_BEHAVIOR for one in column["parse_status"]], dtype=bool),
        attempts=array("attempts", int),
        constrained=array("constrained", bool),
        characters=array("characters", int),
        tokens=array("tokens", int),
        round_match=np.array([m for m, _ in rows]),
        row=row,
        stock=joined("stock").max(axis=1),
        values=joined("values"),
        claim=joined("claim", missing=np.nan),
        allocation=joined("allocation"),
        payoff=array("payoff", float)[row],
        max_welfare=array("max_welfare", float)[row[:, 0]],
        exact_claims=exact_claims,
    )


def _settled(
    match: np.ndarray, column: Mapping[str, Sequence[Any]], seats: int
) -> dict[tuple[int, int], dict[int, int]]:
    """By (match, round), by seat: the row of its claim or response.

    Of a seat that could not claim, the last message: that knows what was dealt.
    """
    rows: dict[tuple[int, int], dict[int, int]] = {}
    for i, kind in enumerate(column["kind"]):
        if kind != "message" or column["stock"][i]:
            rows.setdefault((int(match[i]), column["round"][i]), {})[column["seat"][i]] = i
    if seats < 2 or any(len(found) < seats for found in rows.values()):
        raise ComityError(
            "statistics of negotiation compare seats: give the decisions of all of them"
        )
    return dict(sorted(rows.items()))


def _opponent_kinds(match: np.ndarray, column: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """Who the others were: their controllers, by row."""
    sat: dict[int, dict[int, str]] = {}
    for m, seat, who in zip(match.tolist(), column["seat"], column["controller"], strict=True):
        sat.setdefault(m, {})[seat] = who or ""
    return np.array(
        [
            "+".join(sorted({who for other, who in sat[m].items() if other != seat}))
            for m, seat in zip(match.tolist(), column["seat"], strict=True)
        ],
        dtype=np.str_,
    )
