"""`comity play`: whole matches with typed input, their records, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from comity.cli import main
from comity.commands.generalization import Trained
from comity.commands.play import play_game
from comity.commands.play_setup import play_config, trained_seats
from comity.config.compose import load_config
from comity.errors import ComityError, WorkError
from comity.players.human.player import NoHumanSeatError, QuitError
from comity.rollout.record_files import read_conversations, read_decisions
from comity.runs.folder import read_metrics
from comity.train import train
from tests.misbehaving_api import Server, error
from tests.players.screens import FakeScreen
from tests.train.small import only_folder, small

ROOT = Path(__file__).parents[2]
ROUNDS = "game.length.rounds=2"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Plays are recorded below the present folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a prompt with labels of its own."""
    output = tmp_path_factory.mktemp("runs")
    changes = ["iterations=2", "prompt.labels=[P,Q]", "temperature=0.5"]
    train(small(output, *changes), report=False)
    return only_folder(output)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two learners on another model."""
    output = tmp_path_factory.mktemp("pairs")
    seats = "seats=[learner:a,learner:b]"
    train(small(output, "iterations=1", seats, architecture="gemma2"), report=False)
    return only_folder(output)


def typed(
    lines: str, game: str, seats: str, *overrides: str, **options: Any
) -> tuple[Path, FakeScreen]:
    """A match against a fake screen; words of `lines` are the lines."""
    screen = FakeScreen(lines.split())
    return play_game(game, seats, overrides, screen=screen, **options), screen


# Playing


def test_a_match_is_recorded_like_any_other(no_model: None, here: Path) -> None:
    folder, screen = typed("A B", "prisoners_dilemma", "human,tit_for_tat", ROUNDS, seed=4)
    assert folder.parent == Path("plays") and folder.name.startswith("play-prisoners-dilemma-")
    assert screen.log[-1] == (
        "show",
        "The match is over\n"
        "Round 2: you picked B, tit_for_tat picked A.\n"
        "Points: you 5, tit_for_tat 0.\n"
        "All 2 rounds: you 8, tit_for_tat 3.",
    )
    config = load_config(folder / "config.yaml")
    assert (config.seats, config.seed, config.matches) == (["human", "tit_for_tat"], 4, 1)
    assert (folder / "versions.json").is_file()
    decisions = read_decisions(folder / "decisions/000000.parquet")
    assert [(d.seat, d.controller, d.move, d.payoff) for d in decisions] == [
        (0, "human", 0, 3.0),
        (1, "scripted", 0, 3.0),
        (0, "human", 1, 5.0),
        (1, "scripted", 0, 0.0),
    ]
    assert [d.rewards["utilitarian"] for d in decisions] == [6.0, 6.0, 5.0, 5.0]
    assert read_conversations(folder / "conversations/000000.parquet") == []
    (row,) = read_metrics(folder)
    assert row["outcomes"] == {"CC": 0.5, "CD": 0.0, "DC": 0.5, "DD": 0.0}
    assert row["tokens_played"] == 0


def test_the_report_shows_everybody_who_played(no_model: None) -> None:
    folder, _ = typed("A B", "prisoners_dilemma", "human,tit_for_tat", ROUNDS)
    assert main(["report", str(folder)]) == 0
    found = json.loads((folder / "summary.json").read_text())["policies"]
    assert {name: one["payoff"]["mean"] for name, one in found.items()} == {
        "human": 4.0,
        "tit_for_tat": 1.5,
    }
    assert found["human"]["cooperation"]["mean"] == 0.5
    assert found["human"]["source"] == "as played"


def test_a_split_game_is_told_as_a_negotiation(no_model: None) -> None:
    folder, screen = typed("- 10", "trust_and_split", "human,greedy", "game/length=one", seed=3)
    assert "Alice and Bob split coins" in screen.all("show")[0]
    assert "you claimed 10 coins, greedy claimed 10 coins" in screen.all("show")[-1]
    assert main(["report", str(folder)]) == 0
    found = json.loads((folder / "summary.json").read_text())
    assert list(found["negotiation"]["policies"]) == ["greedy", "human"]


def test_several_matches_add_up_and_differ(no_model: None) -> None:
    folder, screen = typed(
        "- 5 - 5", "trust_and_split", "greedy,human", "game/length=one", matches=2, seed=3
    )
    assert "All 2 matches: greedy " in screen.all("show")[-1]
    decisions = read_decisions(folder / "decisions/000000.parquet")
    assert {d.match for d in decisions} == {0, 1}
    assert len({tuple(map(tuple, (d.values,))) for d in decisions if d.kind == "claim"}) > 2
    assert len(read_metrics(folder)) == 1


def test_an_experiment_is_played_with_its_whole_config(no_model: None) -> None:
    screen = FakeScreen(["action1"])
    name = "moral/small/deontological-vs-tit-for-tat"
    with pytest.raises(NoHumanSeatError):
        play_game(name, "human,tit_for_tat", screen=screen)
    config = play_config(name, ["human", "tit_for_tat"], {})
    assert config.prompt["name"] == "structured" and config.reward["name"] == "deontological"
    assert (config.matches, config.iterations, config.phases) == (1, 1, [])


def test_seeds_are_drawn_unless_given(no_model: None) -> None:
    seats = ["human", "greedy"]
    assert play_config("trust_and_split", seats, {}, ["seed=7"]).seed == 7
    assert play_config("trust_and_split", seats, {}, ["seed=7"], seed=8).seed == 8
    assert len({play_config("trust_and_split", seats, {}).seed for _ in range(3)}) > 1


def behind(server: Server) -> tuple[str, ...]:
    """A seat's opponent: the model behind the server."""
    prices = "api.prices={input: 1, output: 10, cached: null}"
    quick = ("api.tries=2", "api.backoff=0.001")
    return "human,api", "api=local", f"api.base_url={server.url}", prices, *quick


def test_answers_of_a_model_behind_an_api_are_logged_and_priced(no_model: None) -> None:
    with Server(answer=lambda body: "B") as server:
        seats, *settings = behind(server)
        folder, _ = typed("A B A A", "prisoners_dilemma", seats, *settings, ROUNDS, matches=2)
        asked = len(server.bodies)
    lines = (folder / "api_answers.jsonl").read_text().splitlines()
    assert len(lines) == asked == 4
    assert {json.loads(line)["text"] for line in lines} == {"B"}
    (row,) = read_metrics(folder)
    assert (row["api"]["answers"], row["api"]["input_tokens"]) == (4, 400)
    assert row["api"]["cost"] == pytest.approx(0.0008)
    assert row["api"]["outcomes"]["legal"] == 4


def test_a_server_that_fails_ends_the_play_with_the_finished_matches(no_model: None) -> None:
    answers = iter(["A", "A"])
    with Server(answer=lambda body: next(answers, (500, error("busy")))) as server:
        seats, *settings = behind(server)
        with pytest.raises(WorkError, match=r"busy.*the finished match is recorded in plays/"):
            typed("A B A A", "prisoners_dilemma", seats, *settings, ROUNDS, matches=2)
    (folder,) = Path("plays").iterdir()
    assert len(read_decisions(folder / "decisions/000000.parquet")) == 4


def test_a_missing_server_is_noticed_before_a_model_is_loaded(no_model: None) -> None:
    with pytest.raises(ComityError, match="no OpenAI-compatible server answers"):
        typed("A", "public_goods", "human,base,base,api:m@http://127.0.0.1:9/v1", "api=local")
    assert not Path("plays").exists()


# Leaving


def test_who_quits_keeps_the_matches_that_were_over(no_model: None) -> None:
    with pytest.raises(QuitError, match="the finished match is recorded in plays/") as left:
        typed("A B A quit", "chicken", "human,tit_for_tat", ROUNDS, matches=3)
    assert left.value.exit_code == 130
    folder = only_folder(Path("plays"))
    decisions = read_decisions(folder / "decisions/000000.parquet")
    assert len(decisions) == 4 and {d.match for d in decisions} == {0}
    assert len(read_metrics(folder)) == 1
    assert main(["report", str(folder)]) == 0


def test_who_quits_at_once_leaves_no_folder(no_model: None) -> None:
    with pytest.raises(QuitError, match="nothing is recorded"):
        typed("A quit", "chicken", "human,tit_for_tat", ROUNDS)
    assert list(Path("plays").iterdir()) == []


def test_ctrl_c_is_leaving(no_model: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pressed(FakeScreen):
        def read(self, hint: str) -> str:
            raise KeyboardInterrupt

    with pytest.raises(QuitError, match="interrupted; no match was finished"):
        play_game("chicken", "human,tit_for_tat", screen=Pressed([]))


# Against a run


def test_a_run_plays_as_it_was_told_and_trained(run: Path) -> None:
    folder, screen = typed("P Q", "stag_hunt", f"human,run:{run}", ROUNDS, seed=1)
    assert "You pick P, they pick Q" in screen.all("show")[0]
    assert screen.all("say")[0].startswith("Loading /")
    assert "ipd picked" in screen.all("show")[-1]
    config = load_config(folder / "config.yaml")
    assert config.prompt["labels"] == ["P", "Q"] and config.temperature == 0.5
    assert config.model == load_config(run / "config.yaml").model
    decisions = read_decisions(folder / "decisions/000000.parquet")
    models = [d for d in decisions if d.seat == 1]
    assert {(d.controller, d.player, d.version, d.trained) for d in models} == {
        ("frozen", f"run:{run}", 2, False)
    }
    (talk,) = read_conversations(folder / "conversations/000000.parquet")
    assert talk.seat == 1 and {d.conversation for d in models} == {talk.conversation}
    assert read_metrics(folder)[0]["tokens_played"] > 0
    assert main(["report", str(folder)]) == 0


def test_the_newest_checkpoint_plays(run: Path) -> None:
    found = trained_seats(["human", f"run:{run}"])[f"run:{run}"]
    assert (found.name, found.adapter) == ("ipd", run / "checkpoints/000002/main")


def test_conversations_of_several_matches_keep_their_decisions(run: Path) -> None:
    folder, _ = typed("P P P P", "chicken", f"run:{run},human", ROUNDS, matches=2)
    talks = read_conversations(folder / "conversations/000000.parquet")
    assert [(talk.conversation, talk.match) for talk in talks] == [(0, 0), (1, 1)]
    for d in read_decisions(folder / "decisions/000000.parquet"):
        if d.seat == 0:
            talk = talks[d.conversation]
            assert talk.match == d.match
            assert talk.ids[d.start : d.start + len(d.tokens)] == d.tokens


def test_a_learner_of_several(pair: Path) -> None:
    found = trained_seats(["human", f"run:{pair}:b"])[f"run:{pair}:b"]
    assert found.adapter.name == "b" and found.seat == 1
    with pytest.raises(ComityError, match=f"several learners; write {pair}:a or {pair}:b"):
        trained_seats(["human", f"run:{pair}"])
    with pytest.raises(ComityError, match="no learner 'c'; known: a, b"):
        trained_seats(["human", f"run:{pair}:c"])


def test_what_is_given_comes_before_what_the_run_has(run: Path) -> None:
    seats = ["human", f"run:{run}"]
    runs: dict[str, Trained] = trained_seats(seats)

    def config(*overrides: str, game: str = "chicken") -> Any:
        return play_config(game, seats, runs, overrides)

    assert config("prompt.goal=none").prompt["labels"] == ["P", "Q"]
    assert config("prompt.goal=none").prompt["goal"] == "none"
    assert config("prompt=memory_one").prompt["labels"] is None
    assert config("temperature=2").temperature == 2
    assert config("model.device=meta").model.device == "meta"
    assert config("model.device=meta").model.name == runs[f"run:{run}"].config.model.name
    assert config(game="ultimatum").prompt["name"] == "negotiation"
    with pytest.raises(ComityError, match=r"was trained on /.*, not on smollm2-135m"):
        config("model=smollm2-135m")


def test_runs_of_different_models_do_not_meet(no_model: None, run: Path, pair: Path) -> None:
    with pytest.raises(ComityError, match="were trained on different models"):
        play_game("public_goods", f"human,run:{run},run:{pair}:a", screen=FakeScreen([]))
    assert not Path("plays").exists()


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chickn", "--seats", "human,random"], "unknown game 'chickn'; did you mean chicken"),
        (["--seats", "human,random"], "name a game"),
        (["chicken"], "no human seat; give --seats with a human"),
        (["chicken", "--seats", "random,random"], "no human seat; give --seats with a human"),
        (["chicken", "--seats", "human"], "2 seats but --seats names 1"),
        (["chicken", "--seats", "human,tit_for_tot"], "did you mean tit_for_tat"),
        (["chicken", "--seats", "human,"], "unknown player ''"),
        (["chicken", "--seats", "human,learner"], "give a trained one as run:FOLDER"),
        (["chicken", "--seats", "human,run:runs/none"], "there is no run folder runs/none"),
        (["chicken", "--seats", "human,adapter:none"], "no adapter_config.json in the folder"),
        (["chicken", "--seats", "human,greedy"], "cannot play this game"),
        (["ultimatum", "--seats", "human,tit_for_tat"], "cannot play this game"),
        (["chicken", "--seats", "human,random", "seats=[a]"], "use --seats"),
        (["chicken", "--seats", "human,random", "game.nois=1"], "did you mean noise"),
        (["chicken", "--seats", "human,random", "--matches", "0"], "matches"),
        (["chicken", "--seats", "human,random", "prompt=negotiation"], "supports split games only"),
    ],
)
def test_mistakes(
    arguments: list[str], message: str, no_model: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["play", *arguments]) == 2
    _, err = capsys.readouterr()
    assert message in err and err.count("\n") == 1
    assert not Path("plays").exists()


def test_folders_that_cannot_play(no_model: None, run: Path, here: Path) -> None:
    study = here / "study"
    study.mkdir()
    (study / "study.json").write_text('{"arms": {"own": ["own/seed-0"], "both": []}}')
    with pytest.raises(ComityError, match=r"arms own, both; .*study/own/seed-0"):
        trained_seats(["human", f"run:{study}"])
    copy = shutil.copytree(run, here / "copy")
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(ComityError, match="has no good checkpoint"):
        trained_seats(["human", f"run:{copy}"])
    with pytest.raises(ComityError, match="is not a run"):
        trained_seats(["human", f"run:{here}"])


def test_nobody_trains_with_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ipd", "seats=[learner,human]"]) == 2
    err = capsys.readouterr().err
    assert "comity play" in err and err.count("\n") == 1


# As a process of its own


def process(lines: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from comity.cli import main; sys.exit(main())"
    path = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-c", program, "play", *arguments],
        input=lines,
        capture_output=True,
        text=True,
        env=path,
    )


def test_a_dilemma_by_a_pipe() -> None:
    done = process("A\nwhat\nB\n", "prisoners_dilemma", "--seats", "human,tit_for_tat", ROUNDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "You pick A, they pick B: you get 0, they get 5." in done.stdout
    assert "A or B > what\ntype A or B\nA or B > B\n" in done.stdout
    assert "All 2 rounds: you 8, tit_for_tat 3." in done.stdout
    folder = only_folder(Path("plays"))
    assert f"run: {folder.parent}/{folder.name} " in done.stdout
    assert "\x1b" not in done.stdout


def test_a_split_by_a_pipe_that_ends_too_early() -> None:
    lines = "\x1b[2Jhello\n11\n4\n"
    done = process(lines, "trust_and_split", "--seats", "human,greedy", "--seed", "3")
    assert done.returncode == 2
    assert "there are 10 coins; claim 0 to 10" in done.stdout
    assert "Last round Bob had a value of 1 point per coin and claimed 10 coins." in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr.startswith("comity: the input ended before the match did")
    assert "nothing is recorded" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "game", ["chicken --seats human,tit_for_tat", "ultimatum --seats human,greedy"]
)
def test_people_and_scripts_play_without_torch(game: str, tmp_path: Path) -> None:
    """A process in which torch, transformers and scipy cannot be imported."""
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'peft', 'scipy'): sys.modules[name] = None\n"
        "from comity.cli import main\n"
        f"sys.exit(main(['--debug', 'play', *{game.split()!r}, 'game/length=one']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, input="A\n" * 9 + "5\n" * 9, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert "Players: " in done.stdout, done.stderr
    assert "ImportError" not in done.stderr and "ModuleNotFoundError" not in done.stderr
    assert game.startswith("ultimatum") or done.returncode == 0, done.stderr
