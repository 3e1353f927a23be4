"""Everyone meets everyone: the same deals for all, from both seats."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comity.config.seats import scripted_player
from comity.errors import ComityError
from comity.evaluation.crossplay import CrossplayRecords, Participant, crossplay
from comity.games import make_game
from comity.reports.loading.decisions import DecisionTable, read_crossplay
from comity.reports.summary.crossplay import crossplay_matrix
from comity.reports.summary.estimates import (
    against_all,
    conditional,
    estimate,
    margin,
    over_opponents,
    payoff,
    together,
)
from comity.reports.summary.negotiation import _crossplay
from comity.reports.summary.summary import describe
from comity.rollout.record_files import decision_table, write_table

COINS = {
    "name": "split_no_talk",
    "items": ["coins"],
    "game_type": "10-1-exclusive",
    "equal_sums": False,
    "length": {"name": "fixed", "rounds": 1},
}


PD = {"name": "prisoners_dilemma", "length": {"name": "fixed", "rounds": 5}}


def written(found: CrossplayRecords, folder: Path) -> DecisionTable:
    """The table that a page reads."""
    path = folder / "decisions.parquet"
    extra = {"pairing": found.pairing_of_decision, "deterministic": found.deterministic}
    write_table(path, decision_table(found.decisions, extra))
    return read_crossplay(path)


def participants(*names: str) -> list[Participant]:
    return [Participant(name, {None: scripted_player(name)}) for name in names]


def met(names: Sequence[str], matches: int, seeds: Sequence[int] = (3,)) -> CrossplayRecords:
    return crossplay(make_game(COINS), participants(*names), seeds, matches)


@pytest.mark.parametrize("matches", [2, 4, 6])
def test_matches_come_in_twos_on_the_same_deal(matches: int) -> None:
    found = met(("greedy", "welfare_maximizing"), matches)
    deals: dict[int, set[tuple[int, float]]] = defaultdict(set)
    seats: dict[tuple[str, int], list[tuple[int, int, str]]] = defaultdict(list)
    for d, pairing in zip(found.decisions, found.pairing_of_decision, strict=True):
        deals[d.group].add((d.seed, d.max_welfare))
        seats[pairing, d.group].append((d.match, d.seat, d.player))
    assert len(deals) == matches // 2
    assert all(len(one) == 1 for one in deals.values()), "a group has one environment"
    assert len({seed for one in deals.values() for seed, _ in one}) == len(deals)
    assert len(seats) == 3 * len(deals), "all pairings have all deals"
    for (pairing, _), sat in seats.items():
        if pairing == "greedy|welfare_maximizing|3":
            assert {(seat, player) for _, seat, player in sat} == {
                (seat, player) for seat in (0, 1) for player in ("greedy", "welfare_maximizing")
            }


def test_groups_of_several_seeds_are_apart() -> None:
    players = {seed: scripted_player("greedy") for seed in (3, 9)}
    found = crossplay(make_game(COINS), [Participant("greedy", players)], (3, 9), 6)
    groups = {
        (d.group, pairing)
        for d, pairing in zip(found.decisions, found.pairing_of_decision, strict=True)
    }
    assert {group for group, _ in groups} == set(range(6)) and len(groups) == 6
    assert len({d.seed for d in found.decisions}) == 6


@pytest.mark.parametrize("matches", [1, 5, 0, -2])
def test_an_odd_number_of_matches_is_refused(matches: int) -> None:
    """One match of every pair would seat it one way only."""
    with pytest.raises(ComityError, match="even"):
        met(("greedy", "welfare_maximizing"), matches)


def test_pairs_of_untrained_players_meet_under_every_seed() -> None:
    found = met(("greedy", "welfare_maximizing"), 2, seeds=(3, 5, 9))
    assert set(found.pairing_of_decision) == {
        f"{pair}|{seed}"
        for seed in (3, 5, 9)
        for pair in ("greedy|greedy", "greedy|welfare_maximizing",
                     "welfare_maximizing|welfare_maximizing")
    }  # fmt: skip


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2), (0, 1, 2, 3, 4)])
def test_the_same_policy_twice_has_the_same_row_for_any_number_of_seeds(
    seeds: tuple[int, ...], tmp_path: Path
) -> None:
    """One of them trained (a player per seed), the other not; both always defect."""
    twice = replace(scripted_player("always_defect"), name="trained")
    players = [
        Participant("trained", dict.fromkeys(seeds, twice)),
        *participants("always_defect", "always_cooperate", "tit_for_tat"),
    ]
    table = written(crossplay(make_game(PD), players, seeds, 2), tmp_path)
    both = [
        describe(table.where(table.player == name), (0.0, 5.0), opponents=True)["payoff"]
        for name in ("trained", "always_defect")
    ]
    # 1 from each other and from itself, 5 from the cooperator, 1.8 from tit-for-tat.
    assert both[0]["mean"] == both[1]["mean"] == pytest.approx((1 + 1 + 5 + 1.8) / 4)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_same_negotiator_twice_has_the_same_statistics(
    seeds: tuple[int, ...], tmp_path: Path
) -> None:
    twice = replace(scripted_player("greedy"), name="trained")
    players = [
        Participant("trained", dict.fromkeys(seeds, twice)),
        *participants("greedy", "welfare_maximizing"),
    ]
    written(crossplay(make_game(COINS), players, seeds, 4), tmp_path)
    found = _crossplay(tmp_path / "decisions.parquet", make_game(COINS))["players"]
    assert found["trained"].keys() == found["greedy"].keys()
    for name, one in found["trained"].items():
        assert one is None or one["mean"] == pytest.approx(found["greedy"][name]["mean"]), name
    # Whoever it meets, it claims all.
    assert found["trained"]["stock_claimed"]["mean"] == 1.0
    assert found["trained"]["payoff"]["n"] == len(seeds) * 3 * 4


def test_opponents_weigh_the_same_where_some_were_not_met_under_every_seed(tmp_path: Path) -> None:
    """As in older studies, where untrained players met under the first seed alone."""
    seeds = (0, 1, 2)
    twice = replace(scripted_player("always_defect"), name="trained")
    players = [
        Participant("trained", dict.fromkeys(seeds, twice)),
        *participants("always_defect", "always_cooperate", "tit_for_tat"),
    ]
    table = written(crossplay(make_game(PD), players, seeds, 2), tmp_path)
    older = table.where(
        (table.seed == 0) | (table.player == "trained") | (table.opponent == "trained")
    )
    for one in (table, older):
        found = against_all(one.where(one.player == "always_defect"), payoff, (0.0, 5.0))
        assert found["mean"] == pytest.approx((1 + 1 + 5 + 1.8) / 4)


def test_what_a_script_does_in_a_state_is_its_rule_and_no_sample(tmp_path: Path) -> None:
    """Random play cooperates with probability 0.3, however often it did."""
    wild = {"name": "random", "p": 0.3}
    players = [
        Participant("random", {None: scripted_player(wild)}),
        *participants("tit_for_tat", "always_cooperate"),
    ]
    table = written(crossplay(make_game(PD), players, (0, 1), 4), tmp_path)
    for name, state, chance in (
        ("random", "CC", 0.3), ("tit_for_tat", "CD", 0.0), ("tit_for_tat", "CC", 1.0)
    ):  # fmt: skip
        found = estimate(table.where(table.player == name), conditional(state))
        assert (found["mean"], found["low"]) == (pytest.approx(chance), None)
        assert found["reason"] and found["of"] == "probabilities"


def test_pairs_that_leave_nothing_to_chance_are_exact(tmp_path: Path) -> None:
    names = ("tit_for_tat", "always_defect", "random")
    matrix = crossplay_matrix(
        written(crossplay(make_game(PD), participants(*names), (0,), 4), tmp_path), (0.0, 5.0)
    )
    exact = matrix["tit_for_tat"]["always_defect"]["payoff"]
    assert (exact["mean"], exact["low"]) == (pytest.approx(0.8), None)
    assert exact["reason"] == "deterministic: all these matches are identical"
    chance = matrix["tit_for_tat"]["random"]["payoff"]
    assert chance["low"] < chance["high"]
    noisy = {**PD, "noise": 0.1}
    found = crossplay(make_game(noisy), participants("tit_for_tat", "always_defect"), (0,), 2)
    assert not any(found.deterministic)


def test_who_plays_alike_gets_alike(tmp_path: Path) -> None:
    """Luck with deals is gone from the margin: it is 0 without any doubt, as it should be."""
    claims_all = {"name": "claim", "units": 10}
    found = crossplay(
        make_game(COINS),
        [
            Participant("greedy", {None: scripted_player("greedy")}),
            Participant("all", {None: replace(scripted_player(claims_all), name="all")}),
        ],
        (0,),
        8,
    )
    path = tmp_path / "decisions.parquet"
    write_table(path, decision_table(found.decisions, {"pairing": found.pairing_of_decision}))
    table = read_crossplay(path)
    pair = table.where(table.player != table.opponent)
    found = estimate(pair, margin("greedy"), (-100.0, 100.0))
    assert (found["mean"], found["n"], found["units"]) == (0.0, 8, 4)
    # Other deals could differ for all that four of them show.
    assert found["low"] == pytest.approx(-found["high"])
    described = _crossplay(path)
    assert described["percent_of_max"]["greedy"]["all"]["n"] == 8
    assert described["players"]["greedy"]["percent_of_max"]["n"] == 16
    assert described["players"]["greedy"]["percent_of_max"]["mean"] == pytest.approx(0.55)


def test_groups_are_added_up_like_in_a_loop() -> None:
    rng = np.random.default_rng(0)
    counts, groups, matches = rng.random((40, 2)), rng.integers(0, 7, 40), rng.integers(0, 20, 40)

    def slow(units: np.ndarray) -> list[list[float]]:
        return [
            [
                sum(c[side] for c, u in zip(counts, units, strict=True) if u == name)
                for side in (0, 1)
            ]
            for name in sorted(set(units.tolist()))
        ]

    np.testing.assert_allclose(together(counts, groups, matches)[0], slow(groups))
    assert together(counts, groups, matches)[1] == "groups of matches"
    one = np.full(40, 3)
    np.testing.assert_allclose(together(counts, one, matches)[0], slow(matches))
    assert together(counts, one, matches)[1] == together(counts, matches, matches)[1] == "matches"


def test_against_all_is_the_mean_of_the_cells_whatever_the_lengths(tmp_path: Path) -> None:
    """Under one seed as under several: long matches weigh in a cell as they do in the row."""
    game = make_game(
        {**PD, "length": {"name": "geometric", "continue_probability": 0.8, "cap": 40}}
    )
    players = participants("tit_for_tat", "always_defect", "random")
    records = crossplay(game, players, (0, 1), 6)
    table = written(records, tmp_path)
    for one in (table, table.where(table.seed == 0)):
        matrix = crossplay_matrix(one, (0.0, 5.0))
        for name, row in matrix.items():
            found = against_all(one.where(one.player == name), payoff, (0.0, 5.0))
            cells = [cell["payoff"]["mean"] for cell in row.values()]
            assert found["mean"] == pytest.approx(np.mean(cells), abs=1e-5)


def test_a_seed_in_which_nothing_was_counted_is_no_seed_of_a_mean_over_opponents() -> None:
    pairs = np.array([[1.0, 2.0], [2.0, 2.0], [0.0, 0.0], [1.0, 4.0]])
    seeds, opponents = np.array([0, 0, 1, 2]), np.array(["a", "b", "a", "a"])
    found = over_opponents(pairs, seeds, np.arange(4), opponents)
    assert [one[:, 0].sum() / one[:, 1].sum() for one in found] == [0.75, (0.25 + 1.0) / 2]
