"""Metrics of populations against naive loops over the games, and worked examples."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comity.evaluation.population.counts import Counts, count, equality
from comity.evaluation.population.folder import Condition, open_population
from comity.evaluation.population.intervals import means_over_runs
from comity.evaluation.population.metrics import METRICS, cumulative, gini, measure
from comity.evaluation.population.pairs import relative_curves
from comity.evaluation.population.units import selection_matrices, shares_of_rows, units_of
from comity.evaluation.population.windows import (
    Window,
    bin_ends,
    bin_width,
    default_windows,
    given_windows,
)
from comity.evaluation.statistics import mean_over_seeds
from comity.populations.episode import COLUMNS, EpisodeGames
from comity.populations.window_metrics import WindowMetrics
from tests.evaluation.population import synthetic

TYPES = ("S", "UT", "S", "AD", "DE")
TYPE_OF = np.array([0, 1, 0, 2, 3])
Games = Mapping[str, np.ndarray]


class InMemory(Condition):
    """Games that are not on disk, in batches of a few rows."""

    def __init__(self, name: str, games: Games, size: int) -> None:
        runs = tuple(int(run) for run in np.unique(games["run"]))
        super().__init__(name, (), runs, int(games["episode"].max()) + 1)
        object.__setattr__(self, "games", games)
        object.__setattr__(self, "size", size)

    def batches(self, rows: int = 0) -> Iterator[Games]:
        games, size = vars(self)["games"], vars(self)["size"]
        for first in range(0, len(games["run"]), size):
            part = {name: column[first : first + size] for name, column in games.items()}
            yield part | {"run": part["run"].astype(np.int64)}


def naive(games: Games, first: int, last: int, members: set[int], agents: int) -> dict[str, Any]:
    """Every metric by run, from one loop over the rows of episodes `first` to `last`."""
    found: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    payoffs: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    episodes: dict[int, set[int]] = defaultdict(set)
    for k in range(len(games["run"])):
        g = {name: column[k].item() for name, column in games.items()}
        if not first <= g["episode"] <= last:
            continue
        one = found[g["run"]]
        episodes[g["run"]].add(g["episode"])
        for side in ("selector", "selected"):
            payoffs[g["run"]][g[side]] += g[f"{side}_payoff"]
            if g[side] not in members:
                continue
            one["payoff"].append(g[f"{side}_payoff"])
            one["reward"].append(g[f"{side}_reward"])
            one["legal"].append(g[f"{side}_intended"] != -1)
            if g[f"{side}_intended"] != -1:
                one["C"].append(g[f"{side}_intended"] == 0)
            if side == "selected":
                one["chosen"].append(1.0)
        if g["selector"] in members:
            one["legal selection"].append(g["selection_legal"])
            if g["selection_legal"] and g["available"] > 0:
                one["took"].append(g["selected_shown"] == 0)
                one["chance"].append(g["available"] / (agents - 1))
        moves = (g["selector_move"], g["selected_move"])
        one["joint"].append("??" if -1 in moves else "".join("CD"[m] for m in moves))
        r1, r2 = g["selector_payoff"], g["selected_payoff"]
        one["collective"].append(r1 + r2)
        one["minimum"].append(min(r1, r2))
        size = abs(r1) + abs(r2)
        one["equality"].append(1.0 if size == 0 else 1 - abs(r1 - r2) / size)

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else math.nan

    result: dict[str, Any] = {}
    for run, one in found.items():
        length, size, joint = len(episodes[run]), len(members), one["joint"]
        sums = [payoffs[run][agent] for agent in range(agents)]
        values = {
            "cooperation": mean(one["C"]),
            "cooperative_selection": mean(one["took"]),
            "chance_selection": mean(one["chance"]),
            "payoff_per_game": mean(one["payoff"]),
            "reward_per_game": mean(one["reward"]),
            "payoff_per_episode": sum(one["payoff"]) / length / size,
            "reward_per_episode": sum(one["reward"]) / length / size,
            "games_per_episode": len(one["payoff"]) / length / size,
            "chosen_per_episode": len(one["chosen"]) / length / size,
            "illegal_moves": 1 - mean(one["legal"]),
            "illegal_selections": 1 - mean(one["legal selection"]),
            **{f"joint_{j}": mean([one == j for one in joint]) for j in ("CC", "CD", "DC", "DD")},
            "joint_mixed": mean([one in ("CD", "DC") for one in joint]),
            "collective": mean(one["collective"]),
            "equality": mean(one["equality"]),
            "minimum": mean(one["minimum"]),
            "gini": naive_gini(sums),
            "cooperators_available": len(one["took"]) / length,
            "cooperators_chosen": sum(one["took"]) / length,
        }  # fmt: skip
        result[run] = values
    return result


def naive_gini(values: list[float]) -> float:
    if min(values) < 0:
        return math.nan
    total = sum(values)
    if total == 0:
        return 0.0
    return sum(abs(a - b) for a in values for b in values) / (2 * len(values) * total)


def counted(games: Games, size: int, windows: list[Window], episodes: int) -> Counts:
    return count(InMemory("selection", games, size), TYPE_OF, windows, episodes)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    episodes=st.integers(1, 9),
    runs=st.integers(1, 3),
    illegal=st.sampled_from([0.0, 0.3]),
    size=st.integers(1, 40),
    condition=st.sampled_from(["selection", "random_matching"]),
)
def test_every_metric_equals_a_naive_loop(
    seed: int, episodes: int, runs: int, illegal: float, size: int, condition: str
) -> None:
    rng = np.random.default_rng(seed)
    games = synthetic.games(rng, TYPES, episodes, runs, condition, illegal)
    windows = [Window("some", "", episodes // 3, episodes), Window("all", "", 0, episodes)]
    found = counted(games, size, windows, episodes)
    for units in units_of(("S", "UT", "AD", "DE"), TYPE_OF):
        for place, row in enumerate(units.members):
            members = set(np.flatnonzero(row).tolist())
            slots = [(found.windows, k, w.start, w.stop - 1) for k, w in enumerate(windows)]
            slots += [(found.bins, k, k, k) for k in range(episodes)]
            for tally, slot, first, last in slots:
                expected = naive(games, first, last, members, len(TYPES))
                for name in units.metrics(chooses=True):
                    got = measure(name, tally, units.members)[:, slot, place]
                    want = [expected[run][name] for run in range(runs)]
                    np.testing.assert_allclose(got, want, atol=1e-9, err_msg=name)


def test_the_lines_of_metrics_are_the_same_metrics() -> None:
    """Of one run, with illegal answers of both kinds, also for moves that nothing stands for."""
    games = synthetic.games(np.random.default_rng(3), TYPES, 6, 1, "selection", 0.3)
    games["selected_move"][::4] = games["selected_intended"][::4] = -1
    window = WindowMetrics(TYPES)
    for episode in range(6):
        here = games["episode"] == episode
        columns = {name: games[name][here][None] for name in COLUMNS}
        window.add({"selection": EpisodeGames(episode, **columns)})
    row = window.row(0, 6, 0.0)
    found = counted(games, 99, [Window("all", "", 0, 6)], 6).windows
    whole, types, _ = units_of(("S", "UT", "AD", "DE"), TYPE_OF)

    def value(name: str) -> float:
        return measure(name, found, whole.members).item()

    assert row["cooperation"] == pytest.approx(value("cooperation"))
    assert row["selected_cooperator"] == pytest.approx(value("cooperative_selection"))
    assert row["illegal"] == pytest.approx(value("illegal_moves")) and row["illegal"] > 0.2
    assert row["payoff"] == pytest.approx(value("payoff_per_game"))
    for name, share in row["outcomes"].items():
        assert share == pytest.approx(value(f"joint_{name}"))
    for key, name in (("cooperation", "cooperation"), ("reward", "reward_per_game")):
        values = measure(name, found, types.members)[0, 0]
        assert [row["types"][one][key] for one in types.names] == pytest.approx(values.tolist())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 50))
def test_matrices_equal_a_naive_loop(seed: int, size: int) -> None:
    games = synthetic.games(np.random.default_rng(seed), TYPES, 5, 2, "selection", 0.2)
    pairs = counted(games, size, [Window("w", "", 1, 4)], 5).pairs
    chosen, by_type = np.zeros((2, 5, 5)), np.zeros((4, 2, 4, 4))
    for k in range(len(games["run"])):
        run, i, j = (int(games[name][k]) for name in ("run", "selector", "selected"))
        if not 1 <= games["episode"][k] < 4:
            continue
        chosen[run, i, j] += bool(games["selection_legal"][k])
        for side, (own, other) in (("selector", (i, j)), ("selected", (j, i))):
            at = (run, TYPE_OF[own], TYPE_OF[other])
            by_type[(0, *at)] += 1
            by_type[(1, *at)] += games[f"{side}_intended"][k] >= 0
            by_type[(2, *at)] += games[f"{side}_intended"][k] == 0
            by_type[(3, *at)] += games[f"{side}_payoff"][k]
    assert pairs.selections is not None
    np.testing.assert_array_equal(pairs.selections[0], chosen)
    whole = (pairs.games, pairs.legal, pairs.cooperated, pairs.payoff)
    for got, want in zip(whole, by_type, strict=True):
        np.testing.assert_allclose(got[0], want)
    shares = shares_of_rows(chosen)
    sums = shares.sum(axis=2)
    np.testing.assert_allclose(sums[np.isfinite(sums)], 1.0)
    kinds = selection_matrices(pairs, 0)["types"]["mean"]
    mean = means_over_runs(shares_of_rows(pairs.type_selections[0])).mean
    np.testing.assert_allclose(np.array(kinds, dtype=float), mean, rtol=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_intervals_are_those_of_the_statistics_module(data: st.DataObject) -> None:
    runs = data.draw(st.integers(1, 6))
    bounds = data.draw(st.sampled_from([None, (0.0, 1.0), (-1.0, 4.0), (0.0, math.inf)]))
    value = st.sampled_from([0.0, 1.0, 0.25, math.nan]) | st.floats(0.0, 1.0)
    columns = data.draw(st.lists(st.lists(value, min_size=runs, max_size=runs), min_size=1))
    found = means_over_runs(np.array(columns).T, bounds)
    for place, column in enumerate(columns):
        known = [np.array([v]) for v in column if not math.isnan(v)]
        expected = mean_over_seeds(known, bounds, over="runs")
        got = found.estimate(place, 0)
        if expected is None:
            assert got["mean"] is None
            assert got["reason"] == "nothing was counted"
            continue
        assert got["mean"] == pytest.approx(expected.mean, abs=1e-5)
        assert (got["low"] is None) == (expected.low is None)
        if expected.low is not None and expected.high is not None:
            assert found.low[place] == pytest.approx(expected.low, abs=1e-9)
            assert found.high[place] == pytest.approx(expected.high, abs=1e-9)
        elif len(known) == 1:
            assert got["reason"] == "one run: nothing shows how far another would be from it"


def test_a_value_outside_of_its_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="outside of the bounds"):
        means_over_runs(np.array([0.5, 1.5]), (0.0, 1.0))


def game(**given: float) -> dict[str, float]:
    plain = dict.fromkeys(synthetic.TYPES, 0)
    return {**plain, "selection_legal": True, **given}


def games_of(*rows: Mapping[str, float]) -> Games:
    return {
        name: np.array([row[name] for row in rows], kind) for name, kind in synthetic.TYPES.items()
    }


def test_cooperative_selection_by_hand() -> None:
    """Four selections of agent 0; one without cooperators and one illegal do not count."""
    rows = games_of(
        game(selected=1, available=3, selected_shown=0, episode=0),
        game(selected=2, available=1, selected_shown=1, episode=1),
        game(selected=3, available=0, selected_shown=1, episode=2),
        game(selected=1, available=2, selected_shown=0, episode=3, selection_legal=False),
    )
    tally = counted(rows, 10, [Window("all", "", 0, 4)], 4).windows
    alone = np.eye(5)[:1]
    assert measure("cooperative_selection", tally, alone)[0, 0, 0] == 0.5
    assert measure("chance_selection", tally, alone)[0, 0, 0] == (3 / 4 + 1 / 4) / 2
    assert measure("illegal_selections", tally, alone)[0, 0, 0] == 0.25
    assert measure("cooperators_available", tally, np.ones((1, 5)))[0, 0, 0] == 0.5
    assert measure("cooperators_chosen", tally, np.ones((1, 5)))[0, 0, 0] == 0.25


def test_two_zeros_are_equal_and_negative_payoffs_have_no_gini() -> None:
    assert equality(np.array([0.0, 4.0, -2.0]), np.array([0.0, 0.0, -2.0])).tolist() == [1, 0, 1]
    assert gini(np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 8.0], [0.0] * 4])).tolist() == [
        0.0, 0.75, 0.0,
    ]  # fmt: skip
    assert np.isnan(gini(np.array([-1.0, 2.0])))


def test_running_sums_end_at_the_sums_of_all_games() -> None:
    games = synthetic.games(np.random.default_rng(5), TYPES, 7, 2, "selection")
    found = counted(games, 13, [Window("all", "", 0, 7)], 7)
    each = np.eye(5)
    ones = np.ones(7)
    last = cumulative("cumulative_payoff", found.bins, each, ones)[:, -1]
    np.testing.assert_allclose(last, found.windows.payoff[0])
    total = cumulative("cumulative_collective", found.bins, np.ones((1, 5)), ones)[:, -1, 0]
    np.testing.assert_allclose(total, found.windows.collective[0])
    pair = relative_curves(found.bins, ones)
    assert [one["agents"] for one in pair] == [[0, 1], [2, 3]]
    gap = found.windows.payoff[0][:, 0] - found.windows.payoff[0][:, 1]
    assert pair[0]["relative_payoff"]["mean"][-1] == pytest.approx(gap.mean(), rel=1e-5)


def test_a_control_with_every_second_episode_has_the_same_running_sums() -> None:
    """The recorded episodes of a bin stand for all of it."""
    rows = [game(episode=e, selected=1, selector_payoff=2.0) for e in range(0, 8, 2)]
    found = count(InMemory("random_selection", games_of(*rows), 3), TYPE_OF, [], 400)
    assert bin_width(400) == 4
    sums = cumulative("cumulative_payoff", found.bins, np.eye(5)[:1], np.full(100, 4.0))
    assert sums[0, :3, 0].tolist()[:2] == [8.0, 16.0]
    assert np.isnan(sums[0, 2, 0]), "unknown after a bin without any"


def test_windows_and_bins_cover_the_episodes() -> None:
    for episodes in (1, 2, 19, 20, 99, 100, 101, 250, 30_000):
        ends = bin_ends(episodes, bin_width(episodes))
        assert len(ends) <= 100
        assert ends[-1] == episodes - 1
        windows = {one.key: one for one in default_windows(episodes)}
        assert windows["last"].stop == episodes
        assert windows["all"].stop - windows["all"].start == episodes
        tenths = [one for key, one in windows.items() if key.startswith("tenth")]
        assert sum(one.stop - one.start for one in tenths) in (0, episodes)
    assert given_windows([(3, 5)], 10)[0].label == "episodes 3 to 5"
    with pytest.raises(ValueError, match="not among 0 to 9"):
        given_windows([(3, 10)], 10)


def test_games_that_are_not_in_order_are_refused() -> None:
    rows = games_of(game(episode=1, selected=1), game(episode=0, selected=1))
    with pytest.raises(ValueError, match="not sorted by episode"):
        counted(rows, 10, [], 2)


def test_records_on_disk_give_the_numbers_of_records_in_memory(tmp_path: Path) -> None:
    folder = synthetic.population(tmp_path / "p", TYPES, 12, 2, parts=3, seed=4)
    population = open_population(folder)
    assert population.type_of.tolist() == TYPE_OF.tolist()
    condition = population.conditions[0]
    rows = synthetic.games(np.random.default_rng([4, 0]), TYPES, 12, 2, "selection")
    windows = default_windows(12)
    read = count(condition, TYPE_OF, windows, 12)
    made = counted(rows, 1000, windows, 12)
    for name in METRICS:
        both = (measure(name, one.bins, np.ones((1, 5))) for one in (read, made))
        np.testing.assert_array_equal(*both)
