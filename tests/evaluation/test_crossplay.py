"""Everyone meets everyone: the same deals for all, from both seats."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comity.evaluation.crossplay import Entrant, Meetings, crossplay
from comity.games import make_game
from comity.reports.estimates import estimate, margin, together
from comity.reports.negotiation import _crossplay
from comity.reports.tables import read_crossplay
from comity.rollout.tables import decision_table, write_table
from comity.seats import scripted_player

COINS = {
    "name": "split_no_talk",
    "items": ["coins"],
    "game_type": "10-1-exclusive",
    "equal_sums": False,
    "length": {"name": "fixed", "rounds": 1},
}


def entrants(*names: str) -> list[Entrant]:
    return [Entrant(name, {None: scripted_player(name)}) for name in names]


def met(names: Sequence[str], matches: int, seeds: Sequence[int] = (3,)) -> Meetings:
    return crossplay(make_game(COINS), entrants(*names), seeds, matches)


@pytest.mark.parametrize("matches", [1, 4, 5])
def test_matches_come_in_twos_on_the_same_deal(matches: int) -> None:
    found = met(("greedy", "welfare_maximizing"), matches)
    deals: dict[int, set[tuple[int, float]]] = defaultdict(set)
    seats: dict[tuple[str, int], list[tuple[int, int, str]]] = defaultdict(list)
    for d, pairing in zip(found.decisions, found.pairing_of_decision, strict=True):
        deals[d.group].add((d.seed, d.best))
        seats[pairing, d.group].append((d.match, d.seat, d.player))
    assert len(deals) == (matches + 1) // 2
    assert all(len(one) == 1 for one in deals.values()), "a group has one environment"
    assert len({seed for one in deals.values() for seed, _ in one}) == len(deals)
    assert len(seats) == 3 * len(deals), "all pairings have all deals"
    for (pairing, group), sat in seats.items():
        if group < matches // 2 and pairing == "greedy|welfare_maximizing|3":
            assert {(seat, player) for _, seat, player in sat} == {
                (seat, player) for seat in (0, 1) for player in ("greedy", "welfare_maximizing")
            }


def test_groups_of_several_seeds_are_apart() -> None:
    players = {seed: scripted_player("greedy") for seed in (3, 9)}
    found = crossplay(make_game(COINS), [Entrant("greedy", players)], (3, 9), 6)
    groups = {
        (d.group, pairing)
        for d, pairing in zip(found.decisions, found.pairing_of_decision, strict=True)
    }
    assert {group for group, _ in groups} == set(range(6)) and len(groups) == 6
    assert len({d.seed for d in found.decisions}) == 6


def test_who_plays_alike_gets_alike(tmp_path: Path) -> None:
    """Luck with deals is gone from the margin: it is 0 without any doubt, as it should be."""
    claims_all = {"name": "claim", "units": 10}
    found = crossplay(
        make_game(COINS),
        [
            Entrant("greedy", {None: scripted_player("greedy")}),
            Entrant("all", {None: replace(scripted_player(claims_all), name="all")}),
        ],
        (0,),
        8,
    )
    path = tmp_path / "decisions.parquet"
    write_table(path, decision_table(found.decisions, {"pairing": found.pairing_of_decision}))
    table = read_crossplay(path)
    pair = table.where(table.player != table.opponent)
    assert estimate(pair, margin("greedy")) == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 8}
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

    np.testing.assert_allclose(together(counts, groups, matches), slow(groups))
    one = np.full(40, 3)
    np.testing.assert_allclose(together(counts, one, matches), slow(matches))
