"""`comity population`: what is trained, recorded and continued."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

import comity.commands.population as command
from comity.cli import main
from comity.commands.population import resume_population, written
from comity.commands.population_page import write_page
from comity.config.population import load_population
from comity.errors import ComityError
from comity.experiments.populations import short_names
from comity.runs.population_folder import PopulationFolder
from tests.cli.populations import (
    FEW,
    SMALL,
    assert_same,
    games,
    metrics,
    trained,
)
from tests.forked import Forked

pytestmark = pytest.mark.usefixtures("here")


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
    killed = Forked(("-c", KILLED, place, *words), os.environ, here)
    _, errors = killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL, errors
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


def test_random_matching_alone_has_a_page(here: Path) -> None:
    words = ["1xS_1xTFT_1xtabular:UT", "matching=random", "iterations=6", "runs=2", *FEW]
    assert main(["population", *words]) == 0
    (folder,) = (here / "populations").iterdir()
    assert {path.name for path in (folder / "games").iterdir()} == {"random"}
    assert (folder / "report.html").is_file()
