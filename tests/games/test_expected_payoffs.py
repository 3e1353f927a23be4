"""Exact references: the known table, a naive loop, and what scripts get when they play."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from comity.errors import ComityError
from comity.games import make_game
from comity.games.randomness import generator
from comity.games.split.claim_rules import (
    ClaimRule,
    ConstantClaim,
    Greedy,
    UniformRandom,
    WelfareMaximizing,
)
from comity.games.split.expected_payoffs import expected_round_payoffs, reference_payoffs
from comity.games.split.game import Split, allocate
from comity.games.split.state import Instance
from comity.players.scripted.negotiators import (
    ConstantClaimer,
    GreedyClaimer,
    Negotiator,
    RandomClaimer,
    WelfareMaximizer,
)


def split(name: str, **parameters: Any) -> Split:
    game = make_game({"name": name, **parameters})
    assert isinstance(game, Split)
    return game


def expected(game: Split, rules: list[ClaimRule]) -> dict[str, Any]:
    return expected_round_payoffs(game, [rules])[0]


TABLE: list[tuple[str, dict[str, Any], float, float, float, float, float, float, float]] = [
    # game, parameters; cooperator pair; greedy pair, E1, E2; greedy vs cooperator, E2
    ("trust_and_split_rps", {}, 50, 27.5, 0.55, 0.55, 52.5, 25, 0.7750),
    ("trust_and_split", {}, 69.125, 52.5, 0.7625, 0.7595, 86.625, 35, 0.8797),
    ("trust_and_split_items", {}, 70, 55, 0.8500, 0.7857, 83.8889, 41.1111, 0.8929),
    ("split_no_talk", {"conflict": False}, 109.5, 82.5, 0.7814, 0.7534, 129, 63, 0.8767),
    ("split_no_talk", {}, 127.5, 82.5, 0.6357, 0.6471, 141.6667, 68.3333, 0.8235),
    (
        "split_no_talk",
        {"game_type": "1-to-20", "conflict": False},
        *(199.8002, 157.5, 0.7903, 0.7883, 255.8090, 101.4912, 0.8941),
    ),
    (
        "split_no_talk",
        {"game_type": "1-to-20"},
        *(199.9932, 157.5, 0.7894, 0.7875, 256.0180, 101.4752, 0.8938),
    ),
    (
        "trust_and_split_items",
        {"game_type": "10-1-exclusive"},
        *(100, 55, 0.55, 0.55, 105, 50, 0.7750),
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}-{row[1]}")
def test_the_known_table(row: tuple[Any, ...]) -> None:
    name, parameters, together, greedy, e1, e2, exploiter, exploited, e2_mixed = row
    found = reference_payoffs(split(name, **parameters))
    assert found["cooperators"]["points"] == pytest.approx([together] * 2, abs=5e-5)
    assert (found["cooperators"]["e1"], found["cooperators"]["e2"]) == pytest.approx((1, 1))
    assert found["greedy"]["points"] == pytest.approx([greedy] * 2, abs=5e-5)
    assert (found["greedy"]["e1"], found["greedy"]["e2"]) == pytest.approx((e1, e2), abs=5e-5)
    mixed = found["greedy_vs_cooperator"]
    assert mixed["points"] == pytest.approx([exploiter, exploited], abs=5e-5)
    assert mixed["e2"] == pytest.approx(e2_mixed, abs=5e-5)


def test_the_mean_of_the_larger_of_two_uniform_values() -> None:
    """E[max] = (n+1)(4n-1)/(6n), of which a cooperator gets half the stock's worth."""
    for n in (1, 2, 7, 20):
        found = reference_payoffs(split("trust_and_split", high=n))["cooperators"]
        assert found["points"] == pytest.approx([10 * (n + 1) * (4 * n - 1) / (6 * n) / 2] * 2)


@pytest.mark.parametrize("k", range(11))
def test_constant_claims_in_rock_paper_scissors(k: int) -> None:
    game = split("trust_and_split_rps")
    assert expected(game, [ConstantClaim(k)] * 2)["points"] == pytest.approx([5.5 * min(k, 5)] * 2)
    found = expected(game, [ConstantClaim(k), WelfareMaximizing()])["points"]
    assert found == pytest.approx([5 * k + 5 * k / (10 + k), 500 / (10 + k)])


def test_random_claims_in_rock_paper_scissors() -> None:
    game = split("trust_and_split_rps")
    assert expected(game, [UniformRandom()] * 2)["points"] == pytest.approx([22.5] * 2)
    found = expected(game, [UniformRandom(), WelfareMaximizing()])["points"]
    assert found == pytest.approx([26.5056, 34.9442], abs=5e-5)


def test_deal_or_no_deal_s_cooperators_get_everything() -> None:
    found = reference_payoffs(split("deal_or_no_deal"))
    assert sum(found["cooperators"]["points"]) == pytest.approx(28.8666, abs=5e-5)
    assert found["greedy"] == {"points": [0, 0], "e1": 0, "e2": 0}
    both = reference_payoffs(split("deal_or_no_deal", mode="coop"))["cooperators"]
    assert both["points"] == pytest.approx([28.8666] * 2, abs=5e-5)
    assert (both["e1"], both["e2"]) == pytest.approx((1, 1))


def test_the_ultimatum() -> None:
    """A greedy proposal is rejected by the greedy, taken by who maximizes welfare."""
    found = reference_payoffs(split("ultimatum"))
    assert found["cooperators"]["points"] == [5, 5]
    assert found["greedy"]["points"] == [0, 0]
    # Seat 0 proposes: a greedy one gets 10; a greedy responder is offered 5.
    assert found["greedy_vs_cooperator"] == {"points": [7.5, 2.5], "e1": 1, "e2": 1}


def test_the_ultimatum_answered_by_a_division_is_the_ultimatum() -> None:
    assert reference_payoffs(split("ultimatum", response="division")) == reference_payoffs(
        split("ultimatum")
    )


def test_three_seats_that_see_claims() -> None:
    """The last one takes what the others leave; greedy ones leave nothing."""
    rules = {"finalization": "visible", "payment": "exact", "stock": 4, "low": 1, "high": 2}
    found = reference_payoffs(split("trust_and_split", seats=3, **rules))
    assert (found["cooperators"]["e1"], found["cooperators"]["e2"]) == (1, 1)
    assert found["greedy"]["points"] == [0, 0, 0]


def test_what_is_found_may_be_changed_by_who_asked() -> None:
    game = split("trust_and_split_rps")
    reference_payoffs(game)["greedy"].clear()
    assert reference_payoffs(game)["greedy"]


def test_too_many_deals_are_refused() -> None:
    game = split("trust_and_split", items=["hats", "books", "balls"])
    with pytest.raises(ComityError, match="64000000 outcomes are too many"):
        reference_payoffs(game)


# Against a naive loop

SMALL: dict[str, Split] = {
    "uniform, odd stock": split("trust_and_split", high=4, stock=7),
    "three seats": split("trust_and_split", high=3, stock=5, seats=3),
    "three seats, exact": split("trust_and_split", high=3, stock=3, seats=3, payment="exact"),
    "two items": split("trust_and_split_items", stock=[3, 2], equal_sums=False),
    "exact": split("trust_and_split_items", stock=[3, 2], equal_sums=False, payment="exact"),
    "varying stock": split(
        "deal_or_no_deal",
        items=["hats", "books"],
        quantities={"name": "cut", "totals": [1, 3]},
        values={"name": "cut", "total": 3},
    ),
    "broken values": split(
        "deal_or_no_deal",
        items=["hats", "books"],
        payment="proportional",
        quantities={"name": "random", "low": 1, "high": 3},
        values={"name": "fixed", "values": [[0.5, 2], [1.25, 0]]},
    ),
}


def naive(game: Split, rules: list[ClaimRule]) -> tuple[np.ndarray, float, float]:
    """Every deal, every joint claim, one after the other."""
    points, share, best = np.zeros(game.seats), 0.0, 0.0
    for values, stock, chance in zip(*game.instances.outcomes(), strict=True):
        instance = Instance(tuple(stock.tolist()), tuple(map(tuple, values.tolist())))
        distributions = []
        for seat, rule in enumerate(rules):
            mixture = rule.claims(values[None], stock[None], seat)
            alone = [
                [
                    (float(np.broadcast_to(p, claim.shape)[0, item]), int(claim[0, item]))
                    for p, claim in mixture
                ]
                for item in range(len(stock))
            ]
            distributions.append(
                [
                    (np.prod([p for p, _ in joint]), tuple(units for _, units in joint))
                    for joint in product(*alone)
                ]
            )
        for joint in product(*distributions):
            weight = chance * np.prod([p for p, _ in joint])
            if weight == 0:
                continue
            received = allocate(
                tuple(claim for _, claim in joint), instance, game.payment == "exact"
            )
            got = (np.array(received) * values).sum(axis=1)
            points += weight * got
            share += weight * got.sum() / instance.max_welfare()
        best += chance * instance.max_welfare()
    return points, share, points.sum() / best


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("others", ["cooperator", "greedy", "constant", "random"])
def test_expectations_are_the_mean_over_deals_and_claims(name: str, others: str) -> None:
    game = SMALL[name]
    rule: ClaimRule = {
        "cooperator": WelfareMaximizing(),
        "greedy": Greedy(),
        "constant": ConstantClaim(1),
        "random": UniformRandom(),
    }[others]
    rules: list[ClaimRule] = [WelfareMaximizing(), *[rule] * (game.seats - 1)]
    found = expected(game, rules)
    points, e1, e2 = naive(game, rules)
    assert found["points"] == pytest.approx(points.tolist())
    assert (found["e1"], found["e2"]) == pytest.approx((e1, e2))


# Against play


STRATEGIES: dict[str, tuple[Negotiator, ClaimRule]] = {
    "welfare_maximizing": (WelfareMaximizer(), WelfareMaximizing()),
    "greedy": (GreedyClaimer(), Greedy()),
    "claim": (ConstantClaimer(3), ConstantClaim(3)),
    "uniform_random_claims": (RandomClaimer(), UniformRandom()),
}
PLAYED = {
    "trust_and_split": {},
    "trust_and_split_rps": {},
    "trust_and_split_items": {"game_type": "1-to-20"},
    "split_no_talk": {},
    "deal_or_no_deal": {"redraw_values": True},
}
SEEN = {"finalization": "visible", "redraw_values": True, "messages": {"least": 0, "most": 2}}


@pytest.mark.parametrize("name", PLAYED)
@pytest.mark.parametrize(
    "pair",
    [
        ("welfare_maximizing", "welfare_maximizing"),
        ("greedy", "welfare_maximizing"),
        ("claim", "uniform_random_claims"),
    ],
)
def test_scripts_get_what_is_expected(name: str, pair: tuple[str, str]) -> None:
    """Within four standard errors over matches of one round."""
    check_expected(split(name, **PLAYED[name], length={"name": "fixed", "rounds": 1}), pair)


@pytest.mark.parametrize(
    "pair", [("greedy", "welfare_maximizing"), ("claim", "welfare_maximizing"), ("claim",) * 2]
)
def test_scripts_that_see_claims_get_what_is_expected(pair: tuple[str, str]) -> None:
    check_expected(split("deal_or_no_deal", **SEEN, length={"name": "fixed", "rounds": 1}), pair)


def check_expected(game: Split, pair: tuple[str, str]) -> None:
    got = np.zeros((400, 2))
    for seed in range(len(got)):
        state = game.start(seed)
        while turns := game.turns(state):
            state = game.step(
                state,
                {
                    t.seat: STRATEGIES[pair[t.seat]][0].reply(
                        t, game, generator(seed, "script", t.seat, t.step)
                    )
                    for t in turns
                },
            )
        got[seed] = game.history(state)[0].payoffs
    error = got.std(axis=0, ddof=1) / np.sqrt(len(got))
    found = np.array(expected(game, [STRATEGIES[one][1] for one in pair])["points"])
    assert (abs(got.mean(axis=0) - found) <= 4 * error + 1e-9).all()
    if "greedy" not in pair or game.payment != "exact":
        assert found.max() > 0
