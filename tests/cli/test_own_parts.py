"""A user's own parts, from a file or a package: found everywhere by name, like the project's."""

import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from comity import registry
from comity.cli import main
from comity.commands.listing import catalog
from comity.commands.play_setup import play_config, trained_seats
from comity.commands.run import run as train
from comity.commands.tournament import Request, run_tournament
from comity.commands.tournament_page import write_page
from comity.config.compose import compose
from comity.errors import ComityError
from comity.evaluation.metrics import METRICS
from comity.experiments.rules import Rules
from comity.games import make_game
from comity.prompts import PROMPTS
from comity.registry import build
from comity.rewards import REWARDS, all_rewards
from comity.rewards.own import Own
from comity.runs.folder import read_decisions
from tests.train.small import only_folder, small

FILE = Path(__file__).with_name("own_parts_file.py")


@pytest.fixture(autouse=True, params=["file", "package"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same parts named by COMITY_PARTS, and offered by an installed package."""
    if request.param == "file":
        monkeypatch.setenv("COMITY_PARTS", str(FILE))
        return
    offered = {
        "comity.rewards": {"worst_off": "WorstOff"},
        "comity.stages": {"toll": "Toll", "ranks": "Ranks"},
        "comity.games": {"hunt": "hunt"},
        "comity.players": {"gradual": "Gradual"},
        "comity.prompts": {"plain": "Plain"},
        "comity.metrics": {"forgiveness": "forgiveness"},
        "comity.tournament_metrics": {"end_effect": "END_EFFECT"},
        "comity.algorithms": {"marked": "Marked"},
    }
    monkeypatch.delenv("COMITY_PARTS", raising=False)
    monkeypatch.setattr(
        registry,
        "installed_parts",
        lambda group: [
            EntryPoint(name, f"tests.cli.own_parts_file:{value}", group)
            for name, value in offered.get(group, {}).items()
        ],
    )


def test_all_are_listed() -> None:
    for kind, names in {
        "games": {"toll": "A bridge: one who pays", "hunt": "A stag hunt for a prize."},
        "rewards": {"worst_off": "Every seat"},
        "players": {"gradual": "Cooperates more and more."},
        "prompts": {"plain": "Says next to nothing."},
        "metrics": {"forgiveness": "Cooperation right after"},
        "tournament_metrics": {"end_effect": "Defections among", "envy": "How much less"},
    }.items():
        for name, sentence in names.items():
            assert catalog(kind)[kind][name].startswith(sentence)


def test_each_is_an_option_with_its_own_parameters() -> None:
    config = compose(
        "ipd",
        ["game=toll", "game.fee=3", "game.noise=0.1", "game/length=geometric", "game.length.cap=5",
         "prompt=plain", "prompt.greeting=Hi", "reward=worst_off", "reward.weight=2",
         "seats=[learner,{name: gradual, patience: 0.2}]"],
    )  # fmt: skip
    rules = Rules.of(config)
    assert rules.game.stage.fee == 3 and rules.game.noise == 0.1  # type: ignore[attr-defined]
    assert rules.game.length.cap == 5  # type: ignore[attr-defined]
    assert rules.prompt.greeting == "Hi"  # type: ignore[attr-defined]
    assert rules.reward.weight == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("game=toll; game.fees=3", "unknown config key 'game.fees'; did you mean fee"),
        ("game=toll; game.multiplier=3", "unknown config key 'game.multiplier'"),
        ("game=hunt; game.noise=0.1", "unknown config key 'game.noise'"),
        ("game=hunt", "game.prize is required; set it with game.prize=VALUE"),
        ("game=toll; +game.framing=covert", "game 'toll': unknown parameter 'framing'"),
        ("prompt=plain; prompt.goal=own", "unknown config key 'prompt.goal'"),
        ("reward=worst_off; reward.weigth=1", "did you mean weight"),
        ("seats=[learner,{name: gradual, p: 1}]", "player 'gradual': unknown parameter 'p'"),
        ("seats=[learner,gradul]", "did you mean gradual"),
        ("game=toll; game.fee=much", "game 'toll': fee must be a number"),
        ("game=tol", "did you mean toll"),
        ("prompt=plane", "did you mean plain"),
        ("reward=worst", "did you mean worst_off"),
    ],
)
def test_they_take_their_own_parameters_only(override: str, text: str) -> None:
    with pytest.raises(ComityError) as caught:
        Rules.of(compose("ipd", override.split("; ")))
    assert text in str(caught.value)


def test_a_name_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    for text, complaint in {
        "REWARDS = {'own': dict}": "user-defined reward 'own': Comity has a reward of that name",
        "GAMES = {'a b': dict}": "a name consists of letters, digits, - and _",
        "PROMPTS = [dict]": "PROMPTS must be a dictionary, name to prompt",
        "PROMPTS = {'mine': 3}": "user-defined prompt 'mine' must be a class or function",
    }.items():
        file = file.with_stem(f"{file.stem}_")
        file.write_text(text)
        monkeypatch.setenv("COMITY_PARTS", str(file))
        with pytest.raises(ComityError, match=complaint):
            compose("ipd")


def test_a_file_that_names_no_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "nothing.py"
    file.write_text("GAME = {'mine': dict}")
    monkeypatch.setenv("COMITY_PARTS", str(file))
    with pytest.raises(ComityError, match=r"names no parts; end it with a dictionary .*GAMES"):
        compose("ipd")


def test_a_game_without_a_length_where_the_experiment_sets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "endless.py"
    file.write_text("def mine():\n    pass\n\n\nGAMES = {'mine': mine}\n")
    monkeypatch.setenv("COMITY_PARTS", str(file))
    with pytest.raises(ComityError, match="this game has no parameter `length`"):
        compose("smoke", ["game=mine"])


# Stages


@pytest.mark.parametrize("prompt", ["conversation", "memory_one", "structured"])
def test_a_further_step_of_a_round_is_not_told(prompt: str) -> None:
    """Such as the move after an announcement."""
    game = make_game({"name": "prisoners_dilemma"})
    turn = replace(game.turns(game.start(0))[0], step=1)
    told = build("prompt", {"name": prompt}, PROMPTS)
    for text in (told.opening, told.following):
        with pytest.raises(ComityError, match="asks for a further step"):
            text(game, turn)


@pytest.mark.parametrize("prompt", [*PROMPTS, "plain"])
def test_a_stage_is_told_by_every_prompt(prompt: str) -> None:
    """Every prompt of games of moves, without knowing the class."""
    if prompt == "negotiation":
        return
    told = build("prompt", {"name": prompt}, PROMPTS)
    game = make_game({"name": "toll", "fee": 1.5})
    text = told.opening(game, game.turns(game.start(0))[0])
    assert prompt == "plain" or all(number in text for number in ("3.5", "5", "0"))


def test_what_is_told_of_a_stage_with_unequal_seats() -> None:
    game = make_game({"name": "ranks"})
    turn = game.turns(game.start(0))[1]
    conversation = build("prompt", "conversation", PROMPTS).opening(game, turn)
    # Seat 1 plays C, seat 0 B, seat 2 A: 2 * 2 - 1.
    assert "You pick C, they pick B, A: you get 3." in conversation
    assert conversation.count("You pick ") == 3 * 9
    table = build("prompt", "memory_one", PROMPTS).opening(game, turn)
    assert "| they pick B, A |" in table
    with pytest.raises(ComityError, match=r"and needs as many labels, not 2|games of two seats"):
        build("prompt", "structured", PROMPTS).opening(game, turn)


def test_what_is_told_of_seats_that_are_alike() -> None:
    game = make_game({"name": "toll", "seats": 4})
    turn = game.turns(game.start(0))[0]
    text = build("prompt", "conversation", PROMPTS).opening(game, turn)
    assert "You pick B, 1 of them picks A: you get 5." in text
    assert text.count("You pick ") == 2 * 4
    table = build("prompt", "memory_one", PROMPTS).opening(game, turn)
    assert "| B | 5 | 5 | 5 | 0 |" in table


def test_too_much_to_tell_is_refused() -> None:
    game = make_game({"name": "toll", "seats": 20})
    with pytest.raises(ComityError, match="give it `interchangeable = True`"):
        build("prompt", "conversation", PROMPTS).opening(game, game.turns(game.start(0))[0])


# Rewards


def test_a_rewards_parameters_are_its_own() -> None:
    """However they are called: beta, own, others, penalty, bonus, cooperate, constant."""
    trained = build("reward", {"name": "worst_off", "illegal": -2.0, "other": 0.5}, REWARDS)
    assert all_rewards(trained) == all_rewards(Own(illegal=-2.0, other=0.5))


# Runs


def test_a_run_of_own_parts_with_a_cross_play(tmp_path: Path) -> None:
    config = small(
        tmp_path, "game=toll", "prompt=plain", "reward=worst_off", "iterations=1",
        "game.length.rounds=2", "seats=[learner,gradual]",
        'study={seeds: [0], arms: {fair: [], patient: ["game.fee=1"]}}',
        "crossplay={players: [fair, gradual, {name: gradual, patience: 0.1}, base], matches: 2}",
    )  # fmt: skip
    folder = train(config)
    rows = read_decisions(folder / "crossplay" / "decisions.parquet")
    assert {row.player for row in rows} == {"fair", "gradual", "gradual(patience=0.1)", "base"}
    (line,) = (folder / "fair" / "seed-0" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["rewards"].keys() >= {"own", "peers", "mixed_virtue"}
    assert json.loads(line)["metrics"].keys() == {"forgiveness", *METRICS}


def test_a_metric_of_tournaments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    players = ("always_defect", "always_cooperate", "grim_trigger")
    folder = run_tournament(
        Request("prisoners_dilemma", players, ("game.length.rounds=3",), matches=2)
    )
    write_page(folder)
    found = json.loads((folder / "summary.json").read_text())
    assert found["metrics"]["end_effect"]["better"] == "low"
    assert found["metrics"]["end_effect"]["bounds"] == [0, 1]
    ends = {(p["row"], p["column"]): p["metrics"]["end_effect"]["mean"] for p in found["pairs"]}
    assert len(ends) == 9
    for (row, column), mean in ends.items():
        defects = row == "always_defect" or (row, column) == ("grim_trigger", "always_defect")
        assert mean == float(defects)
    assert "Defection in the last round" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{'payoff': M}", "'payoff': a name consists of"),
        ("{'two words': M}", "'two words': a name consists of"),
        ("{'mine': count}", "'mine' must be a comity"),
        ("{'mine': replace(M, needs='luck')}", "unknown what a metric needs 'luck'"),
        ("{'mine': replace(M, bounds='wide')}", "unknown bounds of a metric 'wide'"),
        ("{'mine': M}", "'Mine' must return a numerator and a denominator for each of 1 match"),
    ],
)
def test_a_metric_of_tournaments_that_is_none(
    text: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be seen is seen before anything is played."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\n"
        "import comity.evaluation.tournament.metrics as m\n"
        "def count(matches):\n    return matches.payoffs\n"
        "M = m.TournamentMetric('Mine', 'It.', '1', 'ours', 'share', 'share', 'payoffs', count)\n"
        f"TOURNAMENT_METRICS = {text}\n"
    )
    monkeypatch.setenv("COMITY_PARTS", str(file))
    players = ("always_defect", "always_cooperate")
    overrides = ("game.length.rounds=3",)
    with pytest.raises(ComityError, match=complaint):
        write_page(run_tournament(Request("prisoners_dilemma", players, overrides, matches=1)))
    assert (tmp_path / "tournaments").exists() == (text == "{'mine': M}")


def test_an_algorithm_has_an_update_of_its_own(tmp_path: Path) -> None:
    run = train(small(tmp_path, "algorithm=marked", "iterations=1"))
    (row,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [d for d in read_decisions(run / "decisions" / "000000.parquet") if d.trained]
    assert row["marked"] == len(trained) > 0
    assert {d.advantage for d in trained} == {7.0}


def test_they_are_played_at_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    seats = ["human", "gradual"]
    config = play_config("toll", seats, trained_seats(seats), ["game.fee=1", "prompt=plain"])
    assert (config.game["fee"], config.prompt["name"]) == (1, "plain")
    assert config.prompt["greeting"] == "Hello."
    answers = iter(["A", "B"])
    monkeypatch.setattr("builtins.input", lambda *_: next(answers))
    play = ["play", "toll", "--seats", "human,gradual", "game.length.rounds=2"]
    assert main(play) == 0, capsys.readouterr().err
    (decisions,) = only_folder(tmp_path / "plays").rglob("decisions/*.parquet")
    assert [row.player for row in read_decisions(decisions)] == ["human", "gradual"] * 2


def test_a_file_of_a_config_folder_replaces_the_option_of_a_part(tmp_path: Path) -> None:
    (tmp_path / "game").mkdir()
    (tmp_path / "mine.yaml").write_text("defaults: [config, override game: hunt, _self_]\n")
    (tmp_path / "game" / "hunt.yaml").write_text(
        "defaults: [length@length: fixed, _self_]\nname: hunt\nprize: 7\n"
    )
    config = compose("mine", ["game.length.rounds=3"], config_dir=str(tmp_path))
    assert config.game == {"name": "hunt", "prize": 7, "length": {"name": "fixed", "rounds": 3}}
    assert compose("ipd", ["game=hunt", "game.prize=2"]).game["prize"] == 2


def test_a_part_that_is_gone_is_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compose("ipd", ["game=hunt", "game.prize=2"]).game["name"] == "hunt"
    monkeypatch.delenv("COMITY_PARTS", raising=False)
    monkeypatch.setattr(registry, "installed_parts", lambda _: [])
    with pytest.raises(ComityError, match="unknown game 'hunt'"):
        compose("ipd", ["game=hunt"])
