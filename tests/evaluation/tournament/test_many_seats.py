"""Tournaments of N seats: compositions, metrics by hand, and exact payoffs of mixes."""

from collections import Counter
from itertools import product
from math import comb
from typing import Any

import numpy as np
import pytest

from comity.errors import ComityError
from comity.evaluation.payoff_ranges import payoff_range
from comity.evaluation.reference_points.schelling import schelling_diagram
from comity.evaluation.tournament.many_seats.compositions import (
    Compositions,
    choose_compositions,
    mix,
    seated,
    seatings,
)
from comity.evaluation.tournament.many_seats.metrics import (
    METRICS_OF_GROUPS,
    GroupMatches,
    metrics_of,
)
from comity.evaluation.tournament.many_seats.mixes import best_visitors, focal_payoffs
from comity.evaluation.tournament.many_seats.play import ManySeats
from comity.evaluation.tournament.many_seats.records import SeatedMatch
from comity.evaluation.tournament.many_seats.summary import summarize_seats, weights_of
from comity.evaluation.tournament.many_seats.values import Played, by_seed
from comity.evaluation.tournament.metrics import METRICS
from comity.evaluation.tournament.pair_matches import PairMatches
from comity.evaluation.tournament.round_robin import RoundRobin
from comity.evaluation.tournament.summary import is_symmetric, summarize
from comity.games import make_game
from comity.games.base import Game
from comity.games.matrix.iterated import Iterated
from comity.players.scripted.catalog import STRATEGIES
from comity.players.scripted.player import StrategyPlayer

FIELD = ("always_cooperate", "always_defect", "random", "tit_for_tat")
ROUNDS = 6


def public_goods(seats: int, **more: Any) -> Iterated:
    game = make_game(
        {"name": "public_goods", "seats": seats, "length": {"name": "fixed", "rounds": ROUNDS}}
        | more
    )
    assert isinstance(game, Iterated)
    return game


def players(*names: str) -> dict[str, StrategyPlayer]:
    return {name: StrategyPlayer(name, STRATEGIES[name]()) for name in names}


def play_all(
    game: Game, names: tuple[str, ...], matches: int = 4, limit: int = 200
) -> tuple[list[SeatedMatch], Compositions]:
    chosen = choose_compositions(names, game.seats, limit)
    schedule = ManySeats(game, players(*names), list(chosen.weights), matches, 0)
    return [match for batch in schedule.play() for match in batch.matches], chosen


def header(*names: str) -> dict[str, Any]:
    return {"players": [{"name": name, "kind": "scripted"} for name in names]}


# Compositions


@pytest.mark.parametrize(("agents", "seats"), [(1, 3), (3, 3), (4, 4), (5, 2)])
def test_all_compositions_have_all_seatings(agents: int, seats: int) -> None:
    names = [f"a{i}" for i in range(agents)]
    chosen = choose_compositions(names, seats)
    assert len(chosen.weights) == chosen.existing == comb(agents + seats - 1, seats)
    counted = Counter(tuple(sorted(joint)) for joint in product(names, repeat=seats))
    assert chosen.weights == counted and not chosen.sampled
    assert all(seatings(one) == counted[one] for one in counted)


def test_a_sample_has_the_mixes_of_two_and_grows_by_further_draws() -> None:
    names = [f"a{i}" for i in range(8)]
    few, more = (choose_compositions(names, 4, limit) for limit in (50, 120))
    assert few.sampled and few.existing == comb(11, 4)
    assert sum(few.weights.values()) == 50 and sum(more.weights.values()) == 120
    two = {mix(a, b, k, 4) for a in names for b in names for k in range(5)}
    assert two <= few.weights.keys() <= more.weights.keys()
    assert all(more.weights[one] >= weight for one, weight in few.weights.items())
    assert choose_compositions(names[::-1], 4, 50) == few
    assert choose_compositions(names, 4, 50, seed=1) != few


def test_a_sample_estimates_the_weights_of_all() -> None:
    every, drawn = choose_compositions("abc", 3), choose_compositions("abc", 3, 9)
    assert drawn.sampled
    rng_shares = np.mean(
        [
            [
                choose_compositions("abc", 3, 9, seed).weights.get(one, 0) / 9
                for one in every.weights
            ]
            for seed in range(400)
        ],
        axis=0,
    )
    assert np.abs(rng_shares - np.array(list(every.weights.values())) / 27).max() < 0.02


def test_seats_are_drawn_for_every_repetition() -> None:
    orders = {seated(tuple("abcd"), 0, k) for k in range(200)}
    assert len(orders) == 24
    first, second = seated(tuple("abcd"), 0, 3), seated(tuple("wxyz"), 0, 3)
    assert ["abcd".index(a) for a in first] == ["wxyz".index(b) for b in second]


def test_with_two_seats_every_opponent_has_the_same_weight() -> None:
    chosen = choose_compositions(FIELD, 2)
    assert set(weights_of("random", chosen).values()) == {2}


# Metrics


def by_hand() -> SeatedMatch:
    """Three seats, two rounds; b's second answer is illegal and played as defection."""
    return SeatedMatch(
        agents=("a", "b", "a"),
        repetition=0,
        seed=1,
        deterministic=False,
        intended=((0, 0), (0, -1), (1, 0)),
        moves=((0, 0), (0, 1), (1, 0)),
        payoffs=((4.0, 4.0), (4.0, 14.0), (14.0, 4.0)),
        answers=(2, 2, 2),
        illegal=(0, 1, 0),
        refused=(0, 0, 0),
        cut_off=(0, 0, 0),
    )


EXPECTED = {  # payoffs per round: 4, 9, 9
    ("a", "payoff"): 6.5,
    ("b", "payoff"): 9.0,
    ("a", "margin"): (4 - 9 + 9 - 6.5) / 2,
    ("b", "margin"): 2.5,
    ("a", "welfare_share"): 44 / 60,
    ("a", "gini"): (4 * 10) / (2 * 3 * 44),
    ("a", "rawlsian_minimum"): 4.0,
    ("a", "envy"): (5 + 0) / 2,
    ("b", "envy"): 0.0,
    ("a", "cooperation"): 3 / 4,
    ("b", "cooperation"): 1.0,
    ("b", "illegal"): 1 / 2,
    ("a", "cooperation_first"): 1 / 2,
    ("a", "cooperation_after_1"): 1.0,
    ("a", "cooperation_after_2"): 1.0,
}


@pytest.mark.parametrize(("agent", "name"), EXPECTED)
def test_metrics_by_hand(agent: str, name: str) -> None:
    matches = GroupMatches.of([by_hand()], agent, best_welfare=30.0)
    numerator, denominator = metrics_of(3)[name].count(matches)[0]
    assert numerator / denominator == pytest.approx(EXPECTED[agent, name])


def test_what_was_not_counted_is_not_0() -> None:
    matches = GroupMatches.of([by_hand()], "b")
    assert metrics_of(3)["cooperation_after_0"].count(matches)[0, 1] == 0
    assert metrics_of(3)["welfare_share"].count(matches)[0, 1] == 0


@pytest.mark.parametrize("name", METRICS_OF_GROUPS)
def test_of_two_seats_they_are_those_of_the_pair(name: str) -> None:
    rng = np.random.default_rng(0)
    moves = rng.integers(0, 2, (7, 2, 5))
    table = np.array([[[3.0, 3.0], [0.0, 5.0]], [[5.0, 0.0], [1.0, 1.0]]])
    payoffs = table[moves[:, 0], moves[:, 1]].swapaxes(1, 2)
    pairs = PairMatches(
        moves, moves, payoffs, np.ones((7, 5), dtype=bool), best_welfare=np.full((7, 5), 6.0)
    )
    found = [
        SeatedMatch(
            agents=("a", "b"),
            repetition=m,
            seed=m,
            deterministic=False,
            intended=moves[m].tolist(),
            moves=moves[m].tolist(),
            payoffs=payoffs[m].tolist(),
            answers=(5, 5),
            illegal=(0, 0),
            refused=(0, 0),
            cut_off=(0, 0),
        )
        for m in range(7)
    ]
    for agent, matches in (("a", pairs), ("b", pairs.mirrored())):
        groups = METRICS_OF_GROUPS[name].count(GroupMatches.of(found, agent, 6.0))
        expected = METRICS[name].count(matches)
        assert (groups[:, 1] > 0).tolist() == (expected[:, 1] > 0).tolist()
        known = groups[:, 1] > 0
        shares = groups[known, 0] / groups[known, 1]
        assert shares == pytest.approx(expected[known, 0] / expected[known, 1])


# Play


def test_every_composition_with_common_chances() -> None:
    found, chosen = play_all(public_goods(3, noise=0.2), FIELD[:3], matches=3)
    assert {m.key for m in found} == {(one, k) for one in chosen.weights for k in range(3)}
    for k in range(3):
        assert len({m.seed for m in found if m.repetition == k}) == 1
    assert not any(m.deterministic for m in found)


def test_deterministic_compositions_are_played_once() -> None:
    found, _ = play_all(public_goods(3), FIELD, matches=5)
    fixed = {m.composition for m in found if m.deterministic}
    assert fixed == {m.composition for m in found if "random" not in m.agents}
    assert all(m.repetition == 0 for m in found if m.deterministic)
    again = ManySeats(
        public_goods(3), players(*FIELD), sorted({m.composition for m in found}), 5, 0
    )
    assert again.settled({m.key for m in found}) == again.total


def test_a_match_does_not_depend_on_who_else_plays() -> None:
    many = {m.key: m for m in play_all(public_goods(3), FIELD)[0]}
    few = {m.key: m for m in play_all(public_goods(3), ("random", "tit_for_tat"))[0]}
    assert few and all(many[key] == match for key, match in few.items())


def test_two_seats_rank_as_the_round_robin() -> None:
    """The same game as pairs: agents' means are equal where nothing is random."""
    names = ("always_cooperate", "always_defect", "grim_trigger", "tit_for_tat")
    game = public_goods(2)
    seats, chosen = play_all(game, names, 3)
    robin = RoundRobin(game, players(*names), 3, 0)
    pairs = [match for batch in robin.play() for match in batch.matches]
    ours = summarize_seats(header(*names), seats, game, 3, chosen)
    theirs = summarize(header(*names), pairs, game, 3)
    for one, other in zip(ours["agents"], theirs["agents"], strict=True):
        assert one["name"] == other["name"] and one["rank"] == other["rank"]
        for name in ("payoff", "margin", "welfare_share", "envy", "cooperation"):
            assert one["metrics"][name]["mean"] == pytest.approx(other["metrics"][name]["mean"])


# Focal and background


@pytest.mark.parametrize("seats", [3, 4, 5])
def test_mixes_of_constant_agents_are_the_schelling_diagram(seats: int) -> None:
    game = public_goods(seats)
    names = ("always_cooperate", "always_defect")
    played = Played.of(play_all(game, names)[0], 4, None)
    mixes = focal_payoffs(played, names[0], [names[1]], None, "exact")
    diagram = schelling_diagram(game.stage)
    assert [one.own.mean for one in mixes] == pytest.approx(diagram.cooperator)  # type: ignore[union-attr]
    background = [one.background.mean for one in mixes[:-1] if one.background]
    assert background == pytest.approx(diagram.defector[1:])
    assert mixes[-1].background is None


def test_visitors_of_constant_agents() -> None:
    """A defector among 3 cooperators gains 10 - 10 * 1.6 / 4; a cooperator among defectors loses
    as much."""
    names = ("always_cooperate", "always_defect")
    played = Played.of(play_all(public_goods(4), names)[0], 4, None)
    invaded, resisting = best_visitors(played, names, None, "exact")
    assert (invaded.resident, invaded.visitor) == names
    assert invaded.gain.mean == pytest.approx(6.0)
    assert resisting.gain.mean == pytest.approx(-6.0)


def test_backgrounds_have_equal_weights() -> None:
    names = FIELD
    found, _ = play_all(public_goods(3), names)
    played = Played.of(found, 4, None)
    both = focal_payoffs(played, "random", ["always_defect", "tit_for_tat"], None, "")
    each = [
        focal_payoffs(played, "random", [o], None, "") for o in ("always_defect", "tit_for_tat")
    ]
    for k in range(2):
        means = [one[k].own.mean for one in each]  # type: ignore[union-attr]
        assert both[k].own.mean == pytest.approx(np.mean(means))  # type: ignore[union-attr]


# Means


def rate(pairs: np.ndarray) -> float:
    return float(pairs[:, 0].sum() / pairs[:, 1].sum())


def test_an_agent_is_one_seat_among_random_others() -> None:
    """By brute force over all seatings, which the weights stand for."""
    names = ("always_cooperate", "always_defect", "tit_for_tat")
    found, chosen = play_all(public_goods(3), names)
    played = Played.of(found, 4, None)
    payoff = METRICS_OF_GROUPS["payoff"]
    for agent in names:
        expected = np.mean(
            [
                rate(played.counts(tuple(sorted((agent, *others))), agent, payoff))
                for others in product(names, repeat=2)
            ]
        )
        found_rate = rate(by_seed(played, agent, payoff, weights_of(agent, chosen)))
        assert found_rate == pytest.approx(expected)


def test_compositions_keep_their_weights_where_matches_are_missing() -> None:
    found, chosen = play_all(public_goods(3), ("always_defect", "random"), matches=6)
    whole = Played.of(found, 6, None)
    lost = [m for m in found if not (m.repetition < 5 and m.agents.count("random") == 2)]
    part = Played.of(lost, 6, None)
    payoff, weights = METRICS_OF_GROUPS["payoff"], weights_of("random", chosen)
    means = {one: rate(part.counts(one, "random", payoff)) for one in weights}
    expected = sum(w * means[one] for one, w in weights.items()) / sum(weights.values())
    assert rate(by_seed(part, "random", payoff, weights)) == pytest.approx(expected)
    assert (by_seed(whole, "random", payoff, weights)[:, 1] > 0).all()


def test_the_summary_says_what_is_missing_and_what_was_drawn() -> None:
    game = public_goods(3)
    found, chosen = play_all(game, FIELD, matches=2, limit=10)
    assert chosen.sampled
    whole = summarize_seats(header(*FIELD), found, game, 2, chosen)
    assert whole["deviation_ratings"] == {}  # Of a sample, the game is not known.
    assert whole["missing"] == 0 and whole["drawn"] == 10 and whole["existing"] == comb(6, 3)
    part = summarize_seats(header(*FIELD), found[:-3], game, 2, chosen)
    assert part["missing"] == 3 and part["played"] == whole["played"] - 3
    low, high = payoff_range(game) or (0.0, 0.0)
    for one in whole["agents"]:
        estimate = one["metrics"]["payoff"]
        assert low <= estimate["low"] <= estimate["mean"] <= estimate["high"] <= high


def test_the_empirical_game_of_constant_agents_has_the_ratings_of_its_stage() -> None:
    """Whatever the others do, a cooperator of four would gain 6 by defecting."""
    names = ("always_cooperate", "always_defect")
    found, chosen = play_all(public_goods(4), names, matches=2)
    whole = summarize_seats(header(*names), found, public_goods(4), 2, chosen)
    assert whole["deviation_ratings"] == pytest.approx({names[0]: -6.0, names[1]: 0.0})
    unknown = [one for one in found if len(set(one.agents)) == 2]
    part = summarize_seats(header(*names), unknown, public_goods(4), 2, chosen)
    assert part["deviation_ratings"] == {}


# Games


def test_symmetry_of_more_than_two_seats() -> None:
    class Unequal:
        title, seats, moves = "Unequal", 3, ("cooperate", "defect")

        def payoff(self, moves: tuple[int, ...]) -> tuple[float, ...]:
            return (float(sum(moves)), 0.0, 0.0)

    assert is_symmetric(public_goods(3))
    assert not is_symmetric(Iterated(Unequal()))


def test_negotiations_of_more_seats_are_refused() -> None:
    game = make_game({"name": "split_no_talk"})
    with pytest.raises(ComityError, match="for games of moves, such as public_goods"):
        ManySeats(game, {}, [], 1, 0)
