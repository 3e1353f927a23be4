"""Populations in fixed pairs: a folder and a page for each, and one page together."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from comity.cli import main
from comity.commands.population import resume_population
from comity.config.population import load_population
from comity.errors import ComityError
from comity.experiments.populations import settings_of
from comity.populations.train import build_population
from tests.cli.populations import (
    SMALL,
    assert_same,
    games,
    trained,
)

pytestmark = pytest.mark.usefixtures("here")


def test_every_pair_has_a_folder_of_its_own(here: Path) -> None:
    words = ("1xS_1xUT_1xDE_1xTFT_1xS_1xUT", "population=dyad", *SMALL, "record.statistics_every=5")
    folder = trained(*words)
    pairs = folder / "pairs"
    assert {one.name for one in pairs.iterdir()} == {"S-UT", "DE-TFT", "S-UT-again-1"}
    about = json.loads((pairs / "DE-TFT" / "agents.json").read_text())
    assert about["composition"] == "1xDE_1xTFT"
    assert [agent["index"] for agent in about["agents"]] == [0, 1]
    assert [agent["kind"] for agent in about["agents"]] == ["tabular", "fixed"]

    settings = settings_of(load_population(folder / "config.yaml"))
    population = build_population(settings)
    at_five: np.ndarray | None = None
    found = {name.split("/")[1]: table.to_pydict() for name, table in games(folder).items()}
    assert {len(table["run"]) for table in found.values()} == {12 * 2}
    for episode in range(12):
        one = population.step()["fixed"]
        if episode == 5:
            group = population.conditions["fixed"].groups["tabular"]
            at_five = group.q_values().copy()  # type: ignore[attr-defined]
        for run in (0, 1):
            for place, name in enumerate(("S-UT", "DE-TFT", "S-UT-again-1")):
                (at,) = np.flatnonzero(one.selector[run] == 2 * place)
                row = 2 * episode + run
                table = found[name]
                assert (table["episode"][row], table["run"][row]) == (episode, run)
                assert (table["selector"][row], table["selected"][row]) == (0, 1)
                for column in ("selector_move", "selected_move", "selected_reward"):
                    assert table[column][row] == getattr(one, column)[run, at]
    tables = pa.concat_tables(
        [pq.read_table(path) for path in sorted((pairs / "DE-TFT/q_values").glob("*"))]
    ).to_pydict()
    assert {*tables["episode"]} == {0, 5, 10, 11} and {*tables["agent"]} == {0}
    assert about["states"] == ["CC", "CD", "DC", "DD"] and {*tables["state"]} == {0, 1, 2, 3}
    learner = population.composition.members.index("DE")
    values = [
        value
        for value, episode, run in zip(
            tables["value"], tables["episode"], tables["run"], strict=True
        )
        if episode == 5 and run == 1
    ]
    assert at_five is not None
    assert np.allclose(values, at_five[1, list(group.agents).index(learner)].reshape(-1))


def test_a_single_pair_is_its_own_folder(here: Path) -> None:
    folder = trained("dyad", "agents=1xS_1xUT", *SMALL)
    assert not (folder / "pairs").exists()
    assert (folder / "q_values").is_dir() and len(games(folder)["games/fixed"]) == 12 * 2


def test_pairs_go_on_as_well(here: Path) -> None:
    words = ("1xS_1xUT_1xDE_1xTFT", "population=dyad", *SMALL, "tabular.epsilon_last=null")
    folder = trained(*words)
    shorter = trained(*words, "iterations=8", "output=shorter")
    resume_population(shorter, 12)
    assert_same(folder, shorter)


def test_where_exploration_depends_on_the_length_it_is_fixed(here: Path) -> None:
    folder = trained("dyad", "agents=1xS_1xUT", *SMALL)
    with pytest.raises(ComityError, match="where exploration depends on their number"):
        resume_population(folder, 24)


def test_the_dyads_have_a_page_each_and_one_together(here: Path) -> None:
    words = ["1xS_1xUT_1xDE_1xTFT", "population=dyad", "iterations=6", "runs=2"]
    assert main(["population", *words]) == 0
    (folder,) = (here / "populations").iterdir()
    pages = {path.relative_to(folder).as_posix() for path in folder.rglob("report.html")}
    assert pages == {"report.html", "pairs/S-UT/report.html", "pairs/DE-TFT/report.html"}
    summary = json.loads((folder / "pairs/S-UT/summary.json").read_text())
    assert {*summary["q_values"]["agents"]["0"]} == {"0", "1", "2", "3"}
    assert summary["optima"]["agents"]["1"]["optimum"]["mean"] == 6
    together = json.loads((folder / "summary.json").read_text())["pairs"]
    assert together["S"]["UT"]["best_response"] == summary["optima"]["types"]["S"]["best_response"]
    assert together["DE"]["TFT"]["optimum"]["mean"] == 0 and "optimum" not in together["TFT"]["DE"]
    for path in sorted(pages):
        text = (folder / path).read_text()
        assert "Learned rewards and exact optima" in text and 'id="def-best_response"' in text
