"""Statistics of negotiation: rounds by hand, exact references, loops that say the same."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.evaluation import metrics
from comity.evaluation.metrics import per_match, rate
from comity.evaluation.moral import reference_policies as reference_policies
from comity.evaluation.negotiation.outcomes import negotiation_outcomes
from comity.evaluation.negotiation.statistics import STATISTICS, applicable, counts, measure
from comity.evaluation.payoff_ranges import requires_exact_claims
from comity.evaluation.statistics import mean_over_seeds
from comity.games import make_game
from comity.games.base import ILLEGAL
from comity.games.lengths import Fixed
from comity.games.split.game import Split
from comity.games.split.state import Instance
from comity.rollout.records import Decision
from tests.evaluation.bargaining import Listed, cooperator, greedy, play, saying

TWO_ITEMS = ("hats", "books")


def split(*instances: Instance, rounds: int = 1, **parameters: Any) -> Split:
    items = TWO_ITEMS[: len(instances[0].stock)]
    return Split("t", Listed(instances, items), length=Fixed(rounds), **parameters)


def value(name: str, decisions: Sequence[Decision], **who: Any) -> float | None:
    return rate(measure(name, **who)(decisions))


# Two rounds by hand. Round 0: 10 hats (10 against 1), 10 books (5 each). Seat 0 claims 10 hats
# and 5 books, seat 1 claims 5 hats and 10 books. Both items are over-claimed, 15 of 10.
# Round 1: seat 0 values hats 1 against 10 and nothing else counts; it claims 0, and seat 1's
# claim is illegal and counts as nothing.
FIRST = Instance((10, 10), ((10.0, 5.0), (1.0, 5.0)))
SECOND = Instance((10, 10), ((1.0, 2.0), (10.0, 1.0)))


def by_hand() -> list[Decision]:
    game = split(FIRST, SECOND, rounds=2, starter="fixed")
    decisions = play(
        game,
        (saying("hello", (10, 5), "x", (0, 4)), saying("", (5, 10), ILLEGAL, ILLEGAL)),
        tokens=[1, 2, 3],
    )
    decisions[0] = replace(decisions[0], attempts=3, constrained=True)
    return decisions


BY_HAND = by_hand()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Round 0: hats 20/3 and 10/3, books 10/3 and 20/3:
        #   seat 0 gets 200/3 + 50/3 = 250/3, seat 1 gets 10/3 + 100/3 = 110/3; W = 100 + 50.
        # Round 1: seat 0 gets 4 books of worth 2: 8; seat 1 nothing; W = 100 + 20.
        ("payoff", (120 + 8) / 4),
        ("efficiency", (120 / 150 + 8 / 120) / 2),
        ("percent_of_max", 128 / 270),
        # Best for all: round 0, 100 + 25 and 25; round 1, 20 and 100.
        ("own_share", 128 / 270),
        # Units given out: 20 and 4. Hats to seat 0: 20/3. All 10 books. The 4 books of round 1.
        ("allocative_efficiency", (20 / 3 + 10 + 4) / 24),
        # Legal claims: 15 + 15 of 20 each, then 4 of 20.
        ("stock_claimed", 34 / 60),
        ("claim_higher", (10 + 4) / 2),  # hats by seat 0; books by seat 0 in round 1
        ("claim_equal", (5 + 10) / 2),
        ("claim_lower", (5 + 0) / 2),
        ("over_claimed", 2 / 4),
        ("imbalance", (250 / 3 + 8 - 110 / 3) / 128),
        ("messages", 1.0),
        ("characters", (5 + 0 + 1 + 0) / 4),
        ("tokens", 3.0),
        ("empty_messages", 2 / 4),
        ("illegal_messages", 1 / 4),
        ("illegal_claims", 1 / 4),
        ("retries", 2 / 8),
        ("constrained", 1 / 8),
    ],
)
def test_two_rounds_by_hand(name: str, expected: float) -> None:
    assert value(name, BY_HAND) == pytest.approx(expected)


def test_of_one_seat_only() -> None:
    assert value("payoff", BY_HAND, seat=0) == pytest.approx((250 / 3 + 8) / 2)
    assert value("own_share", BY_HAND, seat=0) == pytest.approx((250 / 3 + 8) / (125 + 20))
    assert value("own_share", BY_HAND, seat=1) == pytest.approx((110 / 3) / (25 + 100))
    assert value("stock_claimed", BY_HAND, seat=1) == 15 / 20
    assert value("claim_higher", BY_HAND, seat=1) is None, "its claim on hats was illegal"
    assert value("efficiency", BY_HAND, seat=1) == value("efficiency", BY_HAND)


def test_every_statistic_is_defined_in_one_sentence_and_the_docs_have_it() -> None:
    docs = Path("docs/explanation/measuring.md").read_text(encoding="utf-8")
    assert {"payoff", "percent_of_max", "constrained"} <= set(STATISTICS)
    for name, one in STATISTICS.items():
        assert one.text.endswith(".") and "\n" not in one.text
        assert f"| `{name}` | {one.title} | {one.text} |" in docs
        assert one.unit in ("share", "points", "units", "characters", "tokens", "number")


def test_a_claim_that_must_fit() -> None:
    game = split(FIRST, rounds=2, payment="exact", messages=0)
    decisions = play(game, (saying((10, 4), (10, 5)), saying((0, 6), (0, 6))))
    assert value("agreement", decisions) == 0.5
    assert value("points_on_agreement", decisions) == (120 + 30) / 2
    assert value("points_on_agreement", decisions, seat=1) == 30
    assert value("efficiency", decisions) == 0.5
    assert value("over_claimed", decisions) == 1 / 4
    none = play(game, (greedy, greedy))
    assert value("agreement", none) == 0.0
    assert value("points_on_agreement", none) is None
    assert value("imbalance", none) is None
    assert value("allocative_efficiency", none) is None


@pytest.mark.parametrize("payment", ["proportional", "exact"])
def test_agreement_goes_by_the_games_rules_not_by_what_happened(payment: str) -> None:
    """All claims fit in every round; where they need not, that was no agreement."""
    game = split(FIRST, payment=payment, messages=0)
    decisions = play(game, (saying((10, 4)), saying((0, 6))))
    exact_claims = requires_exact_claims(game)
    found = metrics.iteration_metrics(
        [replace(d, controller="live") for d in decisions], exact_claims
    )["negotiation"]["pooled"]
    if payment == "exact":
        assert (
            found["agreement"]
            == rate(measure("agreement", exact_claims=exact_claims)(decisions))
            == 1.0
        )
        return
    assert not {"agreement", "points_on_agreement"} & set(found)
    for known in (exact_claims, None):  # Without the rules nothing shows that claims must fit.
        with pytest.raises(ComityError, match="claims that must fit or proposals"):
            measure("agreement", exact_claims=known)(decisions)


@pytest.mark.parametrize(("answer", "agreed"), [(0, 1.0), (1, 0.0), (ILLEGAL, 0.0)])
def test_a_proposal(answer: Any, agreed: float) -> None:
    game = split(FIRST, finalization="proposal", messages=0, starter="fixed")
    decisions = play(game, (saying((10, 2)), saying(answer)))
    assert value("agreement", decisions) == agreed
    assert value("points_on_agreement", decisions) == (
        pytest.approx((110 + 40) / 2) if agreed else None
    )
    assert value("stock_claimed", decisions) == 12 / 20, "who responds claims nothing"
    assert value("illegal_claims", decisions) == (0.5 if answer is ILLEGAL else 0.0)
    with pytest.raises(ComityError, match="over_claimed is about a stock that is claimed by all"):
        value("over_claimed", decisions)


def test_a_round_that_was_voided_counts_as_nothing_claimed() -> None:
    game = split(FIRST, illegal="zero_all", messages=0)
    decisions = play(game, (saying((10, 0)), saying(ILLEGAL)))
    assert [d.claim for d in decisions] == [[], []]
    assert value("stock_claimed", decisions) is None
    assert value("over_claimed", decisions) is None
    assert value("efficiency", decisions) == 0.0
    assert value("payoff", decisions) == 0.0


def test_what_a_game_does_not_have_fails_loudly() -> None:
    silent = play(split(FIRST, messages=0), (greedy, greedy))
    for name in ("messages", "characters", "tokens", "empty_messages", "illegal_messages"):
        with pytest.raises(ComityError, match=f"{name} is about messages"):
            measure(name)(silent)
    with pytest.raises(ComityError, match="claims that must fit or proposals"):
        measure("agreement")(silent)
    with pytest.raises(ComityError, match="need a split game"):
        measure("payoff")([replace(d, kind="choose") for d in silent])
    with pytest.raises(ComityError, match="the decisions of all"):
        measure("payoff")([d for d in silent if d.seat == 0])
    with pytest.raises(ComityError, match="the decisions of all"):
        measure("payoff")([d for d in silent if d.seat == 1])
    with pytest.raises(ComityError, match="did you mean own_share"):
        measure("own_shares")


def test_three_seats() -> None:
    instance = Instance((9,), ((2.0,), (2.0,), (1.0,)))
    decisions = play(
        split(instance, messages=1), (saying("a", (9,)), saying("b", (9,)), saying("c", (9,)))
    )
    assert value("payoff", decisions) == (6 + 6 + 3) / 3
    assert value("percent_of_max", decisions) == 15 / 18
    assert value("own_share", decisions, seat=0) == 6 / 9
    assert value("own_share", decisions, seat=2) is None, "entitled to nothing"
    assert value("allocative_efficiency", decisions) == 6 / 9
    assert value("claim_equal", decisions) == 9 and value("claim_equal", decisions, seat=2) is None
    assert value("claim_lower", decisions, seat=2) == 9
    with pytest.raises(ComityError, match="imbalance is about two seats"):
        measure("imbalance")(decisions)
    assert "imbalance" not in applicable(negotiation_outcomes(decisions))


def test_shared_payoffs_do_not_count_twice() -> None:
    decisions = play(split(FIRST, messages=0, shared_payoff=True), (cooperator, cooperator))
    assert value("payoff", decisions) == 150
    assert value("efficiency", decisions) == value("percent_of_max", decisions) == 1.0


def test_by_kind_of_opponent() -> None:
    game = split(FIRST, SECOND, messages=0)
    mixed = [
        replace(d, controller=("live", "past")[d.seat], trained=d.seat == 0)
        for d in play(game, (greedy, cooperator), match=0)
    ] + play(game, (greedy, greedy), match=1, seed=1)
    assert value("payoff", mixed, seat=0, opponent_kind="past") == value(
        "payoff", mixed[:2], seat=0
    )
    assert value("payoff", mixed, seat=0, opponent_kind="live") == value(
        "payoff", mixed[2:], seat=0
    )
    assert value("payoff", mixed, opponent_kind="scripted") is None
    b = negotiation_outcomes(mixed)
    assert sorted(set(b.opponent_kind)) == ["live", "past"]
    assert counts(b, "payoff", b.opponent_kind == "past").shape == (1, 2), (
        "the other match has no say"
    )


# ---- exact references, by enumeration of all deals --------------------------------------------
TIES = list(product((1.0, 10.0), repeat=6))


def listed(name: str) -> list[Instance]:
    """All deals of a game with equal chances."""
    if name == "exclusive":
        return [Instance((10,), ((10.0,), (1.0,))), Instance((10,), ((1.0,), (10.0,)))]
    if name == "1-to-20":
        values = [float(v) for v in range(1, 21)]
        return [Instance((10,), ((a,), (b,))) for a, b in product(values, values)]
    equal = [(v[:3], v[3:]) for v in TIES if sum(v[:3]) == sum(v[3:])]
    if name == "ties and conflict":
        equal = [(own, other) for own, other in equal if own != other]
    return [Instance((10, 10, 10), pair) for pair in equal]


@pytest.mark.parametrize(
    ("name", "both", "alone", "e1", "e2", "against", "against_e2"),
    [
        ("exclusive", 50, 27.5, 0.55, 0.55, (52.5, 25), 0.7750),
        ("1-to-20", 69.125, 52.5, 0.7625, 0.7595, (86.625, 35), 0.8797),
        ("ties", 109.5, 82.5, 0.7814, 0.7534, (129, 63), 0.8767),
        ("ties and conflict", 127.5, 82.5, 0.6357, 0.6471, (141.6667, 68.3333), 0.8235),
    ],
)
def test_scripted_pairs_have_their_exact_references(
    name: str,
    both: float,
    alone: float,
    e1: float,
    e2: float,
    against: tuple[float, float],
    against_e2: float,
) -> None:
    instances = listed(name)
    items = ("a", "b", "c")[: len(instances[0].stock)]
    game = Split("t", Listed(tuple(instances), items), messages=0, length=Fixed(1))

    def all_deals(*agents: Any) -> list[Decision]:
        # Ties are of 10 units here: nothing is left over that one seat would get.
        return [
            d for seed in range(len(instances)) for d in play(game, agents, seed=seed, match=seed)
        ]

    kind = pytest.approx
    nice = all_deals(cooperator, cooperator)
    assert value("payoff", nice) == kind(both, abs=1e-4)
    assert value("efficiency", nice) == value("percent_of_max", nice) == kind(1.0)
    assert value("allocative_efficiency", nice) == value("own_share", nice) == kind(1.0)
    assert value("over_claimed", nice) == 0.0
    assert value("claim_higher", nice) == 10 and value("claim_lower", nice) == 0
    hard = all_deals(greedy, greedy)
    assert value("payoff", hard) == kind(alone, abs=1e-4)
    assert value("efficiency", hard) == kind(e1, abs=6e-5)
    assert value("percent_of_max", hard) == kind(e2, abs=6e-5)
    assert value("stock_claimed", hard) == value("over_claimed", hard) == 1.0
    unequal = all_deals(greedy, cooperator)
    assert value("payoff", unequal, seat=0) == kind(against[0], abs=1e-4)
    assert value("payoff", unequal, seat=1) == kind(against[1], abs=1e-4)
    assert value("percent_of_max", unequal) == kind(against_e2, abs=6e-5)
    if name == "exclusive":  # 100 against 0, or 5 against 50
        assert value("imbalance", unequal) == kind((100 + 45) / 155)


# ---- properties ------------------------------------------------------------------------------
amounts = st.integers(0, 4)
worths = st.sampled_from([0.0, 1.0, 2.0, 7.0])
claims = st.tuples(amounts, amounts) | st.just(ILLEGAL)


@st.composite
def matches(draw: Any) -> list[Decision]:
    """Some matches of a game with two items and messages, illegal answers among them."""
    instances = tuple(
        Instance((4, draw(amounts)), tuple((draw(worths), draw(worths)) for _ in range(2)))
        for _ in range(draw(st.integers(1, 3)))
    )
    rounds = draw(st.integers(1, 3))
    game = split(*instances, rounds=rounds)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))

    def agent(turn: Any) -> Any:
        if random.random() < 0.2:
            return ILLEGAL
        if turn.kind == "message":
            return "m" * int(random.integers(3))
        return tuple(int(random.integers(q + 1)) for q in turn.observation.instance.stock)

    played = []
    for match in range(draw(st.integers(1, 3))):
        played += play(game, (agent, agent), seed=match, match=match)
    return played


def naive(name: str, decisions: Sequence[Decision]) -> float | None:
    """The statistics of two seats again, as loops over rounds and items."""
    top = bottom = 0.0
    settled = [d for d in decisions if d.kind == "claim"]
    for d in settled:
        [other] = [
            o for o in settled if (o.match, o.round) == (d.match, d.round) and o.seat != d.seat
        ]
        points = sum(v * x for v, x in zip(d.values, d.allocation, strict=True))
        if name == "own_share":
            top += points
        if name == "percent_of_max":
            top, bottom = top + points, bottom + d.max_welfare / 2
        for i, q in enumerate(d.stock):
            mine, theirs = d.values[i], other.values[i]
            if name == "own_share":
                bottom += q * mine if mine > theirs else q * mine / 2 if mine == theirs else 0
            if name == "allocative_efficiency":
                top += d.allocation[i] if mine >= theirs else 0
                bottom += d.allocation[i]
            if name == "stock_claimed" and d.move >= 0:
                top, bottom = top + d.claim[i], bottom + q
            if name == "over_claimed" and q:
                top, bottom = top + (d.claim[i] + other.claim[i] > q), bottom + 1
            if (
                q
                and d.move >= 0
                and (
                    (name == "claim_higher" and mine > theirs)
                    or (name == "claim_lower" and mine < theirs)
                    or (name == "claim_equal" and mine == theirs)
                )
            ):
                top, bottom = top + d.claim[i], bottom + 1
    return top / bottom if bottom else None


@settings(max_examples=60, deadline=None)
@given(matches())
def test_loops_say_the_same(decisions: list[Decision]) -> None:
    for name in (
        "own_share",
        "percent_of_max",
        "allocative_efficiency",
        "stock_claimed",
        "over_claimed",
        "claim_higher",
        "claim_lower",
        "claim_equal",
    ):
        expected = naive(name, decisions)
        found = value(name, decisions)
        assert (found is None) == (expected is None), name
        if found is not None:
            assert found == pytest.approx(expected), name


@settings(max_examples=40, deadline=None)
@given(matches())
def test_counts_of_matches_and_seats_add_up(decisions: list[Decision]) -> None:
    b = negotiation_outcomes(decisions)
    for name in applicable(b):
        whole = measure(name)(decisions)
        try:
            apart = per_match(decisions, measure(name))
        except ComityError:
            assert STATISTICS[name].needs != "claims"
            continue
        np.testing.assert_allclose(apart.sum(axis=0), whole, atol=1e-9)
        np.testing.assert_allclose(apart, counts(b, name), atol=1e-9)
        if STATISTICS[name].per in ("answer", "seat"):
            seats = [measure(name, seat=seat)(decisions) for seat in (0, 1)]
            np.testing.assert_allclose(np.sum(seats, axis=0), whole, atol=1e-9)
    estimate = mean_over_seeds([counts(b, "payoff")])
    assert estimate is not None and estimate.n == len(b.round_match) * 2
    assert all(
        0 <= (value(n, decisions) or 0) <= 1 for n in ("efficiency", "allocative_efficiency")
    )


# ---- the line of metrics.jsonl ---------------------------------------------------------------
def test_metrics_of_an_iteration() -> None:
    decisions = [replace(d, controller=("live", "past")[d.seat]) for d in BY_HAND]
    found = metrics.iteration_metrics(decisions)
    assert found["cooperation"] is None
    assert found["outcomes"] == found["conditional"] == {}
    assert found["payoff"] == pytest.approx((250 / 3 + 8) / 2)
    assert found["illegal"] == 0.0, "seat 0 made none"
    negotiation = found["negotiation"]
    assert set(negotiation) == {"pooled", "seat_0", "seat_1"}
    for name, one in negotiation["pooled"].items():
        assert one == pytest.approx(value(name, decisions, seat=0))
    assert negotiation["seat_1"]["illegal_claims"] == 0.5
    assert negotiation["seat_1"]["claim_higher"] is None
    assert "efficiency" not in negotiation["seat_0"]
    assert "agreement" not in negotiation["pooled"]
    for block in negotiation.values():
        assert all(one is None or math.isfinite(one) for one in block.values())


def test_answers_that_nothing_was_learned_from_are_the_learners_all_the_same() -> None:
    decisions = [replace(d, controller=("live", "past")[d.seat], trained=False) for d in BY_HAND]
    found = metrics.iteration_metrics(decisions)["negotiation"]["pooled"]
    assert found["constrained"] == 1 / 4
    assert found["retries"] == 2 / 4


def test_cooperation_counts_choices_only() -> None:
    choice = replace(BY_HAND[0], kind="choose", move=1, legal=["A", "B"], probabilities=[0.5, 0.5])
    mixed = [*BY_HAND, choice]
    assert metrics.cooperation(mixed) == (0.0, 1.0)
    assert metrics.exact_cooperation(mixed) == (0.5, 1.0)
    note = replace(BY_HAND[0], kind="attempt", move=-1)
    assert metrics.illegal([*BY_HAND, note]) == (2.0, 8.0), "a failed try is no answer"


# ---- reference values of the curves -------------------------------------------------------------
def test_reference_values_of_a_split_game(monkeypatch: pytest.MonkeyPatch) -> None:
    game = split(FIRST)
    exact = {"greedy": {"points": 27.5, "e1": 0.55, "e2": 0.55}}

    def refuse(game: Split) -> None:
        raise ComityError("nothing exact is known")

    monkeypatch.setattr(reference_policies, "reference_payoffs", lambda game: exact)
    assert reference_policies.split_reference_policies(game) == {
        "items": ["hats", "books"],
        "expected_payoffs": exact,
    }
    monkeypatch.setattr(reference_policies, "reference_payoffs", refuse)
    assert reference_policies.split_reference_policies(game)["expected_payoffs"] == {}
    assert (
        reference_policies.split_reference_policies(make_game({"name": "prisoners_dilemma"})) == {}
    )


@pytest.mark.parametrize(
    ("proposal", "response", "expected"),
    [
        ((10,), 0, (0, 1)),  # Everything asked for, and granted.
        ((10,), 1, (0, 0)),  # Granting nothing is better than no worse.
        ((0,), 0, (1, 0)),
        ((9,), 0, (0, 0)),
        ((4,), ILLEGAL, (0, -1)),
        (ILLEGAL, 0, (-1, 0)),
    ],
)
def test_answers_that_bring_no_more_than_no_deal(
    proposal: Any, response: Any, expected: tuple[int, int]
) -> None:
    decisions = play(make_game("ultimatum"), (saying(proposal), saying(response)))
    assert tuple(negotiation_outcomes(decisions).at_reserve[0]) == expected


def test_a_claim_of_what_is_worth_nothing_brings_nothing() -> None:
    worthless = Instance((10, 10), ((0.0, 5.0), (1.0, 5.0)))
    decisions = play(split(worthless), (saying("", (10, 0)), saying("", (0, 1))))
    assert negotiation_outcomes(decisions).at_reserve.tolist() == [[1, 0]]
