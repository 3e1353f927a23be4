"""Models behind APIs in tournaments and exploit runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from comity.commands.exploit import Request as ExploitRequest
from comity.commands.exploit import run_exploit
from comity.commands.exploit import write_page as write_exploit_page
from comity.commands.tournament import Request, run_tournament
from comity.commands.tournament_page import write_page
from comity.config.compose import load_config
from comity.engines.api.usage import BudgetReachedError
from comity.errors import ComityError
from comity.evaluation.tournament.records import read_matches
from tests.misbehaving_api import Server, every_third
from tests.train.small import only_folder
from tests.worlds import tiny_folder

KEY = "sk-a-key-that-must-not-be-found-43"
SETTINGS = ("api=local", "api.backoff=0.001", "api.api_key_env=OPENAI_API_KEY")
ROUNDS = "game.length.rounds=3"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def play(server: Server, *more: str, matches: int = 2, players: tuple[str, ...] = ()) -> Path:
    named = players or ("api", "tit_for_tat")
    overrides = (*SETTINGS, "api.model=m", f"api.base_url={server.url}", ROUNDS, *more)
    return run_tournament(Request("prisoners_dilemma", named, overrides, matches))


def summary(folder: Path) -> dict[str, Any]:
    write_page(folder)
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def test_a_model_behind_an_api_plays_and_is_priced() -> None:
    with Server(answer=lambda body: "B") as server:
        folder = play(server, "api.prices={input: 1, output: 10}")
        asked = len(server.bodies)
    name = f"api:m@{server.url}"
    matches = {(match.row, match.column, match.repetition): match for match in read_matches(folder)}
    assert list(matches[name, "tit_for_tat", 1].moves_row) == [1, 1, 1]
    assert asked == 2 * (3 + 3 + 2 * 3)  # two matches of each pair; both seats in self-play
    found = summary(folder)
    assert found["missing"] == 0
    assert found["outcomes"][name] == {
        "answered": asked, "illegal": 0, "refused": 0, "cut_off": 0, "failed": 0
    }  # fmt: skip
    usage = found["usage"][name]
    assert (usage["requests"], usage["input_tokens"]) == (asked, 100 * asked)
    assert usage["cost"] == pytest.approx(asked * 0.0002)
    for path in folder.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_without_prices_the_cost_is_unknown_and_illegal_answers_have_a_table_of_their_own() -> None:
    with Server(answer=lambda body: "what?") as server:
        found = summary(play(server, "api.prices={input: null, output: null}"))
    name = f"api:m@{server.url}"
    assert found["usage"][name]["cost"] is None
    assert found["outcomes"][name]["illegal"] > 0
    clean = {(pair["row"], pair["column"]): pair["matches"] for pair in found["clean"]["pairs"]}
    assert clean == {("tit_for_tat", "tit_for_tat"): 2}


def test_faults_lose_no_match() -> None:
    with Server(every_third, answer=lambda body: "A", hang=0.1) as server:
        folder = play(server, "api.deadline=10", "api.tries=50")
        good = server.made[""]
    assert good == 24
    found = summary(folder)
    assert found["missing"] == 0
    (used,) = found["usage"].values()
    faults = sum(server.made.values()) - good
    assert used["retries"] == faults > 0


def test_matches_without_an_answer_are_missing_and_played_by_the_next_command() -> None:
    broken = {"now": True}
    faults = lambda number: "server error" if broken["now"] and number >= 4 else ""  # noqa: E731
    with Server(faults) as server:
        folder = play(server, "api.tries=2")
        found = summary(folder)
        # No match with the model gets beyond its first rounds.
        assert found["missing"] == 3 * 2 == sum(found["missing_reasons"].values())
        assert {(m.row, m.column) for m in read_matches(folder)} == {("tit_for_tat", "tit_for_tat")}
        player = f"api:m@{server.url}"
        assert found["outcomes"][player]["failed"] == 6
        assert found["outcomes"][player]["illegal"] == 0
        broken["now"] = False
        run_tournament(Request(resume=folder))
        assert server.made[""] == 24  # Answers from before are not asked for again.
    found = summary(folder)
    assert (found["missing"], found["missing_reasons"]) == (0, {})
    assert found["outcomes"][player]["failed"] == 0
    keys = [match.key for match in read_matches(folder)]
    assert len(keys) == len(set(keys))


def test_a_budget_ends_between_batches_and_can_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comity.evaluation.tournament.schedule.BUDGET_BATCH", 2)
    prices = "api.prices={input: 1000, output: 1000}"  # 0.11 dollars an answer
    with Server() as server:
        with pytest.raises(BudgetReachedError, match=r"budget of \$0\.5 is reached"):
            play(server, prices, "api.budget=0.5")
        folder = only_folder(Path("tournaments"))
        played = list(read_matches(folder))
        before = len(server.bodies)
        assert played and summary(folder)["missing"] > 0
        text = (folder / "config.yaml").read_text()
        assert load_config(folder / "config.yaml").api is not None
        (folder / "config.yaml").write_text(text.replace("budget: 0.5", "budget: 100"))
        run_tournament(Request(resume=folder))
        assert len(server.bodies) == 24 > before  # nothing was asked twice
    assert summary(folder)["missing"] == 0
    assert list(read_matches(folder))[: len(played)] == played


def test_a_server_that_is_not_there_is_told_before_anything_is_played() -> None:
    with Server() as server:
        url = server.url
    player = f"api:m@{url}"
    with pytest.raises(ComityError, match=r"127\.0\.0\.1"):
        run_tournament(Request("prisoners_dilemma", (player, "random"), SETTINGS))
    with pytest.raises(ComityError, match=r"127\.0\.0\.1"):
        run_exploit(ExploitRequest(player, "prisoners_dilemma", SETTINGS))
    assert not list(Path().iterdir())


def test_a_responder_is_trained_against_an_api() -> None:
    overrides = (
        *SETTINGS,
        f"model.name={tiny_folder('llama')}",
        *("model.dtype=float32", "model.device=cpu", "iterations=1", "matches=2"),
        *("adapter.rank=4", ROUNDS),
    )
    with Server(answer=lambda body: "A") as server:
        folder = run_exploit(
            ExploitRequest(f"api:org/m@{server.url}", "prisoners_dilemma", overrides, 1)
        )
    assert folder.name.startswith("exploit-m-prisoners-dilemma-")
    write_exploit_page(folder)
    found = json.loads((folder / "summary.json").read_text())
    assert found["victim"]["kind"] == "api" and found["victim_self_play"]["mean"] == 3
    usage = found["usage"][f"api:org/m@{server.url}"]
    assert usage["requests"] == len(server.bodies) and usage["output_tokens"] > 0
    outcomes = found["outcomes"][f"api:org/m@{server.url}"]
    assert outcomes["answered"] > 0 and found["missing_reasons"] == {}
    assert outcomes["illegal"] == outcomes["failed"] == 0
    assert found["clean_margin"] is None  # Every answer was a move.
    assert found["best_scripted"]["payoff"]["mean"] == 5 and "at least" in found["verdict"]
