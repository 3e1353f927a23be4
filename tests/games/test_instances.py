"""Laws of deals against naive enumeration: outcomes, draws, ranges and refusals."""

from collections import Counter, defaultdict
from fractions import Fraction
from itertools import pairwise, permutations, product
from typing import Any

import numpy as np
import pytest

from comity.errors import ComityError
from comity.games import make_game
from comity.games.split.divided_values import ClassicValues, CutValues
from comity.games.split.game_types import GameTypeValues
from comity.games.split.instances import BEATS, HandInstances, SampledInstances, check_items
from comity.games.split.quantities import (
    CutQuantities,
    FixedQuantities,
    RandomQuantities,
    WholeQuantities,
)
from comity.games.split.state import InstanceDistribution
from comity.games.split.valuations import (
    KINDS,
    BimodalValues,
    DistinctValues,
    FixedValues,
    UniformValues,
    Valuations,
)

NAMES = ("hats", "books", "balls", "keys")


def fixed(values: Valuations, units: int = 10) -> SampledInstances:
    """The same stock of everything."""
    return SampledInstances(NAMES[: values.kinds], FixedQuantities(values.kinds, units), values)


def listed(instances: InstanceDistribution) -> dict[Any, float]:
    """Probability of every (stock, values)."""
    values, stock, chance = instances.outcomes()
    assert values.shape == (len(chance), instances.seats, len(instances.items))
    assert stock.shape == (len(chance), len(instances.items))
    found: dict[Any, float] = defaultdict(float)
    for v, q, p in zip(values.tolist(), stock.tolist(), chance.tolist(), strict=True):
        found[(tuple(q), tuple(map(tuple, v)))] += p
    return dict(found)


SMALL: dict[str, InstanceDistribution] = {
    "hands": HandInstances(),
    "hands of two items": HandInstances(("hats", "books"), (4, 2), 7.0, 2.5),
    "alternating hands": HandInstances(alternating_hands=True),
    "uniform": fixed(UniformValues(1, 1, 4)),
    "uniform with a range for each item": fixed(UniformValues(2, (1, 0), (2, 1))),
    "uniform of three seats": fixed(UniformValues(1, 1, 3, seats=3)),
    "distinct": fixed(DistinctValues(2, 1, 3)),
    "bimodal": fixed(BimodalValues(1, (1, 2), (8, 10))),
    "bimodal, two items": fixed(BimodalValues(2, (1, 1), (5, 6))),
    "fixed": fixed(FixedValues(2, ((1.5, 2.0), (0.0, 3.0)))),
    "ties": fixed(GameTypeValues(3, "10-1-ties", True, True)),
    "ties with equal sums": fixed(GameTypeValues(3, "10-1-ties", True, False)),
    "ties in conflict": fixed(GameTypeValues(2, "10-1-ties", False, True)),
    "ties, free": fixed(GameTypeValues(2, "10-1-ties", False, False)),
    "exclusive": fixed(GameTypeValues(4, "10-1-exclusive", True, True)),
    "exclusive, free": fixed(GameTypeValues(3, "10-1-exclusive", False, True)),
    "random quantities": SampledInstances(
        NAMES[:2], RandomQuantities(2, (1, 2), (3, 4)), FixedValues(2, ((1.0, 2.0), (2.0, 1.0)))
    ),
    "even quantities": SampledInstances(
        NAMES[:2], RandomQuantities(2, 3, 9, even=True), DistinctValues(2, 1, 2)
    ),
    "cut": SampledInstances(NAMES[:2], CutQuantities(2, (1, 2)), CutValues(2, 3)),
    "classic": SampledInstances(NAMES[:2], WholeQuantities(2, (3, 4)), ClassicValues(2, 6)),
}


@pytest.mark.parametrize("name", SMALL)
def test_draws_are_as_likely_as_listed(name: str) -> None:
    """Chi-squared over all outcomes, six deviations at most; nothing else is drawn."""
    instances, count = SMALL[name], 3000
    chances = listed(instances)
    assert sum(chances.values()) == pytest.approx(1)
    drawn = Counter((d.stock, d.values) for d in (instances.draw(seed, 1) for seed in range(count)))
    assert set(drawn) <= set(chances)
    distance = sum((drawn[o] - count * p) ** 2 / (count * p) for o, p in chances.items())
    freedom = len(chances) - 1
    assert distance <= freedom + 6 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("name", SMALL)
def test_the_range_and_the_most_are_reached_and_true(name: str) -> None:
    instances = SMALL[name]
    values, stock, _ = instances.outcomes()
    assert (values.min(), values.max()) == instances.value_range
    assert tuple(stock.max(axis=0)) == instances.most
    assert instances.kind in KINDS


@pytest.mark.parametrize("name", SMALL)
def test_deals_are_derived_from_seed_and_round(name: str) -> None:
    instances = SMALL[name]
    drawn = [instances.draw(5, number) for number in range(12)]
    assert drawn == [instances.draw(5, number) for number in range(12)]
    if len(instances.outcomes()[2]) > 1:
        assert len(set(drawn)) > 1
        assert drawn != [instances.draw(6, number) for number in range(12)]


# Hands


def test_the_winning_hand_has_the_larger_value() -> None:
    seen = set()
    for seed in range(100):
        instance = HandInstances().draw(seed, 0)
        first, second = instance.hands
        seen.add(instance.hands)
        wins = (first, second) in {("rock", "scissors"), ("paper", "rock"), ("scissors", "paper")}
        assert instance.values == (((10.0,), (1.0,)) if wins else ((1.0,), (10.0,)))
    assert seen == set(permutations(BEATS, 2))


def test_alternating_hands_win_by_turns() -> None:
    first = Counter()
    for seed in range(400):
        winners = [
            HandInstances(alternating_hands=True).draw(seed, n).values[0] == (10.0,)
            for n in range(5)
        ]
        assert all(a != b for a, b in pairwise(winners))
        first[winners[0]] += 1
    assert abs(first[True] - 200) < 4 * 10  # deviation sqrt(400 / 4) = 10


# Game types


PAIRS = {
    "10-1-exclusive": [(10, 1), (1, 10)],
    "10-1-ties": list(product((10, 1), repeat=2)),
    "1-to-20": list(product(range(1, 21), repeat=2)),
}


def brute(kinds: int, kind: str, equal_sums: bool, conflict: bool) -> list[Any]:
    """All outcomes that satisfy the constraints, by trying every one."""
    return [
        tuple(zip(*pairs, strict=True))
        for pairs in product(PAIRS[kind], repeat=kinds)
        if (not equal_sums or sum(a for a, _ in pairs) == sum(b for _, b in pairs))
        and (not conflict or any(a != b for a, b in pairs))
    ]


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [
        *product(["10-1-exclusive", "10-1-ties"], [1, 2, 3, 4]),
        ("1-to-20", 1),
        ("1-to-20", 2),
    ],
)
@pytest.mark.parametrize("equal_sums", [False, True])
@pytest.mark.parametrize("conflict", [False, True])
def test_types_have_the_outcomes_that_satisfy(
    kind: str, kinds: int, equal_sums: bool, conflict: bool
) -> None:
    expected = brute(kinds, kind, equal_sums, conflict)
    if not expected:
        with pytest.raises(ComityError, match="no values of type"):
            GameTypeValues(kinds, kind, equal_sums, conflict)
        return
    distribution = GameTypeValues(kinds, kind, equal_sums, conflict)
    assert distribution.satisfying_count == len(expected)
    values, chance = distribution.outcomes((10,) * kinds)
    assert sorted(tuple(map(tuple, v)) for v in values.tolist()) == sorted(expected)
    assert np.allclose(chance, 1 / len(expected))


@pytest.mark.parametrize(
    ("kind", "conflict", "satisfying", "every"),
    [
        ("10-1-ties", False, 20, 64),
        ("10-1-ties", True, 12, 64),
        ("1-to-20", False, 1_762_004, 64_000_000),
        ("1-to-20", True, 1_754_004, 64_000_000),
    ],
)
def test_three_items_of_equal_sums_are_counted(
    kind: str, conflict: bool, satisfying: int, every: int
) -> None:
    distribution = GameTypeValues(3, kind, True, conflict)
    assert (distribution.satisfying_count, distribution.unconstrained_count) == (satisfying, every)
    if not conflict:
        return
    values, _ = distribution.outcomes((10,) * 3)
    assert len(values) == satisfying
    sums = values.sum(axis=2, dtype=int)
    assert (sums[:, 0] == sums[:, 1]).all()
    assert (values[:, 0] != values[:, 1]).any(axis=1).all()
    code = values.reshape(satisfying, 6).astype(np.int64) @ 21 ** np.arange(6)
    assert len(np.unique(code)) == satisfying


def test_one_item_of_equal_sums_is_always_tied() -> None:
    for kind in ("10-1-ties", "1-to-20"):
        values, _ = GameTypeValues(1, kind, True, False).outcomes((10,))
        assert (values[:, 0] == values[:, 1]).all()


def test_the_sampler_ends_where_few_of_many_outcomes_satisfy() -> None:
    """Of 400^12 outcomes; counting rather than redrawing, and beyond 64 bits."""
    distribution = GameTypeValues(12, "1-to-20", True, True)
    rng = np.random.default_rng(0)
    found = {distribution.draw(rng, (1,) * 12) for _ in range(50)}
    assert len(found) == 50
    for first, second in found:
        assert sum(first) == sum(second) and first != second


def test_draws_of_a_type_have_the_law_s_marginals() -> None:
    """Of the difference of the first item's values, in 1-to-20 with equal sums."""
    distribution = GameTypeValues(2, "1-to-20", True, False)
    values, _ = distribution.outcomes((10, 10))
    differences = Counter((values[:, 0, 0].astype(int) - values[:, 1, 0]).tolist())
    rng, count = np.random.default_rng(1), 8000
    drawn = Counter()
    for _ in range(count):
        first, second = distribution.draw(rng, (10, 10))
        drawn[int(first[0] - second[0])] += 1
    for difference, ways in differences.items():
        p = ways / len(values)
        assert abs(drawn[difference] - count * p) <= 4.5 * np.sqrt(count * p * (1 - p)) + 1


# Deal or No Deal


def cut(total: int, kinds: int) -> dict[tuple[int, ...], Fraction]:
    """Sorted uniform cuts, by all of them."""
    found: dict[tuple[int, ...], Fraction] = defaultdict(Fraction)
    for cuts in product(range(total + 1), repeat=kinds - 1):
        edges = [0, *sorted(cuts), total]
        parts = tuple(b - a for a, b in pairwise(edges))
        found[parts] += Fraction(1, (total + 1) ** (kinds - 1))
    return found


def of_use(pair: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
    columns = list(zip(*pair, strict=True))
    return all(any(c) for c in columns) and any(all(c) for c in columns)


def test_cut_values_are_the_accepted_pairs() -> None:
    distribution = cut(10, 3)
    pairs = {
        (a, b): distribution[a] * distribution[b]
        for a, b in product(distribution, distribution)
        if of_use((a, b))
    }
    accepted = sum(pairs.values())
    assert CutValues(3).acceptance == pytest.approx(float(accepted))
    assert CutValues(3).acceptance == pytest.approx(0.9245, abs=5e-5)
    values, chance = CutValues(3).outcomes((2, 2, 2))
    found = {tuple(map(tuple, v)): p for v, p in zip(values.tolist(), chance.tolist(), strict=True)}
    assert found.keys() == pairs.keys()
    for pair, p in pairs.items():
        assert found[pair] == pytest.approx(float(p / accepted))


def test_cut_quantities_are_a_uniform_total_divided_by_cuts() -> None:
    stock, chance = CutQuantities(3).outcomes()
    expected = {q: p / 3 for total in (5, 6, 7) for q, p in cut(total, 3).items()}
    found = dict(zip(map(tuple, stock.tolist()), chance.tolist(), strict=True))
    assert found.keys() == expected.keys()
    for q, p in expected.items():
        assert found[q] == pytest.approx(float(p))


def test_classic_deals_are_worth_ten_to_both() -> None:
    """A uniform total, a uniform division without zeros, then a uniform pair of use."""
    game = make_game(
        {
            "name": "deal_or_no_deal",
            "quantities": "whole",
            "values": "classic",
            "redraw_values": True,
        }
    )
    found = listed(game.instances)
    stocks = {
        total: [q for q in product(range(1, 6), repeat=3) if sum(q) == total] for total in (5, 6, 7)
    }
    by_stock = Counter(q for q, _ in found)
    assert set(by_stock) == {q for qs in stocks.values() for q in qs}
    for (q, pair), p in found.items():
        assert all(sum(np.multiply(q, v)) == 10 for v in pair) and of_use(pair)
        assert p == pytest.approx(1 / 3 / len(stocks[sum(q)]) / by_stock[q])
    rows = [v for v in product(range(11), repeat=3) if v[0] + 2 * v[1] + 2 * v[2] == 10]
    assert by_stock[(1, 2, 2)] == sum(of_use(pair) for pair in product(rows, rows))


@pytest.mark.parametrize(
    ("parameters", "joint"),
    [({}, 28.8666), ({"quantities": "whole", "values": "classic", "redraw_values": True}, 15.1120)],
)
def test_the_most_that_both_can_get(parameters: dict[str, Any], joint: float) -> None:
    game = make_game({"name": "deal_or_no_deal", **parameters})
    values, stock, chance = game.instances.outcomes()
    most = (stock * values.max(axis=1)).sum(axis=1)
    assert float(chance @ most) == pytest.approx(joint, abs=5e-5)


@pytest.mark.parametrize("redraw_stock", [False, True])
@pytest.mark.parametrize("redraw_values", [False, True])
def test_what_is_not_redrawn_holds_all_match_long(redraw_stock: bool, redraw_values: bool) -> None:
    game = make_game(
        {
            "name": "deal_or_no_deal",
            "redraw_stock": redraw_stock,
            "redraw_values": redraw_values,
        }
    )
    drawn = [game.instances.draw(3, number) for number in range(10)]
    assert (len({d.stock for d in drawn}) > 1) == redraw_stock
    assert (len({d.values for d in drawn}) > 1) == redraw_values
    assert drawn[0] != game.instances.draw(4, 0)


def test_redrawing_one_thing_does_not_move_the_other() -> None:
    both, stock_only = (
        make_game({"name": "deal_or_no_deal", "redraw_values": redraw}).instances
        for redraw in (True, False)
    )
    for number in range(5):
        assert both.draw(9, number).stock == stock_only.draw(9, number).stock


# Refusals


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (
            {"name": "split_no_talk", "game_type": "10-1-exclusive"},
            "equal_sums needs an even number of items",
        ),
        ({"name": "split_no_talk", "items": ["hats"]}, "nothing can be in conflict"),
        (
            {"name": "split_no_talk", "items": ["hats"], "game_type": "1-to-20"},
            "nothing can be in conflict",
        ),
        (
            {"name": "split_no_talk", "items": ["hats"], "game_type": "10-1-exclusive"},
            "equal_sums needs an even number",
        ),
        ({"name": "split_no_talk", "game_type": "1-to-10"}, "unknown game type '1-to-10'"),
        ({"name": "split_no_talk", "stock": 0}, "stock must be at least 1"),
        ({"name": "split_no_talk", "stock": [10, 10]}, "stock has 2 numbers for 3 items"),
        ({"name": "split_no_talk", "stock": 2.5}, "stock must be"),
        ({"name": "trust_and_split", "low": 5, "high": 4}, "a range of whole numbers"),
        ({"name": "trust_and_split", "low": -1}, "a range of whole numbers"),
        ({"name": "trust_and_split", "seats": 1}, "seats must be at least 2"),
        ({"name": "trust_and_split_rps", "win": 1, "lose": 2}, "win must be at least lose"),
        ({"name": "deal_or_no_deal", "values": "worth"}, "unknown distribution of values 'worth'"),
        (
            {"name": "deal_or_no_deal", "quantities": "few"},
            "unknown distribution of quantities 'few'",
        ),
        ({"name": "deal_or_no_deal", "mode": "selfish"}, "unknown mode 'selfish'"),
        (
            {"name": "deal_or_no_deal", "quantities": "whole", "values": "classic"},
            "classic values fit one stock only",
        ),
        ({"name": "deal_or_no_deal", "values": "classic"}, "classic values need every item"),
        (
            {
                "name": "deal_or_no_deal",
                "quantities": {"name": "fixed", "units": 11},
                "values": "classic",
            },
            "no values make the stock [11, 11, 11] worth 10",
        ),
        (
            {"name": "deal_or_no_deal", "values": {"name": "cut", "total": 1}},
            "cannot be divided over 3 items",
        ),
        (
            {"name": "deal_or_no_deal", "quantities": {"name": "cut", "totals": [5, 5]}},
            "totals must be different",
        ),
        (
            {"name": "deal_or_no_deal", "quantities": {"name": "whole", "totals": [2]}},
            "of at least 3",
        ),
        (
            {
                "name": "deal_or_no_deal",
                "quantities": {"name": "random", "low": 3, "high": 3, "even": True},
            },
            "no even numbers for item 1",
        ),
        (
            {"name": "deal_or_no_deal", "values": {"name": "distinct", "low": 1, "high": 2}},
            "3 different values do not fit",
        ),
        (
            {
                "name": "deal_or_no_deal",
                "values": {"name": "bimodal", "low": [1, 5], "high": [5, 9]},
            },
            "high must lie above low",
        ),
        (
            {
                "name": "deal_or_no_deal",
                "values": {"name": "fixed", "values": [[1, 2], [2, 1]]},
            },
            "values has 2 numbers for 3 items",
        ),
        (
            {
                "name": "deal_or_no_deal",
                "values": {"name": "fixed", "values": [[1, 2, -1], [2, 1, 1]]},
            },
            "numbers of at least 0",
        ),
        ({"name": "trust_and_split", "items": []}, "at least one name"),
        ({"name": "trust_and_split", "items": ["coins", "Coin"]}, "collide"),
    ],
)
def test_deals_that_cannot_be_are_refused(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ComityError) as caught:
        make_game(config)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ("coins", "coins"),
        ("coins", "COINS"),
        ("coins", "coin"),
        ("boxes", "box"),
        ("berries", "Berry"),
        ("",),
        ("  ",),
        (" hats",),
        ("hats\nbooks",),
        *[(f"ha{mark}ts",) for mark in '<>{}":,7²'],
    ],
)
def test_names_that_an_answer_could_confuse_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ComityError, match="name"):
        check_items(names)


def test_any_other_names_are_taken() -> None:
    check_items(("gold coins", "gold bars", "Bücher", "glass", "news", "sheep", "x-rays"))


@pytest.mark.parametrize(
    "distribution",
    [
        UniformValues(4, 1, 20),
        DistinctValues(4, 1, 20),
        BimodalValues(4, (1, 5), (8, 12)),
        GameTypeValues(4, "1-to-20", True, False),
        UniformValues(1, 1, 20, seats=6),
    ],
)
def test_laws_with_too_many_outcomes_are_not_listed(distribution: Valuations) -> None:
    with pytest.raises(ComityError, match="too many"):
        fixed(distribution).outcomes()
    fixed(distribution).draw(0, 0)
