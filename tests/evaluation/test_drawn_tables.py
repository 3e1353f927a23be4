"""Reference values of drawn payoffs, against brute force over every table and what is played."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from comity.config.compose import compose
from comity.evaluation.moral.drawn_payoffs import mean_reference_policies, reward_shares
from comity.evaluation.moral.metrics import reward_table
from comity.evaluation.moral.optimum import optimum
from comity.evaluation.moral.reference_policies import reference_policies
from comity.games import make_game
from comity.games.base import Game, PlayedMatches
from comity.games.enumerate import Policy
from comity.games.matrix.random_tables import OrderedPayoffs, RandomTables
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.registry import build
from comity.reports.loading.folders import collect
from comity.reports.summary.summary import summarize
from comity.rewards import REWARDS
from comity.train import train
from tests.train.small import decisions, only_folder, overrides, small


def dealing(**changes: object) -> RandomTables:
    length = {"name": "fixed", "rounds": 3}
    block = {
        "name": "random_dilemma",
        "length": length,
        "initial_state": "uniform",
        "illegal": "carry",
    }
    found = make_game({**block, **changes})
    assert isinstance(found, RandomTables)
    return found


def facing(script: str) -> Callable[[Game], Policy]:
    strategy = build("player", script, MATRIX_STRATEGIES)
    return lambda game: lambda known: strategy.probabilities(known, game)


@pytest.mark.parametrize("efficient", [True, False])
def test_every_table_is_listed_once(efficient: bool) -> None:
    """By brute force: four different numbers in the prisoner's order."""
    distribution = OrderedPayoffs(("DC", "CC", "DD", "CD"), 0, 6, efficient)
    listed = distribution.enumerate_all(most=300)
    assert listed is not None
    wanted = {
        (cc, cd, dc, dd)
        for cc, cd, dc, dd in permutations(range(7), 4)
        if dc > cc > dd > cd and (not efficient or 2 * cc > cd + dc)
    }
    assert {tuple(one[o] for o in ("CC", "CD", "DC", "DD")) for one in listed} == wanted
    assert len(listed) == len(wanted)
    drawn = {
        tuple(distribution.draw(seed)[o] for o in ("CC", "CD", "DC", "DD")) for seed in range(400)
    }
    assert drawn <= wanted
    assert distribution.enumerate_all(most=len(wanted) - 1) is None
    assert OrderedPayoffs(distribution.order, 0, 10**6, efficient).enumerate_all(most=300) is None


@pytest.mark.parametrize("script", ["tit_for_tat", "random", "generous_tit_for_tat", None])
def test_reference_values_are_the_mean_of_all_tables(script: str | None) -> None:
    """Each table by itself, as a game whose payoffs are fixed; the opponent's own in each."""
    game = dealing(low=0, high=5)
    reward = build("reward", "utilitarian", REWARDS)
    against = None if script is None else facing(script)
    found = mean_reference_policies(game, [(0, "utilitarian", reward)], against)
    tables, every = game.tables(300)
    assert every and found["payoff_tables"] == {"count": len(tables), "all": True}
    ones = [
        reference_policies(table, [(0, "utilitarian", reward)], against and against(table))
        for table in tables
    ]
    for null, row in found["payoff_blind"].items():
        for key in ("reward", "normalized"):
            wanted = np.mean([one["payoff_blind"][null][key][0] for one in ones])
            assert row[key][0] == pytest.approx(wanted)
    if against is not None:
        best = [optimum(table, reward, against(table), 0.0) for table in tables]
        for state, share in found["optimal_policies"][0]["0"].items():
            assert share == pytest.approx(np.mean([one[state] for one in best]))


def test_many_tables_are_sampled_and_that_is_said() -> None:
    reward = build("reward", "own", REWARDS)
    found = mean_reference_policies(dealing(high=60), [(0, "own", reward)], facing("always_defect"))
    assert found["payoff_tables"] == {"count": 300, "all": False}
    assert found["optimal_policies"][0]["0"] == {"CC": 0.0, "CD": 0.0, "DC": 0.0, "DD": 0.0}


def test_a_share_is_one_of_its_own_tables_range() -> None:
    game, reward = dealing(), build("reward", "own", REWARDS)
    seeds = [3, 8]
    played = PlayedMatches.from_histories(
        [
            game.sample_instance(seed)
            .step(game.sample_instance(seed).start(seed), {0: 1, 1: 0})
            .history
            for seed in seeds
        ]
    )
    rewards = reward(played, game)
    shares = reward_shares(reward, game, seeds, rewards)
    assert shares is not None
    for match, seed in enumerate(seeds):
        low, high = reward_table(reward, game.sample_instance(seed)).range
        assert (low, high) == (-6.0, rewards[match, 0, 0]), "the temptation is the most"
        assert shares[match, 0, 0] == 1.0
        assert shares[match, 1, 0] == pytest.approx((rewards[match, 1, 0] + 6) / (high + 6))
    goods = make_game({"name": "public_goods"})
    assert reward_shares(reward, goods, seeds, rewards) is None


@pytest.mark.parametrize("version", ["", "as-executed/"])
def test_a_moral_preset_shows_null_rows_shares_and_optima(version: str, tmp_path: Path) -> None:
    """The corrected one draws its payoffs; the share of every decision is in the records."""
    shrunk = [
        "model.quantization=null",
        "adapter.targets=all-linear",
        "adapter.dropout=0",
        "checkpoint.every=1",
    ]
    options = [*overrides(tmp_path, *shrunk), "iterations=2", "matches=4", "game.length.rounds=2"]
    train(compose(f"moral/{version}deontological-vs-tit-for-tat", options))
    run = only_folder(tmp_path)
    found = summarize(collect([run]))["moral"]
    (one,) = found.values()
    assert set(one["payoff_blind"]) == {"always_cooperate", "always_defect", "reciprocate"}
    assert set(one["optimal_policies"][0]["0"]) == {"CC", "CD", "DC", "DD"}
    assert one["payoff_tables"] == ({"count": 160, "all": True} if not version else None)
    rows = [d for d in decisions(run) if d.controller == "live" and d.iteration == 1]
    shares = [d.normalized_reward for d in rows]
    assert np.isfinite(shares).all()
    assert one["normalized"][-1]["mean"] == pytest.approx(np.mean(shares), abs=1e-5)
    assert one["regret"][-1]["mean"] == pytest.approx(1 - np.mean(shares), abs=1e-5)
    page = (run / "report.html").read_text()
    assert ("mean over all 160 payoff tables" in page) == (not version)


def test_runs_before_the_column_can_still_be_shown(tmp_path: Path) -> None:
    """Fixed payoffs need it not; without it drawn ones have no normalized reward."""
    train(
        small(tmp_path, "iterations=1", "seats=[learner,tit_for_tat]", "game.initial_state=uniform")
    )
    run = only_folder(tmp_path)
    (one,) = summarize(collect([run]))["moral"].values()
    rows = [d for d in decisions(run) if d.controller == "live"]
    assert one["normalized"][0]["mean"] == pytest.approx(
        np.mean([d.normalized_reward for d in rows]), abs=1e-5
    )
