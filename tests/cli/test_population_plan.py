"""`comity population --dry-run`, and what is refused because it does not fit."""

import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from comity.cli import main
from comity.commands import population_plan
from comity.commands.population import run_population
from comity.commands.population_plan import check_memory, measured, plan
from comity.config.population import compose_population
from comity.errors import ComityError
from comity.experiments.populations import settings_of
from comity.populations.memory import predict_memory
from comity.populations.records import RecordWriter
from comity.populations.settings import PopulationSettings, dyad
from comity.populations.train import build_population

GB = 10**9


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Little time is measured, and 16 GB are free."""
    monkeypatch.setattr(population_plan, "SECONDS", 0.05)
    monkeypatch.setattr(population_plan, "memory_bytes", lambda: (32 * GB, 16 * GB))
    yield


def needed(words: str) -> str:
    """Why a population does not fit."""
    config = compose_population(words.split())
    with pytest.raises(ComityError) as refused:
        check_memory(config, settings_of(config))
    text = str(refused.value)
    assert "\n" not in text
    return text


def test_the_plan_of_a_preset() -> None:
    lines = dict(line.split(None, 1) for line in plan(compose_population(["majority-S"])))
    assert lines["agents"].startswith("16: 8 S, 1 UT, 1 aUT") and "16 dqn" in lines["agents"]
    assert lines["partners"] == (
        "partner selection; random matching; random selection, learned moves"
    )
    # Three conditions of 16 games in 20 runs.
    assert lines["runs"].startswith("20 runs of 30,000 episodes with 16 games each, 28,800,000")
    assert re.fullmatch(r"about \d+ MB of 16.0 GB free", lines["memory"])
    assert re.match(r"about .+ on this machine .+: [\d.e+]+ ms per episode", lines["time"])


def test_a_pair_has_one_game_an_episode() -> None:
    config = compose_population(["dyad", "agents=1xS_1xUT", "runs=2"])
    lines = dict(line.split(None, 1) for line in plan(config))
    assert lines["runs"].startswith("2 runs of 10,000 episodes with 1 game each, 20,000 games")
    assert lines["partners"] == "fixed pair"


def test_a_dry_run_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["population", "2xS_1xTFT", "iterations=40", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "3: 2 S, 1 TFT" in shown and "\npage:" not in shown
    assert not list(tmp_path.iterdir())
    both = ["population", "2xS_1xTFT", "--multirun", "runs=1,2", "--dry-run"]
    assert main(both) == 0
    assert capsys.readouterr().out.count("partner selection") == 2
    assert main(["population", "--resume", "populations/x", "--dry-run"]) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["1xS_1xUTT", "--dry-run"], "unknown type"),
        (["20xtabular:S", "--dry-run"], "at most 11 partners"),
        (["3xS", "matching=fixed", "--dry-run"], "even number"),
        (["1xS_1xLLM:UT", "--dry-run"], "add model=smollm2-135m"),
        (["999999999xS"], "at most 10000 agents"),
        (["6000xS_6000xUT"], "at most 10000 agents, not 12000"),
    ],
)
def test_what_cannot_run_is_refused(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["population", *words]) == 2
    assert says in capsys.readouterr().err


def test_too_many_runs_are_told_how_many_fit() -> None:
    text = needed("majority-S --runs=5000".replace("--", ""))
    found = re.search(r"about ([\d.]+) GB of memory, most of it for networks", text)
    assert found and "and 16.0 GB are free" in text
    most = int(re.findall(r"lower --runs to at most (\d+)", text)[0])
    config = compose_population(["majority-S", f"runs={most}"])
    check_memory(config, settings_of(config))
    assert needed(f"majority-S runs={int(1.1 * most)}")


def test_identity_states_of_many_agents_are_refused() -> None:
    """Inputs, and states with their hidden units, grow with N for each of N agents."""
    text = needed("600xS state=identity matching=random runs=20")
    assert "set state=pair" in text and "lower --runs to at most" in text
    config = compose_population(["600xS", "state=pair", "matching=random", "runs=20"])
    check_memory(config, settings_of(config))


def test_where_one_run_is_too_much_another_way_is_named() -> None:
    assert needed("3000xS").endswith("free: lower deep_q.hidden (now 256)")
    assert needed("5000xTFT runs=2000").endswith("lower --runs to at most 6")


def test_nothing_is_made_of_what_does_not_fit(tmp_path: Path) -> None:
    config = compose_population(["900xS", f"output={tmp_path / 'p'}"])
    with pytest.raises(ComityError, match="of memory"):
        run_population(config)
    assert not (tmp_path / "p").exists()


def test_a_machine_that_does_not_say_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population_plan, "memory_bytes", lambda: (None, None))
    config = compose_population(["900xS"])
    assert check_memory(config, settings_of(config)).total > 16 * GB


@pytest.mark.parametrize(
    "settings",
    [
        PopulationSettings("32xS", runs=2),
        PopulationSettings("24xS", runs=4, state="identity"),
        PopulationSettings("24xS", runs=6, state="identity", matching="random"),
        PopulationSettings("10xS", runs=4, learner="tabular", state="pair"),
        PopulationSettings("40xTFT_4xGEb", runs=5),
        dyad("1xS_1xUT", runs=40),
    ],
)
def test_the_prediction_is_near_what_is_taken(settings: PopulationSettings, tmp_path: Path) -> None:
    """Everything that NumPy allocates while a population is made, plays and is saved."""
    every, episodes = 6, 18
    warm = replace(settings, runs=1)
    for one in (warm, settings):
        tracemalloc.start()
        population = build_population(one)
        writer = RecordWriter(tmp_path / str(one.runs), one.numbers)
        population.run(until=episodes, writer=writer, statistics_every=every)
        writer.flush()
        population.save(tmp_path)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert 0.8 < predict_memory(settings, episodes, every).total / taken < 1.7


def test_a_short_population_is_measured_too() -> None:
    each, episodes = measured(PopulationSettings("2xS", runs=1, iterations=1))
    assert each > 0 and episodes >= 1
