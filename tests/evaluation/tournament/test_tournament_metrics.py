"""Tournament metrics: a match by hand, naive loops, and the metrics of decisions."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.evaluation import metrics as of_decisions
from comity.evaluation.statistics import mean_over_seeds
from comity.evaluation.tournament.metrics import (
    BOUNDS,
    METRICS,
    NEEDS,
    applicable,
    bounds,
    counts,
)
from comity.evaluation.tournament.pair_matches import PairMatches, clean
from comity.games import make_game
from comity.games.base import PlayedMatches
from comity.players.scripted.catalog import STRATEGIES
from comity.players.scripted.player import StrategyPlayer
from comity.rollout.play import Match, play

PAYOFFS = np.array([[[3.0, 3.0], [0.0, 5.0]], [[5.0, 0.0], [1.0, 1.0]]])


def pair(row: str, column: str, **more: np.ndarray) -> PairMatches:
    """One match of the dilemma 5/3/1/0; "-" is an illegal answer, played as defection."""
    intended = np.array([["CD".find(letter) for letter in agent] for agent in (row, column)])
    moves = np.where(intended < 0, 1, intended)
    payoffs = PAYOFFS[moves[0], moves[1]].T
    alive = np.ones((1, len(row)), dtype=bool)
    return PairMatches(intended[None], moves[None], payoffs[None], alive, **more)


def value(matches: PairMatches, name: str) -> float | None:
    found = mean_over_seeds([counts(matches, name)], over="matches")
    return None if found is None else found.mean


EXAMPLE = pair("CCDDC-CC", "CDDCCCCD")
"""CC CD DD DC CC DC CC CD (the sixth of the row illegal, played as D)."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("payoff", (3 + 0 + 1 + 5 + 3 + 5 + 3 + 0) / 8),
        ("margin", (20 - (3 + 5 + 1 + 0 + 3 + 0 + 3 + 5)) / 8),
        ("gini", 0.0),
        ("rawlsian_minimum", 20 / 8),
        ("envy", 0.0),
        ("illegal", 1 / 8),
        ("cooperation", 5 / 7),
        ("outcome_CC", 3 / 8),
        ("outcome_CD", 2 / 8),
        ("outcome_DC", 2 / 8),
        ("outcome_DD", 1 / 8),
        ("cooperation_first", 1.0),
        ("cooperation_after_CC", 2 / 2),
        ("cooperation_after_CD", 0 / 1),
        ("cooperation_after_DC", 2 / 2),
        ("cooperation_after_DD", 0 / 1),
        # After C (rounds 1, 4, 6, 7; 5 is illegal): 4 of 4; after D (rounds 2, 3): 0 of 2.
        ("reciprocity", 1.0),
        ("retaliation", 1.0),
        # The other cooperated after a defection before rounds 4, (5), 6, 7.
        ("forgiveness", 1.0),
    ],
)
def test_a_match_by_hand(name: str, expected: float) -> None:
    assert value(EXAMPLE, name) == pytest.approx(expected)


def test_the_column_sees_the_same_match_mirrored() -> None:
    other = EXAMPLE.mirrored()
    assert value(other, "cooperation") == pytest.approx(5 / 8)
    assert value(other, "outcome_CD") == value(EXAMPLE, "outcome_DC")
    assert value(other, "illegal") == 0


def test_inequality_by_hand() -> None:
    exploited = pair("CCCC", "DDDD")
    assert value(exploited, "gini") == 0.5
    assert value(exploited, "envy") == 5 and value(exploited.mirrored(), "envy") == 0
    assert value(exploited, "margin") == -5 and value(exploited, "rawlsian_minimum") == 0


@pytest.mark.parametrize(
    ("row", "reciprocity", "forgiveness"),
    [
        ("CCDCDDCC", 1.0, 1.0),  # tit-for-tat
        ("CCDDDDDD", 1 / 4, 0.0),  # grim trigger: after C 1 of 4, after D 0 of 3
        ("CCCCCCCC", 0.0, 1.0),
        ("DDDDDDDD", 0.0, 0.0),
    ],
)
def test_responses_of_strategies(row: str, reciprocity: float, forgiveness: float) -> None:
    matches = pair(row, "CDCDDCCD")
    assert value(matches, "reciprocity") == pytest.approx(reciprocity)
    assert value(matches, "forgiveness") == pytest.approx(forgiveness)


def test_what_has_nothing_to_count_is_missing() -> None:
    peace = pair("CCC", "CCC")
    for name in ("retaliation", "forgiveness", "reciprocity", "cooperation_after_DD"):
        assert value(peace, name) is None
    losses = PairMatches(peace.intended, peace.moves, peace.payoffs - 9.0, peace.alive)
    assert value(losses, "gini") is None


def test_shares_of_the_welfare_optimum() -> None:
    best = np.full((1, 8), 6.0)
    matches = pair("CCDDC-CC", "CDDCCCCD", best_welfare=best)
    assert value(matches, "welfare_share") == pytest.approx((6 * 3 + 5 * 4 + 2) / 48)
    assert value(pair("C", "C", best_welfare=np.zeros((1, 1))), "welfare_share") is None


def test_negotiations_by_hand() -> None:
    """Three rounds: a deal 6 to 4 of 10, none of 8, a deal 3 to 3 of 12."""
    nothing = np.zeros((1, 2, 3), dtype=int)
    matches = PairMatches(
        nothing,
        nothing,
        np.array([[[6.0, 0.0, 3.0], [4.0, 0.0, 3.0]]]),
        np.ones((1, 3), dtype=bool),
        deal=np.array([[True, False, True]]),
        surplus=np.array([[10.0, 0.0, 6.0]]),
        best_surplus=np.array([[10.0, 8.0, 12.0]]),
        at_reserve=np.array([[[0, 1, -1], [0, 0, 0]]]),
    )
    assert value(matches, "at_reserve") == 1 / 2 and value(matches.mirrored(), "at_reserve") == 0
    assert value(matches, "deal_rate") == pytest.approx(2 / 3)
    assert value(matches, "surplus_share") == pytest.approx(16 / 30)
    assert value(matches, "own_payoff_share") == pytest.approx(9 / 16)
    assert "cooperation" not in applicable(matches)
    with pytest.raises(ComityError, match="about moves"):
        counts(matches, "cooperation")


def test_the_second_table_leaves_out_forfeits_and_illegal_answers_of_both() -> None:
    played = [pair("CC", "CD"), pair("C-", "CC"), pair("CC", "-C"), pair("DD", "DD")]
    joined = PairMatches(
        *(np.concatenate([getattr(one, name) for one in played])
          for name in ("intended", "moves", "payoffs", "alive")),
        forfeit=np.array([False, False, False, True]),
    )  # fmt: skip
    assert clean(joined).tolist() == [True, False, False, False]
    assert len(joined.part(clean(joined))) == 1
    # What never happened because the match was over is no illegal answer.
    over = PairMatches(
        np.array([[[0, -1], [0, -1]]]), np.array([[[0, -1], [0, -1]]]),
        np.array([[[3.0, 0.0], [3.0, 0.0]]]), np.array([[True, False]]),
    )  # fmt: skip
    assert clean(over).tolist() == [True]


def test_refused_and_cut_off_answers_are_no_illegal_ones() -> None:
    """Four rounds, of which the row agent answered one; the column agent had five answers."""
    answers = np.array([[[4, 1, 2, 0], [5, 0, 0, 1]]])
    matches = pair("C---", "CCC-", answers=answers)
    assert [value(matches, name) for name in ("illegal", "refused", "cut_off")] == [0.25, 0.5, 0]
    turned = [value(matches.mirrored(), name) for name in ("illegal", "refused", "cut_off")]
    assert turned == [0, 0, 0.2]
    assert not clean(matches)[0]
    refused = pair("C-", "CC", answers=np.array([[[2, 0, 1, 0], [2, 0, 0, 0]]]))
    assert value(refused, "illegal") == 0 and not clean(refused)[0]
    with pytest.raises(ValueError, match="answers must have shape"):
        pair("CC", "CC", answers=np.zeros((1, 2, 3)))


batches = st.integers(0, 2**32 - 1).map(lambda seed: random_batch(np.random.default_rng(seed)))


def random_batch(rng: np.random.Generator) -> PairMatches:
    """Matches of different lengths with illegal answers and rounds without a move."""
    alive = np.arange(6) < rng.integers(1, 7, size=(4, 1))
    intended = np.where(alive[:, None], rng.integers(-1, 2, size=(4, 2, 6)), -1)
    moves = np.where(intended < 0, rng.integers(-1, 2, size=(4, 2, 6)), intended)
    moves = np.where(alive[:, None], moves, -1)
    payoffs = np.where(alive[:, None], rng.integers(-1, 6, size=(4, 2, 6)), 0).astype(float)
    return PairMatches(intended, moves, payoffs, alive, best_welfare=np.full((4, 6), 10.0))


def naive(m: PairMatches, name: str) -> list[list[float]]:
    """The definitions again, round by round."""
    found = []
    for k in range(len(m)):
        rounds = [t for t in range(m.alive.shape[1]) if m.alive[k, t]]
        own, other = m.intended[k, 0], m.moves[k, 1]
        x, y = (sum(m.payoffs[k, seat, t] for t in rounds) for seat in (0, 1))
        legal = [t for t in rounds if own[t] >= 0]
        if name == "reciprocity":
            after = [[own[t] == 0 for t in legal if t and other[t - 1] == c] for c in (0, 1)]
            n = [len(one) for one in after]
            if min(n) == 0:
                found.append([0.0, 0.0])
                continue
            weight = n[0] * n[1] / (n[0] + n[1])
            found.append([weight * (sum(after[0]) / n[0] - sum(after[1]) / n[1]), weight])
            continue
        if name.startswith("cooperation_after_"):
            joint = ["CD".index(letter) for letter in name[-2:]]
            where = [t for t in legal if t and m.moves[k, :, t - 1].tolist() == joint]
        elif name == "forgiveness":
            where = [t for t in legal if t and other[t - 1] == 0 and 1 in other[: t - 1]]
        elif name == "retaliation":
            where = [t for t in legal if t and other[t - 1] == 1]
        elif name == "cooperation_first":
            where = [t for t in legal if t == 0]
        else:
            where = legal
        shares = [sum(own[t] == 0 for t in where), len(where)]
        fair = min(x, y) >= 0
        outcomes = {
            f"outcome_{a}{b}": sum(m.moves[k, :, t].tolist() == ["CD".index(a), "CD".index(b)]
                                   for t in rounds)
            for a, b in product("CD", repeat=2)
        }  # fmt: skip
        numbers = {
            "payoff": [x, len(rounds)],
            "margin": [x - y, len(rounds)],
            "welfare_share": [x + y, 10 * len(rounds)],
            "gini": [abs(x - y), 2 * (x + y)] if fair else [0, 0],
            "rawlsian_minimum": [min(x, y), len(rounds)],
            "envy": [max(0, y - x), len(rounds)],
            "illegal": [len(rounds) - len(legal), len(rounds)],
            "refused": [0, len(rounds)],
            "cut_off": [0, len(rounds)],
            "retaliation": [shares[1] - shares[0], shares[1]],
            **{key: [number, len(rounds)] for key, number in outcomes.items()},
        }
        found.append(numbers.get(name, shares))
    return [[float(one) for one in counted] for counted in found]


@given(batches)
def test_counts_are_those_of_naive_loops(matches: PairMatches) -> None:
    for name in applicable(matches):
        assert counts(matches, name) == pytest.approx(np.array(naive(matches, name))), name


@given(batches)
def test_values_lie_within_their_bounds(matches: PairMatches) -> None:
    for name in applicable(matches):
        low, high = bounds(name, (-1.0, 5.0)) or (-np.inf, np.inf)
        counted = counts(matches, name)
        counted = counted[counted[:, 1] > 0]
        ratios = counted[:, 0] / counted[:, 1]
        assert (ratios >= low - 1e-9).all() and (ratios <= high + 1e-9).all(), name
        mean_over_seeds([counted], bounds(name, (-1.0, 5.0)))


def test_metrics_of_decisions_and_of_arrays_are_the_same() -> None:
    """Real matches with trembles: the same definitions, twice computed."""
    game = make_game({"name": "prisoners_dilemma", "noise": 0.2})
    players = [StrategyPlayer(name, STRATEGIES[name]()) for name in ("noisy_tit_for_tat", "random")]
    rollout = play(
        game,
        [
            Match(number=k, group=k, seed=k, players=tuple(players), stream=(0, k))
            for k in range(20)
        ],
    )
    row = [d for d in rollout.decisions if d.seat == 0]
    shape = (20, 2, 10)
    intended, moves, payoffs = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape)
    for d in rollout.decisions:
        place = d.match, d.seat, d.round
        intended[place], moves[place], payoffs[place] = d.move, d.played, d.payoff
    matches = PairMatches(intended, moves, payoffs, np.ones((20, 10), dtype=bool))

    def same(name: str, measure: of_decisions.Measure, decisions: list) -> None:
        expected = of_decisions.per_match(decisions, measure)
        assert counts(matches, name) == pytest.approx(expected), name

    same("cooperation", of_decisions.cooperation, row)
    same("payoff", of_decisions.payoff, row)
    same("illegal", of_decisions.illegal, row)
    same("retaliation", of_decisions.retaliation, row)
    for joint in of_decisions.OUTCOMES:
        same(f"outcome_{joint}", of_decisions.outcome(joint), rollout.decisions)
        same(f"cooperation_after_{joint}", of_decisions.conditional(joint), row)
    same("cooperation_first", of_decisions.conditional("start"), row)


def test_played_matches_are_ordered_by_agent_not_by_seat() -> None:
    rng = np.random.default_rng(0)
    moves = rng.integers(0, 2, size=(3, 2, 4))
    played = PlayedMatches(moves, moves, moves * 1.0, np.ones((3, 4), dtype=bool), moves)
    found = PairMatches.from_played(played, np.array([0, 1, 0]))
    assert (found.moves[1, 0] == moves[1, 1]).all() and (found.moves[2] == moves[2]).all()
    both = PairMatches.from_played(played, 1)
    assert (both.payoffs == PairMatches.from_played(played).mirrored().payoffs).all()


def test_the_dictionary_is_complete() -> None:
    for name, metric in METRICS.items():
        assert metric.bounds in BOUNDS and metric.needs in NEEDS, name
        assert metric.unit in ("share", "points", "difference"), name
        assert metric.text.endswith(".") and metric.formula and metric.source, name
    assert bounds("cooperation", None) == (0, 1) and bounds("payoff", None) is None
    assert bounds("welfare_share", (-1, 5)) == (-np.inf, 1) and bounds("margin", (0, 5)) == (-5, 5)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ComityError, match="did you mean cooperation"):
        counts(EXAMPLE, "cooperaton")
    with pytest.raises(ComityError, match="welfare optimum"):
        counts(EXAMPLE, "welfare_share")
    with pytest.raises(ValueError, match="forfeit must have shape"):
        pair("CC", "CC", forfeit=np.zeros(2, dtype=bool))
