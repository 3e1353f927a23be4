"""The summary of a population: its parts, what it says without intervals, and bad folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from comity.errors import ComityError
from comity.evaluation.population.comparison import compare, majority
from comity.evaluation.population.folder import character, open_population, payoffs_between
from comity.evaluation.population.summary import summarize, summary
from comity.populations.records import RecordWriter, write_agents
from comity.populations.settings import PopulationSettings
from comity.populations.train import build_population
from tests.evaluation.population import synthetic

CONDITIONS = ("selection", "random_matching", "random_selection")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("population")
    return synthetic.population(root / "p", episodes=30, runs=3, statistics=True)


@pytest.fixture(scope="module")
def found(folder: Path) -> Any:
    return summarize(folder, windows=[(4, 9)])


def test_the_summary_on_disk_is_what_is_returned(folder: Path, found: Any) -> None:
    assert json.loads((folder / "summary.json").read_text()) == json.loads(json.dumps(found))
    assert found["kind"] == "population"
    assert list(found["conditions"]) == list(CONDITIONS)
    assert [w["key"] for w in found["windows"]][:3] == ["last", "first", "all"]
    assert found["windows"][-1] == {
        "key": "from_4_to_9", "label": "episodes 4 to 9", "first": 4, "last": 9,
    }  # fmt: skip


def test_every_curve_has_an_interval_and_stands_beside_both_controls(found: Any) -> None:
    bins = len(found["bins"]["ends"])
    for condition in CONDITIONS:
        whole = found["curves"][condition]["population"]["all"]
        for curve in whole.values():
            assert [len(curve[key]) for key in ("mean", "low", "high")] == [bins] * 3
        assert all(value is not None for value in whole["cooperation"]["low"])
        assert set(found["curves"][condition]["types"]) == {"S", "UT", "AD"}
        assert set(found["curves"][condition]["agents"]) == set("0123")
    runs = found["curves"]["selection"]["population"]["all"]["cooperation"]["runs"]
    mean = found["curves"]["selection"]["population"]["all"]["cooperation"]["mean"]
    np.testing.assert_allclose(np.mean(runs, axis=0), mean, atol=1e-3)


def test_totals_agree_with_the_curves(found: Any) -> None:
    """Every type plays: games of all agents are twice the games of the population."""
    totals = found["totals"]["selection"]["all"]
    games = sum(one["games_per_episode"]["mean"] for one in totals["agents"].values())
    assert games == pytest.approx(2 * 4)
    chosen = sum(one["chosen_per_episode"]["mean"] for one in totals["agents"].values())
    assert chosen == pytest.approx(4)
    collective = totals["population"]["all"]["collective"]["mean"]
    payoff = totals["population"]["all"]["payoff_per_game"]["mean"]
    assert collective == pytest.approx(2 * payoff)
    end = found["curves"]["selection"]["types"]["S"]["cumulative_payoff"]["mean"][-1]
    assert end == pytest.approx(totals["types"]["S"]["payoff_per_episode"]["mean"] * 30, rel=1e-4)


def test_a_constant_strategy_is_exact_and_has_no_interval(found: Any) -> None:
    e = found["totals"]["selection"]["last"]["types"]["AD"]["cooperation"]
    assert (e["mean"], e["low"], e["high"]) == (0.0, None, None)
    assert e["reason"].startswith("exact")
    cells = found["interactions"]["selection"]["last"]["cooperation"]
    assert cells["low"][2] == [None, None, None]
    assert cells["low"][1][0] is not None


def test_matrices_of_uniform_choices(found: Any) -> None:
    """Two S among four agents: each type's chance counts its candidates, itself left out."""
    third = pytest.approx(1 / 3, abs=1e-5)
    both = pytest.approx(2 / 3, abs=1e-5)
    assert found["chance_types"] == [[third] * 3, [both, 0, third], [both, third, 0]]
    for window in found["windows"]:
        matrix = found["selections"]["selection"][window["key"]]["agents"]["mean"]
        assert all(row[i] == 0 for i, row in enumerate(matrix))


def test_the_headline_has_numbers_with_intervals_and_no_verdict(found: Any) -> None:
    head = found["headline"]
    assert head["window"] == "last 15 episodes"
    difference = head["differences"]["above_chance"]
    rows = head["rows"]
    gap = (
        rows["cooperative_selection"]["selection"]["mean"]
        - rows["chance_selection"]["selection"]["mean"]
    )
    assert difference["mean"] == pytest.approx(gap, abs=1e-5)
    assert difference["low"] < difference["mean"] < difference["high"]
    assert set(head["selfish"]) == {"selfish", "prosocial", "fixed", "prosocial_minus_selfish"}


def test_one_run_has_no_intervals_and_says_why(tmp_path: Path) -> None:
    found = summarize(synthetic.population(tmp_path / "p", runs=1, episodes=12, planned=40))
    e = found["headline"]["rows"]["cooperation"]["selection"]
    assert e["low"] is None
    assert e["reason"] == "one run: nothing shows how far another would be from it"
    assert any(note.startswith("One run:") for note in found["notes"])
    assert "12 of 40 episodes are recorded." in found["notes"]
    curve = found["curves"]["selection"]["population"]["all"]["cooperation"]
    assert set(curve["low"]) == {None}


def test_missing_controls_are_said_to_be_missing(tmp_path: Path) -> None:
    folder = synthetic.population(tmp_path / "p", episodes=6, conditions=("selection",))
    (note,) = [n for n in summarize(folder)["notes"] if n.startswith("Not recorded")]
    assert "random matching and random selection" in note


def test_a_pair_has_relative_payoffs_end_moves_and_q_values(tmp_path: Path) -> None:
    folder = synthetic.population(
        tmp_path / "p", ("UT", "AD"), episodes=10, conditions=("fixed",), q_values=True
    )
    found = summarize(folder)
    own, other = (
        found["curves"]["fixed"]["types"][name]["cumulative_payoff"]["mean"]
        for name in ("UT", "AD")
    )
    (relative,) = found["relative"]["fixed"]
    np.testing.assert_allclose(
        relative["relative_payoff"]["mean"], np.subtract(own, other), rtol=1e-4
    )
    for end in ("first", "last"):
        shares = found["end_moves"]["fixed"][end]
        assert sum(one["mean"] for one in shares.values()) == pytest.approx(1.0)
        assert shares["CC"]["mean"] == shares["DC"]["mean"] == 0, "the second always defects"
    assert found["q_values"]["episodes"] == list(range(10))
    assert set(found["q_values"]["agents"]["0"]) == set("0123")
    assert "selections" not in found or not found["selections"]
    assert "chance_selection" not in found["totals"]["fixed"]["all"]["population"]["all"]


def test_a_trained_population_is_summarized(tmp_path: Path) -> None:
    """Records of the engine itself, with numbers counted from its arrays."""
    setting = PopulationSettings(composition="1xUT_1xS_1xTFT", iterations=6, runs=2)
    population = build_population(setting)
    writer = RecordWriter(tmp_path, setting.numbers)
    write_agents(tmp_path, population.about())
    payoff = np.zeros(3)
    cooperated, moves = 0, 0

    def tally(games: Any) -> None:
        nonlocal cooperated, moves
        one = games["selection"]
        for side in ("selector", "selected"):
            np.add.at(payoff, getattr(one, side), getattr(one, f"{side}_payoff"))
            cooperated += int((getattr(one, f"{side}_intended") == 0).sum())
            moves += getattr(one, f"{side}_intended").size

    population.run(on_episode=tally, writer=writer)
    writer.flush()
    found = summarize(tmp_path)
    assert list(found["conditions"]) == list(CONDITIONS)
    totals = found["totals"]["selection"]["all"]
    means = [totals["agents"][str(i)]["payoff_per_episode"]["mean"] * 12 for i in range(3)]
    np.testing.assert_allclose(means, payoff, rtol=1e-4)
    rate = totals["population"]["all"]["cooperation"]["mean"]
    assert rate == pytest.approx(cooperated / moves, rel=1e-5)
    assert found["game"]["payoffs"][0][1] == [0.0, 4.0]
    assert found["update_statistics"]["loss"]["types"].keys() == {"UT", "S"}


def test_types_of_different_kinds_are_told_apart(tmp_path: Path) -> None:
    folder = synthetic.population(tmp_path / "p", ("UT", "UT", "S"), episodes=4)
    about = json.loads((folder / "agents.json").read_text())
    about["agents"][1] |= {"kind": "language_model", "label": "LLM:UT 0"}
    (folder / "agents.json").write_text(json.dumps(about))
    assert open_population(folder).types == ("UT", "LLM:UT", "S")
    kinds = [character(name) for name in ("LLM:UT", "S", "mDE", "TFT", "utilitarian", "LLM:run:x")]
    assert kinds == ["prosocial", "selfish", "antisocial", "fixed", "prosocial", "other"]


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ComityError, match=r"no population: it has no agents\.json"):
        open_population(tmp_path)
    (tmp_path / "agents.json").write_bytes((folder / "agents.json").read_bytes())
    with pytest.raises(ComityError, match="has no games yet"):
        open_population(tmp_path)
    part = tmp_path / "games" / "selection" / "part-000000.parquet"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"PAR1 is not enough")
    with pytest.raises(ComityError, match="cannot be read as games"):
        open_population(tmp_path)
    for damaged in ('[{"index": 1e999}]', "[" * 10**5):
        (tmp_path / "agents.json").write_text(damaged)
        with pytest.raises(ComityError, match=r"cannot be read|is damaged"):
            open_population(tmp_path)
    (tmp_path / "agents.json").write_text('{"agents": [{"index": 0}]}')
    with pytest.raises(ComityError, match="cannot be read"):
        open_population(tmp_path)


# Several populations


@pytest.fixture(scope="module")
def majorities(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    root = tmp_path_factory.mktemp("majorities")
    kinds = ("S", "UT", "aUT")
    made = []
    for kind in kinds:
        composition = [kind] * 3 + [other for other in kinds if other != kind]
        path = synthetic.population(root / kind, composition, episodes=12, runs=3)
        made.append(summary(open_population(path)))
    return made


def replace_runs(found: Any, runs: int) -> Any:
    """The summary as if only these runs had been made."""
    return {**found, "runs": found["runs"][:runs]}


def test_the_selfish_learner_in_every_majority(majorities: list[Any]) -> None:
    found = compare(majorities, ["a", "b", "c"])
    assert [one["majority"] for one in found["populations"]] == ["S", "UT", "aUT"]
    names = [one["name"].replace("\u00a0", " ") for one in found["populations"]]
    assert names[0] == "majority S (3 of 5)"
    rows = found["selfish"]["rows"]
    assert [(row["count"], row["character"]) for row in rows] == [
        (3, "selfish"), (1, "prosocial"), (1, "antisocial"),
    ]  # fmt: skip
    differences = {
        (one["key"], one["condition"], one["metric"]): one
        for one in found["selfish"]["differences"]
    }
    # Two runs are enough for an interval, not for one beyond what the game can pay.
    two = [replace_runs(one, 2) for one in majorities]
    for one in (*differences.values(), *compare(two, ["a", "b", "c"])["selfish"]["differences"]):
        if one["metric"] == "payoff_per_game" and one["low"] is not None:
            low, high = payoffs_between(majorities[0]["game"])  # type: ignore[misc]
            assert low - high <= one["low"] < one["high"] <= high - low
    for condition in CONDITIONS:
        one = differences["prosocial", condition, "payoff_per_game"]
        runs = [
            majorities[place]["totals"][condition]["last"]["types"]["S"]["payoff_per_game"][
                "by_run"
            ]
            for place in (0, 1)
        ]
        assert one["mean"] == pytest.approx(np.mean(runs[1]) - np.mean(runs[0]), rel=1e-4)
        assert one["units"] == 3
    cell = found["types"][1]["selection"]["S"]["payoff_per_game"]
    assert cell["mean"] == rows[1]["conditions"]["selection"]["payoff_per_game"]["mean"]


def test_no_differences_without_one_selfish_majority(majorities: list[Any]) -> None:
    assert compare(majorities[1:], ["b", "c"])["selfish"]["differences"] == []
    assert majority({"types": [{"name": "S", "count": 2}, {"name": "UT", "count": 2}]}) is None


def test_one_composition_is_called_by_what_was_set(majorities: list[Any]) -> None:
    """Also where only some were given a setting; a folder's name where nothing tells them apart."""

    def names(*populations: tuple[int, dict[str, Any], list[str]]) -> list[str]:
        made = [
            {**majorities[place], "config": {**config, "composition": {"overrides": overrides}}}
            for place, config, overrides in populations
        ]
        found = compare(made, [f"folder-{place}" for place in range(len(made))])
        return [one["name"] for one in found["populations"]]

    plain: dict[str, Any] = {"game": {"name": "dilemma"}, "deep_q": {"epsilon": 0.05}, "seed": 1}
    same = ["agents=3xS", "iterations=9", "checkpoint.every=3"]
    assert names((0, plain, same), (0, plain, [*same, "game=chicken", "checkpoint.every=4"])) == [
        "game=dilemma",
        "game=chicken",
    ]
    epsilon = [*same, "game=chicken", "deep_q.epsilon=0.2"]
    assert names((0, plain, [*same, "+seed=2"]), (0, plain, epsilon)) == [
        "seed=2 game=dilemma deep_q.epsilon=0.05",
        "seed=1 game=chicken deep_q.epsilon=0.2",
    ]
    games = [same, [*same, "game=chicken"]]
    labels = names(*((place, plain, one) for place in (0, 1) for one in games))
    assert labels[3] == "3xUT_1xS_1xaUT, game=chicken" and len(set(labels)) == 4
    assert names((0, plain, same), (0, plain, same)) == ["folder-0", "folder-1"]
    assert names((0, {}, []), (0, {}, [])) == ["folder-0", "folder-1"]


def test_random_matching_is_one_condition_of_a_comparison(
    majorities: list[Any], tmp_path: Path
) -> None:
    """As a control of one population and as the whole of another."""
    path = synthetic.population(tmp_path, ["S", "UT"], 6, 2, conditions=("random",))
    alone = summary(open_population(path))
    found = compare([majorities[0], alone], ["a", "b"])
    assert list(found["conditions"]) == list(CONDITIONS)
    assert [one["main"] for one in found["populations"]] == ["selection", "random_matching"]
    cooperation = alone["totals"]["random"]["last"]["population"]["all"]["cooperation"]["mean"]
    assert found["whole"][1]["random_matching"]["cooperation"]["mean"] == cooperation
    rows = found["selfish"]["rows"]
    assert list(rows[1]["conditions"]) == ["random_matching"] == [rows[1]["main"]]
    both = compare([alone, alone], ["a", "b"])
    assert list(both["conditions"]) == ["random"], "no control to share a name with"


def test_pairs_make_a_matrix_of_types(tmp_path: Path) -> None:
    made = [
        summary(open_population(synthetic.population(
            tmp_path / "".join(pair), pair, episodes=6, conditions=("fixed",)
        )))
        for pair in (("S", "S"), ("S", "UT"))
    ]  # fmt: skip
    found = compare(made, ["x", "y"])
    assert [one["name"] for one in found["populations"]] == ["S and S", "S and UT"]
    assert {row: set(columns) for row, columns in found["pairs"].items()} == {
        "S": {"S", "UT"}, "UT": {"S"},
    }  # fmt: skip
    payoff = found["pairs"]["S"]["UT"]["payoff_per_game"]["mean"]
    assert payoff == made[1]["totals"]["fixed"]["last"]["types"]["S"]["payoff_per_game"]["mean"]


def test_a_comparison_needs_two_populations(majorities: list[Any]) -> None:
    with pytest.raises(ComityError, match="at least two"):
        compare(majorities[:1], ["a"])
    with pytest.raises(ComityError, match="summaries of populations"):
        compare([majorities[0], {"kind": "tournament"}], ["a", "b"])


def test_intervals_of_update_statistics_stay_within_what_is_possible(tmp_path: Path) -> None:
    folder = synthetic.population(tmp_path / "p", ("UT", "UT", "S"), episodes=4)
    (folder / "statistics").mkdir(exist_ok=True)
    near = {
        "p_cooperate_given_cooperate": [0.9, 1.0, 0.999],
        "selection_entropy": [0.0, 0.001, 0.1],
        "loss": [-0.1, 0.0, 0.02],
    }
    rows = [
        {
            "condition": "selection",
            "run": run,
            "episode": 3,
            "agent": 0,
            "name": name,
            "value": value,
        }
        for name, values in near.items()
        for run, value in enumerate(values)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "statistics" / "part-000000.parquet")
    found = {
        name: one["types"]["UT"] for name, one in summarize(folder)["update_statistics"].items()
    }
    p, entropy, loss = (found[name] for name in near)
    assert p["low"][0] < 0.9 < p["mean"][0] < p["high"][0] <= 1.0
    assert entropy["low"][0] == 0.0 < entropy["mean"][0] < entropy["high"][0]
    assert loss["low"][0] < loss["mean"][0] < 0 < loss["high"][0]
