"""What a policy did, counted from the records of decisions.

A *measure* takes any list of `comity.rollout.records.Decision` and counts: it returns
`(numerator, denominator)`, and counts of two lists add up. `rate` divides; `per_match` counts
each match by itself, which is what `comity.evaluation.statistics.mean_over_seeds` takes:

    mean_over_seeds([per_match(run, cooperation) for run in runs_of_all_seeds], bounds=(0, 1))

The caller picks the decisions (those of one policy, of the learners, of one iteration). The
functions that need whole rounds, `outcome`, must be given the decisions of all seats.

Move 0 is cooperation, C; move 1 is defection, D; both are of decisions of the kind "choose"
only, of each seat the last in a round (`choices`). Announcements before it, messages and claims
(`comity.evaluation.negotiation.statistics`) are neither. States are written own move first, then
the other's: "CD" is "I cooperated, they defected"; "start" is before anything was shown. A rate
with an empty denominator is None, never 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from comity.errors import ComityError
from comity.evaluation.measures import Count as Count
from comity.evaluation.measures import Measure as Measure
from comity.evaluation.measures import per_match as per_match
from comity.evaluation.measures import rate as rate
from comity.evaluation.negotiation.outcomes import is_learner
from comity.evaluation.negotiation.statistics import negotiation_metrics
from comity.games.base import KINDS
from comity.games.matrix.stages import OUTCOMES as OUTCOMES
from comity.players.base import CONTROLLERS
from comity.prompts.answers import NOT_BEHAVIOR as NOT_BEHAVIOR
from comity.registry import own_parts
from comity.rollout.records import Decision

STATES = ("start", *OUTCOMES)

STRATEGIES: dict[str, dict[str, float]] = {
    "always_cooperate": {"CC": 1.0, "CD": 1.0, "DC": 1.0, "DD": 1.0},
    "always_defect": {"CC": 0.0, "CD": 0.0, "DC": 0.0, "DD": 0.0},
    "tit_for_tat": {"CC": 1.0, "CD": 0.0, "DC": 1.0, "DD": 0.0},
    "win_stay_lose_shift": {"CC": 1.0, "CD": 0.0, "DC": 0.0, "DD": 1.0},
}
"""P(C | state) of the memory-one reference strategies."""


def choices(decisions: Sequence[Decision]) -> list[Decision]:
    """The choices that were played: of several of a seat in one round, the last.

    Those before it announce or ask: they pay nothing, and are no moves of the game.
    """
    found = [d for d in decisions if d.kind == "choose"]
    if not any(d.step for d in found):
        return found
    last: dict[tuple[int, int, int, int], int] = {}
    for d in found:
        place = d.iteration, d.match, d.round, d.seat
        last[place] = max(d.step, last.get(place, 0))
    return [d for d in found if d.step == last[d.iteration, d.match, d.round, d.seat]]


def cooperation(decisions: Sequence[Decision]) -> Count:
    """Cooperative answers among the legal ones (as intended, before trembles)."""
    moves = [d.move for d in choices(decisions) if d.move >= 0]
    return float(moves.count(0)), float(len(moves))


def exact_cooperation(decisions: Sequence[Decision]) -> Count:
    """Probability of cooperation over all decisions whose probabilities were recorded.

    The expectation of `cooperation` given the states that were reached, with none of the
    sampling noise of the answers. Relies on legal answers being listed by move index.
    """
    probabilities = [d.probabilities[0] for d in choices(decisions) if d.probabilities]
    return float(sum(probabilities)), float(len(probabilities))


def is_scored(decisions: Sequence[Decision]) -> bool:
    """All choices were drawn from a recorded distribution, at the first attempt.

    What was answered after a failed attempt follows its distribution only given the failure.
    """
    chosen = choices(decisions)
    return bool(chosen) and all(d.probabilities and d.attempts == 1 and d.move >= 0 for d in chosen)


def conditional(
    state: str, measure: Measure = cooperation
) -> Callable[[Sequence[Decision]], Count]:
    """The measure of `measure` over the two-seat decisions that were shown `state`.

    `state` is one of `STATES`. With `exact_cooperation` this is the policy's own P(C | state).
    Decisions in which a last move was missing (an illegal answer) belong to no state.
    """
    shown = [] if state == "start" else ["CD".index(letter) for letter in state]

    def conditioned(decisions: Sequence[Decision]) -> Count:
        return measure([d for d in decisions if list(d.state) == shown])

    return conditioned


def retaliation(decisions: Sequence[Decision]) -> Count:
    """Defections among the legal answers right after another seat was seen to defect."""
    shown = [d for d in choices(decisions) if 1 in list(d.state)[1:]]
    moves = [d.move for d in shown if d.move >= 0]
    return float(moves.count(1)), float(len(moves))


def illegal(decisions: Sequence[Decision]) -> Count:
    """Answers that could not be read as a move (message, claim), among all that the game asks.

    Refused and cut-off answers of models behind an API (`refused`, `cut_off`) are not counted.
    """
    asked = [d for d in decisions if d.kind in KINDS]
    wrong = sum(d.move < 0 and d.parse_status not in NOT_BEHAVIOR for d in asked)
    return float(wrong), float(len(asked))


def api_outcomes(decisions: Sequence[Decision]) -> dict[str, int]:
    """What became of the requests to models behind an API, failed attempts included.

    Numbers of answers that were `legal`, `illegal`, `refused` and `cut_off`.
    """
    found = {"legal": 0, "illegal": 0, **dict.fromkeys(NOT_BEHAVIOR, 0)}
    for d in decisions:
        if d.controller == "api" and (d.kind in KINDS or d.kind == "attempt"):
            status = d.parse_status if d.parse_status in NOT_BEHAVIOR else ""
            found[status or ("legal" if d.move >= 0 else "illegal")] += 1
    return found


def payoff(decisions: Sequence[Decision]) -> Count:
    """Payoff per round and seat. A round with several steps counts once."""
    rounds = {(d.iteration, d.match, d.seat, d.round) for d in decisions}
    return float(sum(d.payoff for d in decisions)), float(len(rounds))


First = Mapping[tuple[int, int], int]
"""By (iteration, match): the seat whose move stands first in a joint outcome."""


METRICS: dict[str, Measure] = {
    "retaliation": retaliation,
}
"""Metrics of every iteration beside those that all runs have, by name.

Each is a share. They count over what the learners' seats answered, are logged under `metrics`
of metrics.jsonl, and drawn on the page.
"""


def all_metrics() -> dict[str, Measure]:
    """Those, and the user's own."""
    return {**own_parts("metric"), **METRICS}


def further_metrics(decisions: Sequence[Decision]) -> dict[str, float | None]:
    """The rate of each of `METRICS` and of the user's own; `ComityError` for what is no count."""
    found = {}
    for name, measure in all_metrics().items():
        try:
            numerator, denominator = measure(decisions)
            found[name] = rate((float(numerator), float(denominator)))
        except (TypeError, ValueError) as error:
            raise ComityError(
                f"metric {name!r} must return a numerator and a denominator ({error})"
            ) from error
    return found


def outcome(joint: str, first: First | None = None) -> Callable[[Sequence[Decision]], Count]:
    """Rounds that ended in `joint` (one of `OUTCOMES`), among all rounds.

    The move of the seat that `first` has stands first; seat 0's where it has none. Counts what was
    played, after trembles and the game's rule for illegal answers. Rounds in which a seat made no
    move are in the denominator only, so the four shares add up to less than 1 by just those.
    Needs the decisions of both seats.
    """
    wanted = tuple("CD".index(letter) for letter in joint)

    def counted(decisions: Sequence[Decision]) -> Count:
        rounds = _joint_moves(decisions, first or {})
        return float(rounds.count(wanted)), float(len(rounds))

    return counted


def _first_seats(learners: Sequence[Decision]) -> First:
    """The learner's seat of every match; the least where several learn."""
    found: dict[tuple[int, int], int] = {}
    for d in learners:
        key = d.iteration, d.match
        found[key] = min(d.seat, found.get(key, d.seat))
    return found


def distance(table: Mapping[str, float | None], strategy: str) -> float | None:
    """Mean absolute distance of P(C | CC, CD, DC, DD) to a row of `STRATEGIES`.

    None unless all four states have a value: distances over different states do not compare.
    """
    gaps = []
    for state, expected in STRATEGIES[strategy].items():
        value = table.get(state)
        if value is None:
            return None
        gaps.append(abs(value - expected))
    return sum(gaps) / len(gaps)


def conditional_table(
    decisions: Sequence[Decision], measure: Measure = cooperation
) -> dict[str, float | None]:
    """P(C | state) for each of `STATES`: what `distance` takes."""
    return {state: rate(conditional(state, measure)(decisions)) for state in STATES}


def iteration_metrics(
    decisions: Sequence[Decision], exact_claims: bool | None = None
) -> dict[str, Any]:
    """The keys of a line of metrics.jsonl that describe how one iteration was played.

    `decisions`: all of the iteration's, of every seat. `cooperation`, `payoff`, `illegal` and
    `conditional` are those of the learners' seats; `outcomes` has the learner's move first (seat
    0's where both learn). `outcomes` and `conditional` are empty unless the game has two seats
    and two moves.

    Where the learners' choices were all scored, cooperation is the mean of its recorded
    probabilities, which no draw of an answer moves; else the share of the legal answers.
    `metrics` has the rates of `METRICS` and of the user's own.
    `conditional` maps each state to `[probability or number of cooperation, legal answers]`; see
    also `by_opponent`. `negotiation` has the statistics of split games
    (`comity.evaluation.negotiation.statistics`; `exact_claims` as there); `{}` in others.
    """
    learners = learners_decisions(decisions)
    measure = exact_cooperation if is_scored(learners) else cooperation
    two_by_two = _is_two_by_two(decisions)
    first = _first_seats(learners)
    oriented = decisions if not first else [d for d in decisions if (d.iteration, d.match) in first]
    return {
        "cooperation": rate(measure(learners)),
        "payoff": rate(payoff(learners)),
        "outcomes": {o: rate(outcome(o, first)(oriented)) for o in OUTCOMES} if two_by_two else {},
        "conditional": {state: _counts(conditional(state, measure)(learners)) for state in STATES}
        if two_by_two
        else {},
        "illegal": rate(illegal(learners)),
        "metrics": further_metrics(learners),
        "by_opponent": by_opponent(decisions),
        "negotiation": negotiation_metrics(decisions, exact_claims),
    }


def _counts(count: Count) -> list[float]:
    """Numbers of answers are whole."""
    return [int(one) if one == int(one) else round(one, 6) for one in count]


def by_opponent(decisions: Sequence[Decision]) -> dict[str, dict[str, float | None]]:
    """Cooperation and payoff of the trained seats, by the kind of player that they faced.

    `{controller: {"matches", "cooperation", "payoff"}}` with a row for each of `CONTROLLERS`.
    `decisions` are those of all seats. A match with several others counts for the kind of each.
    """
    sat: dict[tuple[int, int], dict[int, str]] = {}
    for d in decisions:
        sat.setdefault((d.iteration, d.match), {})[d.seat] = d.controller
    rows: dict[str, dict[str, float | None]] = {}
    for kind in CONTROLLERS:
        faced = [
            d
            for d in learners_decisions(decisions)
            if any(
                controller == kind
                for seat, controller in sat[d.iteration, d.match].items()
                if seat != d.seat
            )
        ]
        measure = exact_cooperation if is_scored(faced) else cooperation
        rows[kind] = {
            "matches": len({(d.iteration, d.match) for d in faced}),
            "cooperation": rate(measure(faced)),
            "payoff": rate(payoff(faced)),
        }
    return rows


def learners_decisions(decisions: Sequence[Decision]) -> list[Decision]:
    """What learners' seats answered, whether or not it was used for learning."""
    learning = is_learner([d.controller for d in decisions])
    return [d for d, one in zip(decisions, learning, strict=True) if one and d.kind in KINDS]


def _joint_moves(decisions: Sequence[Decision], first: First) -> list[tuple[int, ...]]:
    """What was played in each round of each match: the first seat's move, then the others'."""
    rounds: dict[tuple[int, int, int], dict[int, int]] = {}
    for d in choices(decisions):
        rounds.setdefault((d.iteration, d.match, d.round), {})[d.seat] = d.played
    return [
        tuple(
            played[seat]
            for seat in sorted(played, key=lambda seat: (seat != first.get(place[:2], 0), seat))
        )
        for place, played in rounds.items()
    ]


def _is_two_by_two(decisions: Sequence[Decision]) -> bool:
    """Two seats sat and chose, and no third move was on offer or made."""
    decisions = choices(decisions)
    moves = max((max(len(d.legal), d.move + 1, d.played + 1) for d in decisions), default=0)
    return (
        {d.seat for d in decisions} == {0, 1}
        and all(len(d.state) in (0, 2) for d in decisions)
        and moves <= 2
    )
