"""Counting what was played: a small match by hand, known strategies, and properties."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.evaluation import metrics
from comity.evaluation.metrics import conditional, outcome, per_match, rate
from comity.evaluation.statistics import mean_over_seeds
from comity.reports.loading.decisions import read_training
from comity.reports.summary import estimates
from comity.reports.summary.summary import joint_outcomes
from comity.rollout.record_files import decision_table, write_table
from comity.rollout.records import Decision

PAYOFFS = {(0, 0): (3.0, 3.0), (0, 1): (0.0, 5.0), (1, 0): (5.0, 0.0), (1, 1): (1.0, 1.0)}


def decision(seat: int, round: int, move: int, state: list[int], **changes: object) -> Decision:
    plain = Decision(
        iteration=0,
        match=0,
        group=0,
        seed=0,
        seat=seat,
        round=round,
        step=0,
        kind="choose",
        player="own",
        adapter="main",
        version=0,
        controller="live",
        trained=True,
        conversation=0,
        start=-1,
        tokens=[],
        logprob=0.0,
        token_logprobs=[],
        legal=["A", "B"],
        probabilities=[],
        text="",
        move=move,
        move_name="",
        played=move,
        state=state,
        payoff=0.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def play(moves: list[tuple[int, int]], match: int = 0, iteration: int = 0) -> list[Decision]:
    """Decisions of one match of the prisoner's dilemma, from its joint moves."""
    decisions: list[Decision] = []
    for round, joint in enumerate(moves):
        for seat in (0, 1):
            before = moves[round - 1] if round else ()
            state = [before[seat], before[1 - seat]] if before else []
            decisions.append(
                decision(
                    seat,
                    round,
                    joint[seat],
                    state,
                    payoff=PAYOFFS[joint][seat],
                    match=match,
                    iteration=iteration,
                )
            )
    return decisions


C, D = 0, 1
MATCH = play([(C, C), (C, D), (D, D), (D, C)])


def test_a_match_by_hand():
    found = metrics.iteration_metrics(MATCH)
    further = found.pop("metrics")
    assert further.keys() == metrics.METRICS.keys() and further["retaliation"] == 2 / 3
    assert found == {
        "cooperation": 4 / 8,
        "payoff": (3 + 3 + 0 + 5 + 1 + 1 + 5 + 0) / 8,
        "outcomes": {"CC": 0.25, "CD": 0.25, "DC": 0.25, "DD": 0.25},
        "conditional": {
            "start": [2, 2],
            "CC": [1, 2],  # seat 0 kept on, seat 1 did not
            "CD": [0, 1],  # seat 0 had been exploited
            "DC": [0, 1],  # seat 1 had exploited
            "DD": [1, 2],  # seat 1 made peace
        },
        "illegal": 0.0,
        "by_opponent": {
            "live": {"matches": 1, "cooperation": 4 / 8, "payoff": 18 / 8},
            "frozen": {"matches": 0, "cooperation": None, "payoff": None},
            "past": {"matches": 0, "cooperation": None, "payoff": None},
            "scripted": {"matches": 0, "cooperation": None, "payoff": None},
            "api": {"matches": 0, "cooperation": None, "payoff": None},
            "human": {"matches": 0, "cooperation": None, "payoff": None},
        },
        "negotiation": {},
    }
    # Seat 0 after CD and DD: D, D. Seat 1 after DD: C (after DC the other had cooperated).
    assert metrics.retaliation(MATCH) == (2.0, 3.0)


def test_metrics_of_ones_own_are_counts(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    monkeypatch.setenv("COMITY_PARTS", str(file))
    file.write_text("METRICS = {'first': lambda decisions: (decisions[0].move, 1)}")
    found = metrics.further_metrics(MATCH)
    assert found.keys() == {"first", *metrics.METRICS}
    assert (found["first"], found["retaliation"]) == (0.0, 2 / 3)
    file = tmp_path / "wrong.py"
    monkeypatch.setenv("COMITY_PARTS", str(file))
    file.write_text("METRICS = {'wrong': lambda decisions: 0.5}")
    with pytest.raises(ComityError, match="metric 'wrong' must return a numerator and a denomina"):
        metrics.further_metrics(MATCH)


def test_only_learners_decisions_count_but_outcomes_need_both_seats():
    """Whether or not anything was learned from them."""
    decisions = [replace(d, controller=("live", "frozen")[d.seat], trained=False) for d in MATCH]
    result = metrics.iteration_metrics(decisions)
    assert result["cooperation"] == 2 / 4
    assert result["payoff"] == (3 + 0 + 1 + 5) / 4
    assert result["conditional"] == {
        "start": [1, 1],
        "CC": [1, 1],
        "CD": [0, 1],
        "DC": [0, 0],
        "DD": [0, 1],
    }
    assert result["outcomes"]["DC"] == 0.25


def test_payoffs_are_told_apart_by_who_the_trained_faced():
    kinds = ["past", "past", "scripted", "live"]
    decisions = [
        replace(
            d, trained=kind == "live" or d.seat == 0, controller="live" if d.seat == 0 else kind
        )
        for match, kind in enumerate(kinds)
        for d in play([(C, C), (D, C)] if match == 0 else [(C, D)], match=match)
    ]
    assert metrics.iteration_metrics(decisions)["by_opponent"] == {
        "past": {"matches": 2, "cooperation": 2 / 3, "payoff": (3 + 5 + 0) / 3},
        "scripted": {"matches": 1, "cooperation": 1.0, "payoff": 0.0},
        "live": {"matches": 1, "cooperation": 1 / 2, "payoff": (0 + 5) / 2},
        "frozen": {"matches": 0, "cooperation": None, "payoff": None},
        "api": {"matches": 0, "cooperation": None, "payoff": None},
        "human": {"matches": 0, "cooperation": None, "payoff": None},
    }


def test_a_match_with_several_others_counts_for_the_kind_of_each():
    kinds = ("live", "past", "scripted")
    decisions = [
        replace(decision(seat, 0, C, [], payoff=1.0), controller=kind, trained=kind == "live")
        for seat, kind in enumerate(kinds)
    ]
    found = metrics.by_opponent(decisions)
    assert [found[kind]["matches"] for kind in kinds] == [0, 1, 1]
    assert found["past"] == found["scripted"] == {"matches": 1, "cooperation": 1.0, "payoff": 1.0}


def test_nothing_counted_is_none():
    untrained = [replace(d, controller="frozen", trained=False) for d in MATCH]
    result = metrics.iteration_metrics(untrained)
    assert result["cooperation"] is result["payoff"] is result["illegal"] is None
    assert result["conditional"]["CC"] == [0, 0]
    assert metrics.conditional_table([])["start"] is None
    assert rate((0.0, 0.0)) is None


def test_illegal_answers_are_neither_move():
    decisions = [
        decision(0, 0, -1, [], played=1),  # played as defection by the game's rule
        decision(1, 0, 0, []),
        decision(0, 1, -1, [1, 0], played=-1),  # no move at all
        decision(1, 1, 1, [0, 1]),
        decision(0, 2, 0, [-1, 1]),
        decision(1, 2, 0, [1, -1]),
    ]
    result = metrics.iteration_metrics(decisions)
    assert result["illegal"] == 2 / 6
    assert result["cooperation"] == 3 / 4
    assert result["conditional"] == {
        "start": [1, 1],
        "CC": [0, 0],
        "CD": [0, 1],
        "DC": [0, 0],
        "DD": [0, 0],
    }
    # The round without a move is in no outcome.
    assert result["outcomes"] == {"CC": 1 / 3, "CD": 0.0, "DC": 1 / 3, "DD": 0.0}


def test_trembles_count_as_played_in_outcomes_and_as_meant_in_cooperation():
    decisions = [decision(0, 0, 0, [], played=1), decision(1, 0, 0, [])]
    result = metrics.iteration_metrics(decisions)
    assert result["cooperation"] == 1.0
    assert result["outcomes"]["DC"] == 1.0


def test_other_games_have_no_outcomes_of_two_moves_and_two_seats():
    three_seats = [decision(seat, 0, 0, []) for seat in range(3)]
    three_moves = [decision(0, 0, 0, [], legal=["A", "B", "C"]), decision(1, 0, 1, [])]
    for decisions in (three_seats, three_moves):
        result = metrics.iteration_metrics(decisions)
        assert result["outcomes"] == result["conditional"] == {}
        assert result["cooperation"] is not None
    assert metrics.retaliation([decision(0, 1, 1, [0, 0, 1])]) == (1.0, 1.0)


def test_a_round_of_two_steps_counts_once():
    decisions = [
        decision(0, 0, 0, [], step=0, payoff=0.0),
        decision(0, 0, 1, [], step=1, payoff=5.0),
        decision(1, 0, 0, [], step=0, payoff=0.0),
    ]
    assert metrics.payoff(decisions) == (5.0, 2.0)
    assert outcome("DC")(decisions) == (1.0, 1.0)


def test_exact_rates_come_from_the_recorded_probabilities():
    decisions = [
        decision(0, 0, 0, [], probabilities=[0.9, 0.1]),
        decision(1, 0, 1, [], probabilities=[0.7, 0.3]),
        decision(0, 1, 1, [0, 1], probabilities=[0.25, 0.75]),
        decision(1, 1, 1, [1, 0]),  # not known
    ]
    assert metrics.exact_cooperation(decisions) == (pytest.approx(1.85), 3.0)
    table = metrics.conditional_table(decisions, metrics.exact_cooperation)
    assert table["start"] == pytest.approx(0.8)
    assert table["CD"] == pytest.approx(0.25)
    assert table["DC"] is None


@pytest.mark.parametrize("name", metrics.STRATEGIES)
def test_a_strategy_has_distance_0_to_itself_and_its_row_is_recovered(name: str):
    row = metrics.STRATEGIES[name]
    decisions = [
        decision(0, 1, 0 if chance else 1, ["CD".index(x) for x in state])
        for state, chance in row.items()
    ]
    table = metrics.conditional_table(decisions)
    assert {s: table[s] for s in row} == row
    assert metrics.distance(table, name) == 0.0


def test_distances_between_strategies():
    rows = metrics.STRATEGIES
    assert metrics.distance(rows["always_cooperate"], "always_defect") == 1.0
    assert metrics.distance(rows["tit_for_tat"], "win_stay_lose_shift") == 0.5
    assert metrics.distance({"CC": 0.9, "CD": 0.1, "DC": 0.8, "DD": 0.2}, "tit_for_tat") == (
        pytest.approx(0.15)
    )
    assert metrics.distance({"CC": 1.0, "CD": None, "DC": 1.0, "DD": 0.0}, "tit_for_tat") is None


joint_moves = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=6)


@given(st.lists(joint_moves, min_size=1, max_size=4))
def test_counts_add_up(matches: list[list[tuple[int, int]]]):
    decisions = [d for m, moves in enumerate(matches) for d in play(moves, match=m)]
    rounds = sum(map(len, matches))
    assert sum(outcome(o)(decisions)[0] for o in metrics.OUTCOMES) == rounds
    states = [conditional(s)(decisions) for s in metrics.STATES]
    assert sum(n for _, n in states) == 2 * rounds
    assert sum(c for c, _ in states) == metrics.cooperation(decisions)[0]
    for measure in (metrics.cooperation, metrics.payoff, metrics.retaliation, outcome("CD")):
        counts = per_match(decisions, measure)
        assert counts.shape == (len(matches), 2)
        np.testing.assert_allclose(counts.sum(axis=0), measure(decisions))


def test_matches_of_different_iterations_are_different_matches():
    decisions = play([(C, C)], match=0, iteration=1) + play([(D, D)], match=0, iteration=0)
    counts = per_match(decisions, metrics.cooperation)
    np.testing.assert_array_equal(counts, [[0, 2], [2, 2]])
    estimate = mean_over_seeds([counts], (0.0, 1.0))
    assert estimate is not None
    assert (estimate.mean, estimate.n, estimate.units) == (0.5, 4, 2)
    assert per_match([], metrics.cooperation).shape == (0, 2)


def test_joint_outcomes_have_the_learners_move_first_whichever_seat_it_had():
    """A learner that always cooperates, on either seat, against a script that always defects."""
    decisions = [
        decision(
            seat, 0, C if seat == own else D, [], match=own,
            controller="live" if seat == own else "scripted", trained=seat == own,
        )
        for own in (0, 1)
        for seat in (0, 1)
    ]  # fmt: skip
    found = metrics.iteration_metrics(decisions)["outcomes"]
    assert found == {"CC": 0.0, "CD": 1.0, "DC": 0.0, "DD": 0.0}
    # Nobody learns: seat 0 comes first, as the match has it.
    frozen = [replace(d, controller="frozen", trained=False) for d in decisions]
    assert metrics.iteration_metrics(frozen)["outcomes"] == {
        "CC": 0.0, "CD": 0.5, "DC": 0.5, "DD": 0.0
    }  # fmt: skip


def test_cooperation_is_recorded_where_all_choices_were_scored():
    decisions = [
        replace(d, probabilities=[0.25, 0.75] if d.seat == 0 else [1.0, 0.0]) for d in MATCH
    ]
    found = metrics.iteration_metrics(decisions)
    assert found["cooperation"] == found["by_opponent"]["live"]["cooperation"] == 0.625
    assert found["conditional"]["start"] == [1.25, 2]
    # After a failed attempt an answer follows its probabilities only given the failure.
    for changed in ({"attempts": 2}, {"probabilities": []}):
        free = [replace(decisions[0], **changed), *decisions[1:]]
        assert metrics.iteration_metrics(free)["cooperation"] == 0.5
        assert metrics.iteration_metrics(free)["conditional"]["start"] == [2, 2]


def test_what_was_announced_is_no_move(tmp_path: Path) -> None:
    """Before every move each seat announces the other one; only the moves count."""
    joint = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 0)]
    plain = play(joint) + play(joint[::-1], match=1)
    chances = [replace(d, probabilities=[0.25, 0.75]) for d in plain]
    for played in (plain, chances):
        announced = [
            one
            for d in played
            for one in (
                replace(d, move=1 - d.move, payoff=0.0, probabilities=d.probabilities[::-1]),
                replace(d, step=1),
            )
        ]
        assert metrics.iteration_metrics(announced) == metrics.iteration_metrics(played)
        tables = []
        for name, decisions in (("announced", announced), ("played", played)):
            write_table(tmp_path / name, decision_table(decisions))
            tables.append(read_training(tmp_path / name, seed=0))
        assert tables[0].choice.tolist() == [False, True] * len(played)
        for measure in (estimates.cooperation, estimates.reward, estimates.conditional("CD")):
            assert np.array_equal(*([np.sum(part) for part in measure(one)[:2]] for one in tables))
        outcomes = [joint_outcomes(one) for one in tables]
        assert outcomes[0] == outcomes[1] and outcomes[0] is not None and outcomes[0]["DC"] == 0.4
