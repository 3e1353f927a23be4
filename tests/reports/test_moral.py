"""Action types, normalized rewards and several studies, counted again in plain Python."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from comity.evaluation.moral.metrics import ACTION_TYPES
from comity.reports import build
from comity.reports.loading.folders import collect
from comity.reports.summary.summary import summarize
from comity.train import train
from tests.reports import synthetic
from tests.train.small import only_folder, small

REFERENCE_POLICIES = {
    "phases": [
        {"first": 0, "reward": "own", "low": -6.0, "high": 5.0},
        {"first": 2, "reward": "utilitarian", "low": -6.0, "high": 10.0},
    ],
    "opponent": "itself",
    "payoff_blind": {
        "always_cooperate": {
            "action_types": {"C|C": 1.0, "C|D": 0.0, "D|C": 0.0, "D|D": 0.0, "illegal": 0.0},
            "cooperation": 1.0,
            "reward": [3.0, 6.0],
            "normalized": [9 / 11, 12 / 16],
        }
    },
    "optimal_policies": [{"0": {"CC": 0.0, "CD": 0.5, "DC": 1.0, "DD": 0.0}}, {}],
}


def measured(path: Path, name: str = "own") -> Path:
    run = synthetic.run(path, name)
    (run / "reference_policies.json").write_text(json.dumps(REFERENCE_POLICIES))
    return run


def test_action_types_are_shares_of_what_was_shown(tmp_path: Path) -> None:
    run = measured(tmp_path / "run")
    found = summarize(collect([run]))["moral"]["ipd"]
    for place, iteration in enumerate(found["iteration"]):
        rows = pq.read_table(run / "decisions" / f"{iteration:06d}.parquet").to_pylist()
        rows = [row for row in rows if row["state"]]
        for kind in ACTION_TYPES:
            mine = [
                row
                for row in rows
                if (kind == "illegal" and row["move"] < 0)
                or (row["move"] >= 0 and f"{'CD'[row['move']]}|{'CD'[row['state'][1]]}" == kind)
            ]
            assert found["action_types"][kind][place] == pytest.approx(
                len(mine) / len(rows), abs=1e-5
            )
        assert found["action_types_per_seed"]["0"] == found["action_types"], "there is one seed"


def test_the_normalized_reward_is_a_share_of_the_phases_range(tmp_path: Path) -> None:
    found = summarize(collect([measured(tmp_path / "run")]))["moral"]["ipd"]
    for place, iteration in enumerate(found["iteration"]):
        low, span = (-6.0, 11.0) if iteration < 2 else (-6.0, 16.0)
        mean = found["reward"][place]["mean"]
        assert found["normalized"][place]["mean"] == pytest.approx((mean - low) / span, abs=1e-5)
        one, rest = found["normalized"][place], found["regret"][place]
        assert rest["mean"] == pytest.approx(1 - one["mean"], abs=1e-5)
        assert rest["low"] == pytest.approx(1 - one["high"], abs=1e-5)
        assert rest["n"] == one["n"]


def test_perfect_and_worst_play_are_the_ends_of_the_regret(tmp_path: Path) -> None:
    """Everybody always gets 5, or -6 (an illegal answer): the regret is 0, or 1."""
    for worth, regret in ((5.0, 0.0), (-6.0, 1.0)):
        run = measured(tmp_path / f"run{worth}")
        for path in (run / "decisions").glob("*.parquet"):
            table = pq.read_table(path)
            column = table.schema.get_field_index("reward")
            values = [worth] * len(table)
            table = table.set_column(column, "reward", [values])
            pq.write_table(table, path)
        found = summarize(collect([run]))["moral"]["ipd"]
        assert found["regret"][0]["mean"] == pytest.approx(regret)


def test_without_yardsticks_there_are_no_normalized_rewards(tmp_path: Path) -> None:
    found = summarize(collect([synthetic.run(tmp_path / "run")]))["moral"]["ipd"]
    assert "normalized" not in found
    assert found["payoff_blind"] == {}
    assert sum(shares[0] for shares in found["action_types"].values()) == pytest.approx(1, abs=1e-5)


def test_the_page_shows_null_policies_and_optima(tmp_path: Path) -> None:
    page, _ = build([measured(tmp_path / "run")])
    text = page.read_text()
    assert "Payoff-blind baselines in self-play" in text
    assert "always C" in text
    assert "own, discount 0" in text


def test_optima_of_several_studies_stand_side_by_side(tmp_path: Path) -> None:
    """The same reward against another opponent has another optimum; an equal one has one row."""
    texts = {}
    for others in (
        {"CC": 1.0, "CD": 0.0, "DC": 1.0, "DD": 1.0},
        REFERENCE_POLICIES["optimal_policies"][0]["0"],
    ):
        runs = [
            measured(tmp_path / f"{len(texts)}-{name}", name) for name in ("own", "utilitarian")
        ]
        changed = {**REFERENCE_POLICIES, "optimal_policies": [{"0": others}, {}]}
        (runs[1] / "reference_policies.json").write_text(json.dumps(changed))
        texts[len(texts)] = build(runs)[0].read_text()
    assert texts[0].count('<th scope="row">own, discount 0 (ipd (') == 2
    assert texts[1].count('<th scope="row">own, discount 0</th>') == 1


def test_several_studies_are_told_apart_by_what_was_overridden(tmp_path: Path) -> None:
    folders = []
    for opponent in ("random", "tit-for-tat"):
        folder = synthetic.study(tmp_path / opponent, seeds=(0,), iterations=1)
        for path in (folder / "crossplay").iterdir():
            path.unlink()
        overrides = f"[iterations=1, moral/opponent={opponent}]"
        (folder / "config.yaml").write_text(
            f"name: study\ncomposition: {{name: study, overrides: {overrides}}}\n"
        )
        folders.append(folder)
    inputs = collect(folders)
    assert inputs.policies == (
        "own (random)",
        "utilitarian (random)",
        "own (tit-for-tat)",
        "utilitarian (tit-for-tat)",
    )
    studies = {name: one["study"] for name, one in summarize(inputs)["moral"].items()}
    assert studies["own (random)"] == "random"
    assert studies["own (tit-for-tat)"] == "tit-for-tat"
    assert collect(folders[:1]).policies == ("own", "utilitarian")
    for folder in folders:
        (folder / "config.yaml").write_text("name: study\n")
    assert collect(folders).policies[0] == "own (random)", "then by the folder's name"


def test_runs_that_are_told_apart_in_parentheses_stay_on_one_chart(tmp_path: Path) -> None:
    """They are no studies: "ipd (reward=own)" is compared with "ipd (reward=utilitarian)"."""
    runs = [synthetic.run(tmp_path / name, name) for name in ("own", "utilitarian")]
    moral = summarize(collect(runs))["moral"]
    assert set(moral) == {"ipd (reward=own)", "ipd (reward=utilitarian)"}
    assert {one["study"] for one in moral.values()} == {""}


def test_a_learner_is_held_against_its_own_seat(tmp_path: Path) -> None:
    """Bach or Stravinsky: always the first move pays 3 to the first seat and 2 to the second."""
    seats = ["game=bach_or_stravinsky", "seats=[learner:one,learner:two]", "iterations=1"]
    train(small(tmp_path / "two", *seats))
    moral = summarize(collect([only_folder(tmp_path / "two")]))["moral"]
    rewards = {
        name: one["payoff_blind"]["always_cooperate"]["reward"] for name, one in moral.items()
    }
    assert rewards == {"ipd:one": [3.0], "ipd:two": [2.0]}
    train(small(tmp_path / "same", *seats[1:]))
    found = json.loads((only_folder(tmp_path / "same") / "reference_policies.json").read_text())
    assert "by_seat" not in found, "both see the same game"


def test_no_interval_reaches_below_what_scored_answers_can_earn(tmp_path: Path) -> None:
    """The range of a reward begins at its penalty for illegal answers, of which there are none."""
    run = synthetic.run(tmp_path / "run", hostile=False)
    phase = {"first": 0, "reward": "own", "low": -6.0, "high": 5.0, "legal_low": 0.0}
    tables = {"legal_share_low": 6 / 11}
    for more in ({"payoff_tables": None}, {"payoff_tables": {"count": 2, "all": True}}):
        held = {**REFERENCE_POLICIES, **more, "phases": [{**phase, **tables}]}
        (run / "reference_policies.json").write_text(json.dumps(held))
        found = summarize(collect([run]))["moral"]["ipd"]
        assert all(one["low"] >= 0.0 for one in found["reward"])
        assert all(one["low"] >= 0.545 for one in found.get("normalized", []) if one)
