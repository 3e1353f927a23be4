"""`comity tournament`: what is played, what is added, what is refused."""

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import comity.commands.tournament as command
from comity.cli import main
from comity.commands.tournament import Request, read_entry, run_tournament, split_arguments
from comity.commands.tournament_page import write_page
from comity.commands.tournament_presets import PRESETS
from comity.config.player_names import parse_player
from comity.errors import ComityError
from comity.evaluation.tournament.many_seats.play import ManySeats
from comity.evaluation.tournament.many_seats.records import SeatedMatch
from comity.evaluation.tournament.many_seats.records import read_matches as read_seated
from comity.evaluation.tournament.records import StoredMatch, match_files, read_matches
from comity.evaluation.tournament.round_robin import RoundRobin
from comity.experiments.agent_plans import plan_agent
from comity.experiments.agents import Agents
from comity.rollout.record_files import read_columns
from comity.train import train
from tests.train.small import only_folder, short_rules, small
from tests.worlds import tiny_folder

SCRIPTS = ("tit_for_tat", "always_defect", "random(p=0.3)")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tournaments are recorded below the present folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    train(small(output, "iterations=2", "checkpoint.every=1", "temperature=0.5"), report=False)
    return only_folder(output)


def tournament(*players: str, game: str = "prisoners_dilemma", **options: object) -> Path:
    return run_tournament(Request(game, players, **options))  # type: ignore[arg-type]


def stored(folder: Path) -> dict[tuple[str, str, int], StoredMatch]:
    found = list(read_matches(folder))
    assert len({match.key for match in found}) == len(found)  # none twice
    return {match.key: match for match in found}


# Names


@pytest.mark.parametrize(
    ("text", "kind", "target", "iteration", "learner"),
    [
        ("tit_for_tat", "strategy", "tit_for_tat", None, ""),
        ("axelrod:Gradual", "axelrod", "Gradual", None, ""),
        ("run:runs/x", "run", "runs/x", None, ""),
        ("run:runs/x@120", "run", "runs/x", 120, ""),
        ("run:runs/x:b", "run", "runs/x", None, "b"),
        ("run:runs/x@120:b", "run", "runs/x", 120, "b"),
        ("model:Qwen/Qwen3-8B", "model", "Qwen/Qwen3-8B", None, ""),
        ("api:gpt-4o@https://a.b/v1", "api", "gpt-4o@https://a.b/v1", None, ""),
        ("base", "base", "", None, ""),
        ("human", "human", "", None, ""),
    ],
)
def test_names(text: str, kind: str, target: str, iteration: int | None, learner: str) -> None:
    name = parse_player(text)
    assert (name.kind, name.target, name.iteration, name.learner) == (
        kind,
        target,
        iteration,
        learner,
    )


def test_a_folder_with_a_colon_or_an_at_sign_is_found(here: Path) -> None:
    (here / "a@3:b").mkdir()
    assert parse_player(f"run:{here}/a@3:b").target == f"{here}/a@3:b"


def test_parameters() -> None:
    name = parse_player("claim(units=2, word='a b')")
    assert name.seat == {"name": "claim", "units": 2, "word": "a b"}
    assert parse_player("x(a=[1, 2], b={c: 3, d: 4}, e=5)").parameters == {
        "a": [1, 2],
        "b": {"c": 3, "d": 4},
        "e": 5,
    }
    with pytest.raises(ComityError, match="NAME\\(key=value"):
        parse_player("random(0.3)")
    with pytest.raises(ComityError, match="p is given twice"):
        parse_player("random(p=0.3, p=0.4)")
    for wrong in ("random(p=[1)", "random(p={)", "random(p=a: b: c)", "random(p=!!python/tuple 1)"):
        with pytest.raises(ComityError, match=r"p has the value .*, which is neither") as raised:
            parse_player(wrong)
        assert "\n" not in str(raised.value)
    assert split_arguments(["random(p=0.3)", "a", "game.noise=0.1", "run:x=1"]) == (
        ["random(p=0.3)", "a", "run:x=1"],
        ["game.noise=0.1"],
    )


# What is played


def test_every_ordered_pair_with_common_chances(no_model: None) -> None:
    folder = tournament(*SCRIPTS, matches=3, overrides=("game.noise=0.1",))
    matches = stored(folder)
    assert set(matches) == {(a, b, k) for a in SCRIPTS for b in SCRIPTS for k in range(3)}
    for k in range(3):  # one environment seed per repetition
        assert len({m.seed for m in matches.values() if m.repetition == k}) == 1
    assert len({m.seed for m in matches.values()}) == 3


def test_identical_matches_are_played_once_and_count_for_all(no_model: None) -> None:
    folder = tournament(*SCRIPTS, matches=5)
    fixed = {key for key, match in stored(folder).items() if match.deterministic}
    assert fixed == {(a, b, 0) for a in SCRIPTS[:2] for b in SCRIPTS[:2]}
    match = stored(folder)["tit_for_tat", "always_defect", 0]
    assert list(match.moves_row)[:3] == [0, 1, 1] and set(match.moves_column) == {1}
    assert list(match.payoffs_row)[:2] == [0, 1] and list(match.payoffs_column)[:2] == [5, 1]


def test_adding_players_and_matches_plays_only_what_is_missing(no_model: None) -> None:
    whole = stored(tournament(*SCRIPTS, "grim_trigger", matches=4))
    folder = tournament(*SCRIPTS, matches=2)
    before = [path.read_bytes() for path in match_files(folder)]
    tournament("grim_trigger", game="", resume=folder)
    tournament(game="prisoners_dilemma", resume=folder, matches=4)
    assert [path.read_bytes() for path in match_files(folder)][: len(before)] == before
    assert stored(folder) == whole
    assert read_entry(folder).names == [*SCRIPTS, "grim_trigger"]
    files = match_files(folder)
    tournament(game="", resume=folder)
    assert match_files(folder) == files  # nothing was left to play


def test_a_killed_tournament_goes_on(no_model: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comity.evaluation.tournament.round_robin.SCRIPTED_BATCH", 4)
    whole = stored(tournament(*SCRIPTS, matches=4))
    write, written = RoundRobin.write, 0

    def interrupted(*arguments: object) -> None:
        nonlocal written
        if written == 2:
            raise KeyboardInterrupt
        written += 1
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RoundRobin, "write", interrupted)
    with pytest.raises(KeyboardInterrupt) as raised:
        tournament(*SCRIPTS, matches=4, output="other")
    folder = only_folder(Path("other"))
    assert raised.value.__notes__ == [f"continue with: comity tournament --resume {folder}"]
    assert 8 <= len(stored(folder)) < len(whole)
    monkeypatch.setattr(RoundRobin, "write", write)
    tournament(game="", resume=folder)
    assert stored(folder) == whole


def test_ctrl_c_tells_how_to_continue(
    no_model: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RoundRobin, "write", interrupted)
    assert main(["tournament", "prisoners_dilemma", *SCRIPTS]) == 130
    folder = only_folder(Path("tournaments"))
    line = f"comity: interrupted; continue with: comity tournament --resume {folder}\n"
    assert capsys.readouterr().err == line


def test_split_games(no_model: None) -> None:
    folder = tournament("greedy", "welfare_maximizing", game="split_no_talk", matches=2)
    for match in stored(folder).values():
        rounds = len(match.payoffs_row)
        assert rounds and len(match.deal) == len(match.surplus) == len(match.best_surplus) == rounds
        for paid, other, together in zip(
            match.payoffs_row, match.payoffs_column, match.surplus, strict=True
        ):
            assert paid + other == pytest.approx(together)
        assert all(s <= b + 1e-9 for s, b in zip(match.surplus, match.best_surplus, strict=True))


def test_who_asks_for_nothing_answers_at_its_reserve(no_model: None) -> None:
    nothing = "claim(units=0)"
    folder = tournament(nothing, "greedy", game="deal_or_no_deal", matches=1)
    write_page(folder)
    pairs = json.loads((folder / "summary.json").read_text())["pairs"]
    found = {(one["row"], one["column"]): one["metrics"]["at_reserve"]["mean"] for one in pairs}
    assert found == {
        **{(nothing, other): 1.0 for other in (nothing, "greedy")},
        **{("greedy", other): 0.0 for other in (nothing, "greedy")},
    }


def test_a_negotiation_in_which_all_are_paid_the_same(no_model: None) -> None:
    """Both are paid all points, and what a seat takes for itself says nothing."""
    players = ("welfare_maximizing", "greedy")
    overrides = ("game.mode=coop",)
    folder = tournament(*players, game="deal_or_no_deal", matches=1, overrides=overrides)
    write_page(folder)
    found = json.loads((folder / "summary.json").read_text())
    assert found["command"] == (
        "comity tournament deal_or_no_deal welfare_maximizing greedy --matches 1 --seed 0 "
        "game.mode=coop"
    )
    assert "at_reserve" not in found["metrics"]
    (best,) = [p["metrics"] for p in found["pairs"] if p["row"] == p["column"] == players[0]]
    assert best["welfare_share"]["mean"] == best["surplus_share"]["mean"] == 1
    assert best["margin"]["mean"] == best["gini"]["mean"] == 0


def test_the_page_shows_what_was_said_and_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    short_rules(monkeypatch)
    settings = (
        *(f"model.name={tiny_folder('llama')}", "model.dtype=float32", "model.device=cpu"),
        *("answer.message_tokens=3", "game.length.cap=2"),
    )
    names = ("base", f"model:{tiny_folder('llama')}")
    folder = tournament(*names, game="trust_and_split", matches=1, overrides=settings)
    write_page(folder)
    summary = json.loads((folder / "summary.json").read_text())
    columns = read_columns(folder / "decisions" / "000000.parquet", "decision")
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=False)
    ]
    assert len(summary["transcripts"]) == 4
    for match in summary["transcripts"]:
        here = [r for r in rows if (r["row"], r["column"]) == (match["row"], match["column"])]
        for number, shown in enumerate(match["rounds"]):
            said = [r for r in here if r["round"] == number and r["kind"] == "message"]
            said.sort(key=lambda r: r["step"])
            assert shown["messages"] == [[r["seat"], r["message_as_read"]] for r in said]
            assert {seat for seat, _ in shown["messages"]} == {0, 1}
            claims = {r["seat"]: r for r in here if r["round"] == number and r["kind"] == "claim"}
            for seat, claim in claims.items():
                if claim["move"] >= 0:
                    (units,), (stock,) = claim["claim"], claim["stock"]
                    assert shown["moves"][seat] == f"{units} of {stock} coins"
                else:
                    assert shown["moves"][seat] == "illegal"
    assert any(
        "of" in move for m in summary["transcripts"] for r in m["rounds"] for move in r["moves"]
    )


def test_trained_policies_and_the_base_model(run: Path) -> None:
    names = (f"run:{run}@1", f"run:{run}", "base", "tit_for_tat")
    folder = tournament(*names, matches=2, overrides=("game.length.rounds=3",))
    full = (f"run:{run}@1", f"run:{run}@2", "base", "tit_for_tat")
    assert read_entry(folder).names == list(full)
    matches = stored(folder)
    assert {key[:2] for key in matches} == {(a, b) for a in full for b in full}
    columns = read_columns(folder / "decisions" / "000001.parquet", "decision")
    assert set(columns["row"]) == set(full)
    # The records of the decisions agree with the matches.
    for i, (row, column, k) in enumerate(
        zip(columns["row"], columns["column"], columns["repetition"], strict=True)
    ):
        match = matches[row, column, k]
        moves = (match.intended_row, match.intended_column)[columns["seat"][i]]
        assert moves[columns["round"][i]] == columns["move"][i]
        assert columns["player"][i] == (row, column)[columns["seat"][i]]
        assert not columns["trained"][i]
    details = {player["name"]: player["details"] for player in read_entry(folder).players}
    assert details[full[0]]["temperature"] == 0.5
    assert details[full[0]]["adapter"] != details[full[1]]["adapter"]
    # Other weights of the same name do not play on.
    versions = json.loads((folder / "versions.json").read_text())
    versions["agents"]["base"]["model"] = "sha256:0"
    (folder / "versions.json").write_text(json.dumps(versions))
    with pytest.raises(ComityError, match="base has another model than before"):
        run_tournament(Request(resume=folder, matches=3))
    write_page(folder)
    (folder / "decisions" / "000001.parquet").unlink()
    with pytest.raises(ComityError, match=r"000001.parquet is missing"):
        write_page(folder)


def test_a_match_does_not_depend_on_who_else_plays(run: Path) -> None:
    def played(*names: str) -> Iterator[StoredMatch]:
        config = command._config(
            Request("prisoners_dilemma", names), [parse_player(name) for name in names]
        )
        with Agents([plan_agent(parse_player(name), config) for name in names]) as agents:
            from comity.games import make_game

            robin = RoundRobin(make_game(config.game), agents.players, 2, 0)
            yield from (match for batch in robin.play() for match in batch.matches)

    run_name = f"run:{run}@2"
    few = {match.key: match for match in played(run_name, "tit_for_tat")}
    many = {match.key: match for match in played(run_name, "base", "tit_for_tat")}
    assert few.keys() < many.keys()
    for key, match in few.items():
        assert list(match.moves_row) == list(many[key].moves_row)
        assert list(match.moves_column) == list(many[key].moves_column)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_played(
    name: str, no_model: None, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = PRESETS[name]
    config = command._config(
        Request(preset.game, preset.players, preset.overrides), [*map(parse_player, preset.players)]
    )
    plans = [plan_agent(parse_player(player), config) for player in preset.players]
    assert len({plan.name for plan in plans}) == len(preset.players)
    assert main(["tournament", "--preset", "axelrd"]) == 2
    assert "did you mean axelrod" in capsys.readouterr().err


def test_a_preset_can_be_changed_and_extended(no_model: None) -> None:
    arguments = ["--preset", "classic", "axelrod:Gradual", "--matches", "1"]
    assert main(["tournament", *arguments, "game.length.rounds=3"]) == 0
    folder = only_folder(Path("tournaments"))
    entry = read_entry(folder)
    assert entry.names == [*PRESETS["classic"].players, "axelrod:Gradual"] and entry.matches == 1
    assert {len(match.moves_row) for match in read_matches(folder)} == {3}
    assert (folder / "report.html").is_file()


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prisoners_dilema", "tit_for_tat", "random"], "did you mean prisoners_dilemma"),
        (["prisoners_dilemma", "tit_for_tat"], "needs at least two players"),
        (["prisoners_dilemma", "tit_for_tot", "random"], "did you mean tit_for_tat"),
        (["prisoners_dilemma", "greedy", "random"], "cannot play this game"),
        (["trust_and_split", "greedy", "random"], "cannot play this game"),
        (["prisoners_dilemma", "random", "tit_for_tat", "--compositions", "3"], "more than two"),
        (["public_goods", "random", "tit_for_tat", "--compositions", "0"], "at least 1, not 0"),
        (["public_goods", "random", "axelrod:Gradual"], "axelrod"),
        (["prisoners_dilemma", "random", "human"], "a person plays in comity play"),
        (["prisoners_dilemma", "random", "learner"], "run:FOLDER"),
        (["prisoners_dilemma", "random", "run:nowhere"], "there is no run folder nowhere"),
        (["prisoners_dilemma", "random", "run:"], "something must follow run:"),
        (["prisoners_dilemma", "random", "adapter:none"], "no adapter_config.json"),
        (["prisoners_dilemma", "random(q=1)", "random"], "unknown parameter 'q'"),
        (["prisoners_dilemma", "random", "tit_for_tat", "--matches", "0"], "at least 1"),
        (["prisoners_dilemma", "random", "tit_for_tat", "game.nois=1"], "did you mean noise"),
        (["--resume", "nowhere", "random"], "there is no tournament folder nowhere"),
        (["--resume", ".", "random"], "is not a tournament"),
        (["random", "tit_for_tat"], "unknown game 'random'"),
    ],
)
def test_mistakes(
    arguments: list[str], message: str, no_model: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tournament", *arguments]) == 2
    _, err = capsys.readouterr()
    assert message in err and err.count("\n") == 1
    assert not Path("tournaments").exists()


def test_damaged_files_and_changed_rules_are_one_line(no_model: None, tmp_path: Path) -> None:
    """Whatever is read there, by the page and by who resumes it."""
    overrides = ("game.length.rounds=3",)
    whole = tournament("tit_for_tat", "random", matches=2, overrides=overrides)

    def entry(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], object]:
        def write(folder: Path) -> None:
            path = folder / "tournament.json"
            path.write_text(json.dumps(change(json.loads(path.read_text()))))

        return write

    def players(**changes: object) -> Callable[[Path], object]:
        return entry(lambda d: {**d, "players": [{**one, **changes} for one in d["players"]]})

    def config(before: str, after: str) -> Callable[[Path], object]:
        def write(folder: Path) -> None:
            path = folder / "config.yaml"
            assert before in path.read_text()
            path.write_text(path.read_text().replace(before, after))

        return write

    damages: list[tuple[str, Callable[[Path], object]]] = [
        *(("is damaged", players(**one)) for one in ({"name": 3}, {"kind": "x"}, {"details": [1]})),
        ("is damaged", players(description=None)),
        *(("is damaged", entry(lambda d, n=n: {**d, "matches": n})) for n in (0, True, 2.5, 10**9)),
        ("is damaged", entry(lambda d: {**d, "players": None, "game": 3})),
        ("is damaged", entry(lambda d: {**d, "compositions": -1})),
        (r"was changed since .* \(game\.length\)", config("rounds: 3", "rounds: 4")),
        (r"was changed since .* \(seed\)", config("\nseed: 0", "\nseed: 1")),
        (r"was changed since .* \(game\.name\)", config("prisoners_dilemma", "stag_hunt")),
    ]
    for number, (says, damage) in enumerate(damages):
        folder = shutil.copytree(whole, tmp_path / str(number))
        damage(folder)
        for attempt in (write_page, lambda folder: run_tournament(Request(resume=folder))):
            with pytest.raises(ComityError, match=says) as raised:
                attempt(folder)
            assert "\n" not in str(raised.value)
    fewer = shutil.copytree(whole, tmp_path / "fewer")
    entry(lambda d: {**d, "matches": 1})(fewer)
    with pytest.raises(ComityError, match="resume it with --matches 2"):
        write_page(fewer)
    run_tournament(Request(resume=fewer, matches=2))
    write_page(fewer)
    other = tournament("tit_for_tat", "random", matches=2, overrides=overrides, seed=1)
    for says, source, name in (
        ("matches twice", whole, "000001.parquet"),
        ("of another tournament", other, "000000.parquet"),
    ):
        folder = shutil.copytree(whole, tmp_path / says)
        shutil.copy(source / "matches" / "000000.parquet", folder / "matches" / name)
        with pytest.raises(ComityError, match=says):
            write_page(folder)
    folder = shutil.copytree(whole, tmp_path / "fewer players")
    entry(lambda d: {**d, "players": d["players"][1:]})(folder)
    with pytest.raises(ComityError, match=r"which .*tournament.json does not name"):
        write_page(folder)
    (fewer / "missing.json").write_text('{"a server": "many"}')
    with pytest.raises(ComityError, match="is damaged: it must hold numbers"):
        write_page(fewer)


def test_a_tournament_goes_on_as_it_began(no_model: None) -> None:
    folder = tournament(*SCRIPTS, matches=2)
    for arguments, message in (
        ({"game": "stag_hunt"}, "is a tournament of prisoners_dilemma, not of stag_hunt"),
        ({"matches": 1}, "can only add"),
        ({"overrides": ("game.noise=0.1",)}, "keeps the settings"),
        ({"seed": 3}, "has the seed 0"),
    ):
        with pytest.raises(ComityError, match=message):
            tournament(**{"game": "", "resume": folder, **arguments})  # type: ignore[arg-type]
    entry = json.loads((folder / "tournament.json").read_text())
    entry["players"][0]["details"] = {"p": 1}
    (folder / "tournament.json").write_text(json.dumps(entry))
    with pytest.raises(ComityError, match="changed since its matches were played"):
        tournament(game="", resume=folder)


def test_a_run_without_that_checkpoint(run: Path, no_model: None) -> None:
    with pytest.raises(ComityError, match="no checkpoint after 7 iterations; it has: 1, 2"):
        tournament(f"run:{run}@7", "random")
    with pytest.raises(ComityError, match="has no learner 'b'"):
        tournament(f"run:{run}:b", "random")
    with pytest.raises(ComityError, match="write a run's folder as run:"):
        tournament(str(run), "random")


# More than two seats


SEATED = ("tit_for_tat", "always_defect", "random(p=0.3)")


def seated(folder: Path) -> dict[tuple[tuple[str, ...], int], SeatedMatch]:
    found = list(read_seated(folder))
    assert len({match.key for match in found}) == len(found)  # none twice
    return {match.key: match for match in found}


def commons(*players: str, **options: object) -> Path:
    settings = ("game.seats=3", "game.length.rounds=3", "game.noise=0.1")
    return tournament(*players, game="public_goods", overrides=settings, **options)


def test_games_of_more_seats_play_every_composition(no_model: None) -> None:
    folder = commons(*SEATED, matches=2)
    matches = seated(folder)
    expected = {tuple(sorted(one)) for one in product(SEATED, repeat=3)}
    assert matches.keys() == {(one, k) for one in expected for k in range(2)}
    write_page(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["kind"] == "many-seats" and summary["missing"] == 0
    assert sorted(one["rank"] for one in summary["agents"]) == [1, 2, 3]
    best = min(summary["agents"], key=lambda one: one["rank"])
    assert best["name"] == "always_defect"
    assert "Focal and background" in (folder / "report.html").read_text()


def test_more_players_and_matches_of_more_seats_play_only_what_is_missing(no_model: None) -> None:
    whole = seated(commons(*SEATED, "grim_trigger", matches=3))
    folder = commons(*SEATED, matches=2)
    before = [path.read_bytes() for path in match_files(folder)]
    tournament("grim_trigger", game="", resume=folder)
    tournament(game="", resume=folder, matches=3)
    assert [path.read_bytes() for path in match_files(folder)][: len(before)] == before
    assert seated(folder) == whole


def test_a_killed_tournament_of_more_seats_goes_on(
    no_model: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comity.evaluation.tournament.many_seats.play.LOCKSTEP_SCRIPTED", 4)
    whole = seated(commons(*SEATED, matches=2))
    write, written = ManySeats.write, 0

    def interrupted(*arguments: object) -> None:
        nonlocal written
        if written == 2:
            raise KeyboardInterrupt
        written += 1
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ManySeats, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        commons(*SEATED, matches=2, output="other")
    folder = only_folder(Path("other"))
    assert len(seated(folder)) == 8
    monkeypatch.setattr(ManySeats, "write", write)
    tournament(game="", resume=folder)
    assert seated(folder) == whole


def test_a_sample_of_compositions_is_kept_and_grows(no_model: None) -> None:
    folder = commons(*SEATED, "random", matches=1, compositions=2)
    few = seated(folder)
    tournament(game="", resume=folder)
    assert seated(folder) == few and read_entry(folder).compositions == 2
    write_page(folder)
    assert json.loads((folder / "summary.json").read_text())["drawn"] == 2
    tournament(game="", resume=folder, compositions=200)
    assert len(seated(folder)) == 20 > len(few) and few.items() <= seated(folder).items()


def test_language_models_on_more_than_two_seats(run: Path) -> None:
    names = (f"run:{run}@2", "base", "tit_for_tat")
    settings = ("game.seats=3", "game.length.rounds=2")
    folder = tournament(*names, game="public_goods", matches=1, overrides=settings)
    matches = seated(folder)
    assert len(matches) == 10
    rows = 0
    for path in sorted((folder / "decisions").glob("*.parquet")):
        columns = read_columns(path, "decision")
        for i, (composition, k) in enumerate(
            zip(columns["composition"], columns["repetition"], strict=True)
        ):
            match = matches[tuple(composition.split(", ")), k]
            seat = columns["seat"][i]
            assert match.intended[seat][columns["round"][i]] == columns["move"][i]
            assert columns["player"][i] == match.agents[seat]
            rows += 1
    assert rows == 2 * 3 * 9  # The composition of strategies has no decisions.
    write_page(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["outcomes"]["base"]["answered"] == 2 * 10
