"""`comity population`: what is composed, trained, continued, and refused."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import comity.commands.population as command
from comity.cli import main
from comity.commands.listing import catalog
from comity.commands.population import resume_population, run_population, written
from comity.commands.population_page import write_page
from comity.config.compose import to_yaml
from comity.config.population import compose_population, load_population, split_words
from comity.config.presets.populations import BASELINES, LEARNERS, MAJORITIES, presets
from comity.errors import ComityError, pointed_at
from comity.experiments.populations import settings_of, short_names
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.stages import MatrixStage
from comity.populations.composition import parse
from comity.populations.payoffs import GameTables
from comity.populations.settings import PAIR_GAME, PopulationSettings, dyad
from comity.populations.train import build_population
from comity.populations.types import FIXED_TYPES, LEARNER_TYPES, type_reward
from comity.runs.population_folder import PopulationFolder

ROOT = Path(__file__).parents[2]
SMALL = ("iterations=12", "runs=2", "checkpoint.every=4", "record.metrics_every=3")
FEW = ("deep_q.hidden=4", "record.statistics_every=5")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Populations are recorded below the present folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(*words: str) -> Path:
    return run_population(compose_population([*words]))


def games(folder: Path) -> dict[str, pa.Table]:
    """All games by their folder, whatever parts they are in."""
    places = sorted({path.parent for path in folder.rglob("games/*/part-*.parquet")})
    return {
        place.relative_to(folder).as_posix(): pa.concat_tables(
            [pq.read_table(path) for path in sorted(place.glob("part-*.parquet"))]
        )
        for place in places
    }


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def final_state(folder: Path) -> dict[str, np.ndarray]:
    newest = max((folder / "checkpoints").iterdir())
    found = {}
    for path in sorted(newest.rglob("*.npz")):
        with np.load(path) as arrays:
            for name in arrays:
                found[f"{path.relative_to(newest)}/{name}"] = arrays[name]
    return found


def assert_same(one: Path, other: Path) -> None:
    """Games, metrics and the newest checkpoint are equal to the last bit."""
    assert games(one).keys() == games(other).keys()
    for name, table in games(one).items():
        assert table.equals(games(other)[name]), name
    assert metrics(one) == metrics(other)
    left, right = final_state(one), final_state(other)
    assert left.keys() == right.keys() and left
    for name, array in left.items():
        assert np.array_equal(array, right[name], equal_nan=True), name


# Configs


def same_settings(one: PopulationSettings, other: PopulationSettings) -> None:
    for field in fields(PopulationSettings):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if field.name == "game":
            left, right = left.stage, right.stage
        assert left == right, field.name


def test_the_defaults_are_those_of_the_published_system() -> None:
    text = "1xUT_1xaUT_1xDE"
    config = compose_population([text])
    same_settings(settings_of(config), PopulationSettings(text))
    assert (config.iterations, config.runs, config.seed) == (30_000, 20, 1)


def test_a_dyad_has_the_defaults_of_the_forerunner() -> None:
    config = compose_population(["dyad", "agents=1xS_1xUT"])
    same_settings(settings_of(config), dyad("1xS_1xUT"))


@pytest.mark.parametrize(
    ("words", "name", "overrides"),
    [
        (["quick"], "quick", []),
        (["quick", "runs=3"], "quick", ["runs=3"]),
        (["1xUT_1xaUT"], "", ["agents=1xUT_1xaUT"]),
        (["2xLLM:S_2xLLM:UT"], "", ["agents=2xLLM:S_2xLLM:UT"]),
        (["1xS_1xLLM:run:a{b"], "", ['agents="1xS_1xLLM:run:a{b"']),
        (["1xS,1xUT"], "", ['agents="1xS,1xUT"']),
        (["agents=1xS_1xS", "types.VM.beta=0"], "", ["agents=1xS_1xS", "++types.VM.beta=0"]),
        ([], "", []),
    ],
)
def test_words(words: list[str], name: str, overrides: list[str]) -> None:
    assert split_words(words) == (name, overrides)


def test_a_stored_config_is_the_composed_one(here: Path) -> None:
    config = compose_population(["3xS_1xX", "types.X={name: peers, others: -1}", "game=chicken"])
    (here / "config.yaml").write_text(to_yaml(config))
    assert load_population(here / "config.yaml") == config


def test_types_of_ones_own_and_other_parameters() -> None:
    words = ["1xX_1xVM", "types.X={name: peers, own: 1, others: -1}", "types.VM.beta=0.2"]
    settings = settings_of(compose_population(words))
    rewards = [type_reward(one, settings.game, settings.rewards) for one in ("X", "VM")]
    tables = GameTables(settings.game, rewards)
    # [reward, seat 0, own shown C, other shown C, own answer, other answer]
    assert tables.rewards[0, 0, 0, 0, :2, :2].tolist() == [[0, -4], [4, 0]]
    equal = [[1, 0], [0, 1]]
    wanted = [[0.2 * equal[a][b] + 0.8 * (a == 0) for b in (0, 1)] for a in (0, 1)]
    assert np.allclose(tables.rewards[1, 0, 0, 0, :2, :2], wanted)


def test_the_sizes_apply_to_types_with_other_parameters() -> None:
    settings = settings_of(compose_population(["1xDE_1xVEk", "xi=3", "types.DE.other=1"]))
    rewards = [
        type_reward(one, settings.game, settings.rewards, settings.xi) for one in ("DE", "VEk")
    ]
    tables = GameTables(settings.game, rewards)
    # Against a partner that cooperated last, DE is punished by xi for defecting.
    assert tables.rewards[0, 0, 0, 0, :2, 0].tolist() == [1, -3]
    assert tables.rewards[1, 0, 0, 0, :2, 0].tolist() == [3, 0]


def test_several_types_at_once() -> None:
    config = compose_population(["1xX_1xY", "types={X: {name: own}, Y: {name: peers}}"])
    assert config.types == {"X": {"name": "own"}, "Y": {"name": "peers"}}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name a composition"),
        (["dyad"], "name a composition"),
        (["quik"], "did you mean quick"),
        (["majority-s"], "did you mean majority-S"),
        (["1xUT_1xaUTT"], "unknown type 'aUTT'; did you mean aUT"),
        (["1xUT"], "at least two agents"),
        (["0xUT_2xS"], "count must be at least 1"),
        (["1xUT__1xS"], "unknown type"),
        (["1xUT_xS"], "expected|unknown type"),
        (["1xUT_1x"], "expected a type"),
        (["3xS", "matching=fixed"], "even number of agents"),
        (["13xS", "learner=tabular"], "at most 11 partners"),
        (["2xS", "game=public_goods"], "two seats and two moves"),
        (["2xS", "game=ultimatum"], "matrix game"),
        (["2xS", "game=random_dilemma"], "fixed payoff table"),
        (["2xS", "game.noise=0.1"], "game.noise=0"),
        (["2xS", "game.length.rounds=3"], "leave it out"),
        (["2xDE", "types.DE.cooperate=swerve"], "type DE"),
        (["1xLLM:UT_1xS"], "model=smollm2-135m"),
        (["2xS", "runs=0"], "runs: 0 must be at least 1"),
        (["2xS", "deep_q.epsilon=1.5"], "deep_q.epsilon"),
        (["2xS", "deep_q.hiden=3"], "did you mean hidden"),
        (["2xS", "lr=3"], "deep_q.learning_rate or tabular.learning_rate"),
        (["2xS", "matching=randm"], "did you mean random"),
        (["2xS", "types.X=3"], "must be a reward"),
        (["2xS", "types.TFT={name: own}"], "fixed strategy"),
        (["1xX_1xS", "types.X={name: nowhere}"], "nowhere"),
        (
            ["1xX_1xS", "types.X={name: peers, others_weight: 1}"],
            "unknown parameter 'others_weight'",
        ),
        (["2xS", "sinks=[nowhere]"], "nowhere"),
    ],
)
def test_mistakes_are_refused_before_there_is_a_folder(
    words: list[str], says: str, here: Path
) -> None:
    with pytest.raises(ComityError, match=says):
        trained(*words, *(["iterations=1"] if words else []))
    assert not list(here.iterdir())


def test_a_caret_points_at_the_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["population", "1xUT_1xaUTT_1xDE"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("comity: composition: unknown type 'aUTT'; did you mean aUT")
    assert said[1:] == ["  1xUT_1xaUTT_1xDE", "         ^"]


def test_only_the_surroundings_of_a_place_are_shown() -> None:
    text = "1xS_" * 100 + "1xQ_" + "1xS_" * 100
    shown = pointed_at(f"wrong\n  {text}\n  {' ' * 402}^")
    assert shown[0] == "wrong" and shown[1][shown[2].index("^")] == "Q"
    assert max(map(len, shown)) <= 120
    assert pointed_at("a\nb\nc") == ["a\nb\nc"]


# Presets


def test_the_majorities_are_the_published_ones() -> None:
    text = "8xS_1xUT_1xaUT_1xDE_1xmDE_1xVEe_1xVie_1xVEk_1xVagg"
    assert compose_population(["majority-S"]).agents == text
    for kind in MAJORITIES:
        members = parse(compose_population([f"majority-{kind}"]).agents).members
        counts = {one: members.count(one) for one in members}
        assert counts == {one: 8 if one == kind else 1 for one in MAJORITIES}


def test_the_dyads_are_the_published_ones() -> None:
    members = parse(compose_population(["dyads"]).agents).members
    pairs = [*zip(members[::2], members[1::2], strict=True)]
    learners = [pair for pair in pairs if pair[1] in LEARNERS]
    assert len(learners) == len({frozenset(pair) for pair in learners}) == 21
    others = {(one, other) for one in LEARNERS for other in BASELINES}
    assert {*pairs} - {*learners} == others and len(pairs) == 45


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_be_built(name: str) -> None:
    words = [name, "runs=1", *(["agents=1xS_1xUT"] if name == "dyad" else [])]
    config = compose_population(words)
    assert config.name == name
    if "LLM:" not in config.agents:
        build_population(settings_of(config))


def test_presets_differ_as_they_say() -> None:
    assert compose_population(["dyads-decay"]).tabular.learning_rate_decay == 0.0005
    constant = compose_population(["dyads-constant"]).tabular
    assert (constant.epsilon, constant.epsilon_last) == (0.05, None)
    linear = compose_population(["dyads"]).tabular
    assert (linear.epsilon, linear.epsilon_last) == (1, 0)
    sweep = compose_population(["beta-sweep"])
    assert [one["beta"] for one in sweep.types.values()] == [0, 0.2, 0.4, 0.6, 0.8, 1]


@pytest.mark.parametrize(
    "ratio, both, sucker, temptation, neither",
    [("2_1", 3, 1, 4, 2), ("3_1", 4, 1, 5, 2), ("10_1", 11, 1, 12, 2), ("20_1", 21, 1, 22, 2)],
)
def test_the_benefit_to_cost_variants(
    ratio: str, both: float, sucker: float, temptation: float, neither: float
) -> None:
    game = settings_of(compose_population(["2xS", f"game=prisoners_dilemma_{ratio}"])).game
    assert isinstance(game, Iterated)
    cells = (((both, both), (sucker, temptation)), ((temptation, sucker), (neither, neither)))
    assert game.stage == MatrixStage("Prisoner's Dilemma", ("cooperate", "defect"), cells)
    if ratio == "2_1":
        assert game.stage == PAIR_GAME.stage


def test_what_is_listed() -> None:
    agents = catalog("agents")["agents"]
    assert {*LEARNER_TYPES, *FIXED_TYPES} <= {*agents}
    assert "sum over seats" in agents["UT"] and "copies" in agents["TFT"]
    assert {*catalog("populations")["populations"]} == {*presets()}


# Training


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A population that was never interrupted."""
    output = tmp_path_factory.mktemp("whole")
    return trained("1xUT_1xaUT_1xTFT", *SMALL, *FEW, f"output={output}")


def test_a_folder_holds_what_a_page_needs(whole: Path) -> None:
    about = json.loads((whole / "agents.json").read_text())
    assert [agent["type"] for agent in about["agents"]] == ["UT", "aUT", "TFT"]
    assert [agent["kind"] for agent in about["agents"]] == ["dqn", "dqn", "fixed"]
    assert about["game"]["payoffs"] == [[[3, 3], [0, 4]], [[4, 0], [1, 1]]]
    conditions = {"selection", "random_matching", "random_selection"}
    assert {path.name for path in (whole / "games").iterdir()} == conditions
    for table in games(whole).values():
        assert len(table) == 12 * 2 * 3
    assert [one.name for one in sorted((whole / "checkpoints").iterdir())] == ["000008", "000012"]
    versions = json.loads((whole / "versions.json").read_text())
    assert versions["command"].startswith("comity population agents=1xUT_1xaUT_1xTFT iterations=12")


def test_metrics_are_means_of_the_games(whole: Path) -> None:
    rows = metrics(whole)
    assert [row["episode"] for row in rows] == [3, 4, 6, 8, 9, 12]
    table = games(whole)["games/selection"].to_pydict()
    here = [4 <= episode < 6 for episode in table["episode"]]
    moves = [
        move
        for name in ("selector_move", "selected_move")
        for move, is_here in zip(table[name], here, strict=True)
        if is_here
    ]
    assert rows[2]["cooperation"] == pytest.approx(moves.count(0) / len(moves))
    first = [(a, b) for a, b, h in zip(table["selector_move"], table["selected_move"], here,
                                       strict=True) if h]  # fmt: skip
    assert rows[2]["outcomes"]["CD"] == pytest.approx(first.count((0, 1)) / len(first))
    assert {*rows[2]["types"]} == {"UT", "aUT", "TFT"}
    assert {*rows[2]} >= {"random_matching", "random_selection", "selected_cooperator"}


KILLED = """
import os, signal, sys
import comity.commands.population as command
from comity.config.population import compose_population

def killing(owner, name, call):
    original, calls = getattr(owner, name), 0
    def killed(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **keywords)
    setattr(owner, name, killed)

place, *words = sys.argv[1:]
if place == "between checkpoints":
    killing(command.WindowMetrics, "add", 11)
else:
    killing(command.PopulationFolder, "counted", 2)
command.run_population(compose_population(words))
"""


@pytest.mark.parametrize("place", ["between checkpoints", "in a checkpoint"])
def test_a_killed_population_goes_on_to_the_same_numbers(
    place: str, whole: Path, here: Path
) -> None:
    words = ("1xUT_1xaUT_1xTFT", *SMALL, *FEW)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, place, *words],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    (folder,) = (here / "populations").iterdir()
    kept = {"between checkpoints": "000008", "in a checkpoint": "000004"}[place]
    (newest,) = sorted(folder.glob("checkpoints/0*"))[-1:]
    assert newest.name == kept
    resume_population(folder)
    assert_same(folder, whole)


def test_more_episodes_can_be_added(whole: Path) -> None:
    words = ("1xUT_1xaUT_1xTFT", *SMALL, *FEW, "iterations=8")
    folder = trained(*words)
    with pytest.raises(ComityError, match="can only add"):
        resume_population(folder, 4)
    resume_population(folder, 12)
    assert_same(folder, whole)


def test_a_finished_population_is_left_as_it_is(whole: Path, here: Path) -> None:
    folder = Path(shutil.copytree(whole, here / "copy"))
    resume_population(folder)
    assert_same(folder, whole)


def test_ctrl_c_tells_how_to_continue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.WindowMetrics, "add", interrupted)
    assert main(["population", "2xS", *SMALL, *FEW]) == 130
    (folder,) = (here / "populations").iterdir()
    relative = folder.relative_to(here)
    line = f"comity: interrupted; continue with: comity population --resume {relative}\n"
    assert capsys.readouterr().err == line


def edited(folder: Path, old: str, new: str) -> None:
    text = (folder / "config.yaml").read_text()
    assert old in text
    (folder / "config.yaml").write_text(text.replace(old, new))


def test_what_was_changed_is_not_continued(whole: Path, here: Path) -> None:
    folder = Path(shutil.copytree(whole, here / "copy"))
    edited(folder, "seed: 1", "seed: 2")
    with pytest.raises(ComityError, match="was edited since the newest checkpoint: seed"):
        resume_population(folder)
    edited(folder, "seed: 2", "seed: 1")
    edited(folder, "agents: 1xUT_1xaUT_1xTFT", "agents: 1xUT_1xaUT_1xAC")
    with pytest.raises(ComityError, match="agents"):
        resume_population(folder)
    edited(folder, "agents: 1xUT_1xaUT_1xAC", "agents: 1xUT_1xaUT_1xTFT")
    part = folder / "games/selection/part-000004.parquet"
    content = part.read_bytes()
    part.unlink()
    with pytest.raises(ComityError, match=r"part-000004\.parquet is missing"):
        resume_population(folder)
    part.write_bytes(content[:-1] + b"?")
    with pytest.raises(ComityError, match="is not what it was at its newest checkpoint"):
        write_page(folder)
    with pytest.raises(ComityError, match=r"part-000004\.parquet is another file"):
        resume_population(folder)
    part.write_bytes(content)
    resume_population(folder)


def test_a_checkpoint_of_another_composition_is_refused(whole: Path, here: Path) -> None:
    folder = Path(shutil.copytree(whole, here / "copy"))
    other = trained("1xUT_1xaUT_1xAC", *SMALL, *FEW)
    shutil.rmtree(folder / "checkpoints")
    shutil.copytree(other / "checkpoints", folder / "checkpoints")
    with pytest.raises(ComityError, match="agents"):
        resume_population(folder)


def test_other_folders_are_refused(whole: Path, here: Path) -> None:
    with pytest.raises(ComityError, match="no population folder"):
        resume_population(here / "nowhere")
    (here / "empty").mkdir()
    with pytest.raises(ComityError, match="is not a population"):
        resume_population(here / "empty")
    with pytest.raises(ComityError, match="is a checkpoint"):
        resume_population(whole / "checkpoints" / "000012")


def test_one_process_writes_at_a_time(whole: Path) -> None:
    with PopulationFolder.open(whole), pytest.raises(ComityError, match="another process"):
        resume_population(whole)


@pytest.mark.parametrize(
    "more", [["seed=2"], ["--seed", "2"], ["--runs", "3"], ["-m"], ["--output", "x"]]
)
def test_resuming_takes_no_other_settings(
    more: list[str], whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["population", *more, "--resume", str(whole)]) == 2
    assert "--resume goes on with the settings of the folder" in capsys.readouterr().err


# Pairs


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


# Command line


def test_options_are_settings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--iterations", "4", "--runs", "1", "--seed", "5", "--output", "out"]
    assert main(["population", "2xS", *given, *FEW]) == 0
    (folder,) = (here / "out").iterdir()
    config = load_population(folder / "config.yaml")
    assert (config.iterations, config.runs, config.seed) == (4, 1, 5)
    said = capsys.readouterr().out.splitlines()
    assert said == [f"population: out/{folder.name}", f"page: out/{folder.name}/report.html"]
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("option", "says"), [("--matching", "matching=random"), ("--state", "state=random")]
)
def test_a_setting_with_dashes(option: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["population", "2xS", option, "random"]) == 2
    assert f"settings are written without dashes: {says}" in capsys.readouterr().err


def test_several_are_compared(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["2xS", "--multirun", "seed=1,2", "iterations=4", "runs=2", *FEW]
    assert main(["population", *words]) == 0
    folders = [one for one in (here / "populations").iterdir() if one.name.startswith("pop")]
    assert len(folders) == 2
    assert "page of all 2 populations" in capsys.readouterr().out
    assert main(["report", *map(str, folders), "--output", "both"]) == 0
    assert (here / "both" / "report.html").is_file()
    (folders[0] / "report.html").unlink()
    assert main(["report", str(folders[0])]) == 0
    assert (folders[0] / "report.html").is_file()


def test_a_config_file_of_ones_own(here: Path) -> None:
    (here / "mine").mkdir()
    text = "defaults: [population, override game: stag_hunt, _self_]\nagents: 1xS_1xX\n"
    text += "types: {X: {name: peers, others: -1}}\niterations: 4\nruns: 1\n"
    (here / "mine" / "hunt.yaml").write_text(text)
    words = ["--config-path", "mine", "--config-name", "hunt", "seed=3", *FEW]
    assert main(["population", *words]) == 0
    (folder,) = (here / "populations").iterdir()
    config = load_population(folder / "config.yaml")
    assert (config.seed, config.game["name"]) == (3, "stag_hunt")
    assert config.types == {"X": {"name": "peers", "others": -1}}


def test_a_config_file_without_its_base(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "bare.yaml").write_text("agents: 2xS\n")
    assert main(["population", "--config-path", "mine", "--config-name", "bare"]) == 2
    assert "begin its `defaults` with population" in capsys.readouterr().err


def test_populations_and_runs_have_separate_pages(
    whole: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "run").mkdir()
    assert main(["report", str(whole), str(here / "run")]) == 2
    assert "is not a population" in capsys.readouterr().err


def test_folders_are_called_by_their_last_part() -> None:
    members = ["S", "LLM:run:/a/b/c@3", "LLM:run:x/d/", "LLM:run:y/d", "LLM:UT", "LLM:run:/a/b/c@3"]
    assert short_names(members) == [
        *("S", "LLM:run:c@3", "LLM:run:x/d/", "LLM:run:y/d", "LLM:UT", "LLM:run:c@3")
    ]


def test_a_composition_from_agents() -> None:
    assert written(["S", "S", "UT", "S"]) == "2xS_1xUT_1xS"


# Kinds of one's own


@pytest.fixture
def kinds(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of the how-to on kinds of one's own."""
    page = (ROOT / "docs/how-to/own-agent-kind.md").read_text()
    (text,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    (here / "kinds.py").write_text(text)
    monkeypatch.setenv("COMITY_PARTS", str(here / "kinds.py"))


def test_a_kind_of_ones_own_beside_others(kinds: None) -> None:
    folder = trained("2xbush:S_1xUT_1xTFT", *SMALL, *FEW, "iterations=40")
    about = json.loads((folder / "agents.json").read_text())
    assert [agent["kind"] for agent in about["agents"]] == ["bush", "bush", "dqn", "fixed"]
    shorter = trained("2xbush:S_1xUT_1xTFT", *SMALL, *FEW, "iterations=20", "output=shorter")
    resume_population(shorter, 40)
    assert_same(folder, shorter)


def test_a_kind_of_ones_own_for_all_learners(kinds: None) -> None:
    """What it learns depends on the type alone: kindness is rewarded for C, aggression for D."""
    words = ("2xVEk_2xVagg", "learner=bush", "iterations=200", "runs=4", "record.metrics_every=50")
    types = metrics(trained(*words, *FEW))[-1]["types"]
    assert types["VEk"]["cooperation"] > 0.8 and types["Vagg"]["cooperation"] < 0.2


def test_without_the_file_the_kind_is_unknown() -> None:
    with pytest.raises(ComityError, match="kind of learner"):
        trained("2xS", "learner=bush", *SMALL)
    with pytest.raises(ComityError, match="unknown type"):
        trained("2xbush:S", *SMALL)


# Language models


def test_language_models_go_on_to_the_same_numbers(
    tiny_model: Callable[[str], Path], here: Path
) -> None:
    words = (
        *("1xLLM:S_1xLLM:UT_1xUT", "model=smollm2-135m", f"model.name={tiny_model('llama')}"),
        *("prompt.framing=action_game_state", "language_model.episodes_per_update=2"),
        *("language_model.min_decisions=2", "iterations=4", "runs=1", "checkpoint.every=2"),
        *("adapter.rank=4", "deep_q.hidden=4", "controls.random_matching=false"),
    )
    folder = trained(*words)
    about = json.loads((folder / "agents.json").read_text())
    assert [agent["kind"] for agent in about["agents"]] == ["language_model"] * 2 + ["dqn"]
    shorter = trained(*words, "iterations=2", "output=shorter")
    resume_population(shorter, 4)
    assert_same(folder, shorter)


def test_the_preset_of_language_models_fits_its_model(no_model: None) -> None:
    config = compose_population(["language-models"])
    assert config.model is not None and config.model.name == "smollm2-135m"
    with pytest.raises(AssertionError, match="a model was loaded"):
        run_population(config)


# Documentation

COMMANDS = sorted(
    {
        line
        for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), flags=re.M | re.S)
        for line in block.splitlines()
        if line.startswith("comity population ")
        and not re.search(r"--resume|--config-path|LLM:run|bush", line)
    }
)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_population_in_the_docs_can_be_composed(line: str) -> None:
    """Of a `--multirun` line, its first values."""
    words = shlex.split(line)[2:]
    words = [word for word in words if word != "--dry-run"]
    if "--multirun" in words:
        words.remove("--multirun")
        words = [re.sub(r"=([^,\[{]*),.*", r"=\1", word) for word in words]
    while options := [place for place, word in enumerate(words) if word.startswith("--")]:
        name = words.pop(options[0]).removeprefix("--")
        words.append(f"{name}={words.pop(options[0])}")
    config = compose_population(words)
    settings = settings_of(config)
    members = parse(settings.composition, settings.rewards).members
    for kind in {*parse(settings.composition, settings.rewards).types}:
        type_reward(kind, settings.game, settings.rewards)
    assert len(members) >= 2


def test_the_docs_hold_populations_to_check() -> None:
    assert len(COMMANDS) > 10


def test_random_matching_alone_has_a_page(here: Path) -> None:
    words = ["1xS_1xTFT_1xtabular:UT", "matching=random", "iterations=6", "runs=2", *FEW]
    assert main(["population", *words]) == 0
    (folder,) = (here / "populations").iterdir()
    assert {path.name for path in (folder / "games").iterdir()} == {"random"}
    assert (folder / "report.html").is_file()


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
