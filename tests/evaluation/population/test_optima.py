"""Exact optima of fixed pairs, beside brute force, long play and values known by hand."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from comity.evaluation.population.comparison import compare
from comity.evaluation.population.optima import averages, best_response, optimum
from comity.evaluation.population.summary import summarize
from comity.populations.composition import parse
from comity.populations.payoffs import GameTables
from comity.populations.records import RecordWriter, write_agents
from comity.populations.settings import DeepQ, PopulationSettings, dyad
from comity.populations.train import build_population
from comity.populations.types import type_reward

TABLES = arrays(np.float64, (4, 4), elements=st.floats(-10, 10, width=16))
CHANCES = arrays(np.float64, (4,), elements=st.sampled_from([0.0, 0.05, 0.3, 0.5, 1.0]))
CC, CD, DC, DD = range(4)
DETERMINISTIC = np.array(list(product((0.0, 1.0), repeat=4)))
TFT = np.array([1.0, 0.0, 1.0, 0.0])
"""P(C) of tit-for-tat by joint move, its own first."""


def table_of(kind: str, seat: int = 0) -> np.ndarray:
    """Rewards of a type in the dilemma of the pairs, `[4, 4]`."""
    game = dyad("1xS_1xS").game
    tables = GameTables(game, [type_reward(kind, game)])
    return tables.rewards[0, seat, :, :, :2, :2].reshape(4, 4)


def played(rewards: np.ndarray, own: np.ndarray, other: np.ndarray, start: int) -> float:
    """The average over 2^24 episodes, from the probabilities of all joint moves in each."""
    step = np.zeros((4, 4))
    for state, (a, b) in product(range(4), product(range(2), repeat=2)):
        # P(C) is the chance of move 0, and 1 - P(C) that of move 1.
        step[state, 2 * a + b] = abs(a - own[state]) * abs(b - other[state])
    total, doublings = (step * rewards).sum(axis=1), 24
    for _ in range(doublings):  # 2 n episodes are n, and n from where these end.
        total = total + step @ total
        step = step @ step
    return float(total[start] / 2**doublings)


@settings(max_examples=15, deadline=None)
@given(TABLES, CHANCES, CHANCES, st.integers(0, 3))
def test_an_average_is_that_of_long_play(
    rewards: np.ndarray, own: np.ndarray, other: np.ndarray, start: int
) -> None:
    found = averages(rewards, own, other, np.array(start))
    assert found == pytest.approx(played(rewards, own, other, start), abs=1e-3)


@settings(max_examples=15, deadline=None)
@given(TABLES)
def test_the_optimum_is_the_best_of_all_pairs_of_policies(rewards: np.ndarray) -> None:
    starts = np.arange(4)
    every = averages(rewards, DETERMINISTIC[:, None, None], DETERMINISTIC[None, :, None], starts)
    np.testing.assert_allclose(every.max(axis=(0, 1)), optimum(rewards), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(TABLES, CHANCES, CHANCES, st.integers(0, 3))
def test_nothing_beats_the_best_response_nor_that_the_optimum(
    rewards: np.ndarray, own: np.ndarray, other: np.ndarray, start: int
) -> None:
    begin = np.array([start])
    best = best_response(rewards, other[None], begin)[0]
    assert averages(rewards, own[None], other[None], begin)[0] <= best + 1e-9
    assert best <= optimum(rewards) + 1e-9


@pytest.mark.parametrize(
    ("kind", "most", "to_cooperators", "to_defectors", "to_tft"),
    [
        # CC 3, 3; CD 1, 4; DD 2, 2: exploiting pays once, and tit-for-tat answers.
        ("S", 4, 4, 2, 3),
        ("UT", 6, 6, 5, 6),
        ("aUT", -4, -5, -4, -4),
        # Cooperating with somebody who cooperated violates no duty.
        ("DE", 0, 0, 0, 0),
        ("VEe", 1, 1, 1, 1),
        ("VEk", 5, 5, 5, 5),
        # Betraying a cooperator pays 5; tit-for-tat has to be won over again every time.
        ("mDE", 5, 5, 0, 2.5),
    ],
)
def test_values_of_the_dilemma_are_those_of_a_pencil(
    kind: str, most: float, to_cooperators: float, to_defectors: float, to_tft: float
) -> None:
    rewards = table_of(kind)
    start = np.array([CC])
    assert optimum(rewards) == pytest.approx(most)
    for other, value in ((np.ones(4), to_cooperators), (np.zeros(4), to_defectors)):
        assert best_response(rewards, other[None], start)[0] == pytest.approx(value)
    # In the view of the player tit-for-tat copies the first move of a state, not the second.
    other = TFT.reshape(2, 2).T.reshape(1, 4)
    assert best_response(rewards, other, start)[0] == pytest.approx(to_tft)


def test_where_a_grudge_holds_the_start_decides() -> None:
    grudge = np.array([[1.0, 0.0, 0.0, 0.0]])
    found = [best_response(table_of("S"), grudge, np.array([s]))[0] for s in (CC, CD, DC, DD)]
    assert found == pytest.approx([3, 2, 2, 2])


def trained(folder: Path, setting: PopulationSettings, every: int = 1000) -> Any:
    """A trained pair with its records; returns the summary and the population."""
    population = build_population(setting)
    folder.mkdir()
    write_agents(folder, population.about())
    writer = RecordWriter(folder, setting.numbers)
    population.run(writer=writer, statistics_every=every)
    writer.flush()
    return summarize(folder), population


@pytest.mark.parametrize("learner", ["S", "UT"])
def test_either_seat_of_a_pair_has_the_same_values(tmp_path: Path, learner: str) -> None:
    """Streams are named by agent, so that both orders play the same games, turned around."""
    one, _ = trained(tmp_path / "one", dyad(f"1x{learner}_1xTFT", iterations=300, runs=3))
    two, _ = trained(tmp_path / "two", dyad(f"1xTFT_1x{learner}", iterations=300, runs=3))
    assert one["optima"]["agents"]["0"] == two["optima"]["agents"]["1"]
    assert one["optima"]["types"][learner] == one["optima"]["agents"]["0"]
    assert one["optima"]["episode"] == 299 and "TFT" not in one["optima"]["types"]


@pytest.mark.parametrize(
    "setting",
    [
        dyad("1xS_1xUT", iterations=40, runs=2),
        dyad("1xS_1xUT", iterations=40, runs=2, state="partner"),
        dyad("1xdqn:S_1xUT", iterations=40, runs=2, state="identity"),
        dyad("1xS_1xUT", iterations=9, runs=2, learner="dqn", deep_q=DeepQ(decay_games=40)),
    ],
)
def test_policies_are_those_that_play(tmp_path: Path, setting: PopulationSettings) -> None:
    """The learned average is that of policies read from the groups by hand, state by state."""
    found, population = trained(tmp_path / "p", setting)
    condition = population.conditions["fixed"]
    latest = condition.environment.board.latest
    names = population.about()["states"]
    chances = np.empty((2, setting.runs, 2, 2))  # agent, run, own, other
    for group in condition.groups.values():
        values = group.q_values()
        for place, agent in enumerate(group.agents.tolist()):
            for run, own, other in product(range(setting.runs), range(2), range(2)):
                label = population.composition.labels[1 - agent]
                state = {
                    "pair": "CD"[other] + "CD"[own],
                    "partner": "CD"[other],
                    "identity": f"{'CD'[other]} {label}",
                }[setting.state]
                first, second = values[run, place, names.index(state)]
                tabular = group is condition.groups.get("tabular")
                epsilon = 0.0 if tabular else setting.deep_q.epsilon
                if not tabular and setting.deep_q.decay_games:
                    epsilon = 1 - 0.95 * 8 * 2 / 40
                unknown = tabular and first == second == 0
                greedy = 0.5 if unknown else float(first >= second)
                chances[agent, run, own, other] = greedy * (1 - epsilon) + epsilon / 2
    for agent in (0, 1):
        kind = ("S", "UT")[agent]
        each = [
            averages(
                table_of(kind, agent),
                chances[agent, run].reshape(4),
                chances[1 - agent, run].T.reshape(4),
                np.array(2 * latest[run, agent] + latest[run, 1 - agent]),
            )
            for run in range(setting.runs)
        ]
        learned = found["optima"]["agents"][str(agent)]["learned"]["mean"]
        assert learned == pytest.approx(np.mean(each), abs=1e-4)


def test_populations_that_are_no_pair_have_none(tmp_path: Path) -> None:
    setting = PopulationSettings("1xS_1xUT_1xTFT", iterations=3, runs=1)
    found, population = trained(tmp_path / "p", setting)
    assert found["optima"] == {} and "optimum" not in found["metrics"]
    assert not (tmp_path / "p" / "policies").exists()
    assert "rewards" not in population.about()["agents"][0]


def test_what_needs_an_unknown_policy_is_missing(tmp_path: Path) -> None:
    """As in a pair with a language model: only the optimum is known."""
    setting = dyad("1xS_1xTFT", iterations=5, runs=2)
    population = build_population(setting)
    write_agents(tmp_path, population.about())
    writer = RecordWriter(tmp_path, setting.numbers)
    population.run(writer=writer)
    writer.flush()
    for part in (tmp_path / "policies").iterdir():
        part.unlink()
    found = summarize(tmp_path)["optima"]
    assert found["episode"] is None and set(found["agents"]["0"]) == {"optimum"}


def test_a_comparison_has_them_by_type_and_partner(tmp_path: Path) -> None:
    one, _ = trained(tmp_path / "one", dyad("1xS_1xS", iterations=300, runs=3))
    two, _ = trained(tmp_path / "two", dyad("1xS_1xTFT", iterations=300, runs=3))
    both = compare([one, two], ["one", "two"])
    assert both["pairs"]["S"]["TFT"]["optimum"]["mean"] == 4
    assert "optimum" not in both["pairs"]["TFT"]["S"]
    each = [one["optima"]["agents"][index]["learned"]["mean"] for index in "01"]
    assert both["pairs"]["S"]["S"]["learned"]["mean"] == pytest.approx(np.mean(each), rel=1e-5)
    assert both["metrics"]["below_optimum"]["unit"] == "reward per game"


def test_no_reward_of_the_study_has_a_better_cycle_than_a_single_cell() -> None:
    """What a page calls the optimum of a type is then the reward of one joint move, kept."""
    for kind in parse("1xS_1xUT_1xDE_1xVEe_1xVEk_1xVM").types:
        rewards = table_of(kind)
        assert optimum(rewards) == pytest.approx(max(rewards[s, s] for s in range(4)))
