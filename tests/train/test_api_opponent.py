"""Training against a model behind an API: records, resuming, budget, keys, configs."""

import json
import os
import re
import signal
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from comity.commands.run import run as run_experiment
from comity.config.api_schema import ApiConfig, PricesConfig
from comity.config.compose import compose
from comity.config.seats import api_settings
from comity.engines.api.usage import BudgetReachedError
from comity.errors import ComityError
from comity.rollout.match_runner import MissingMatchesError
from comity.runs.folder import read_conversations
from comity.train import train
from tests.forked import Forked
from tests.misbehaving_api import Server, completion, error, every_third
from tests.players.test_api_player import oracle, transcript
from tests.train.small import decisions, metrics, only_folder, overrides, small

KEY = "sk-a-key-that-must-not-be-found-42"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def against(server: Server, *more: str) -> list[str]:
    """Overrides: a learner against the model behind the server."""
    return [
        "seats=[learner,api]",
        "api=local",
        f"api.base_url={server.url}",
        "api.api_key_env=OPENAI_API_KEY",
        "api.backoff=0.001",
        *more,
    ]


def oracle_server(faults: Any = lambda number: "") -> Server:
    return Server(faults, lambda body: oracle(transcript(body["messages"])), hang=4.0)


def answers(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "api_answers.jsonl").read_text().splitlines()]


def without_requests(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Metrics but for the number of requests, which a resumed run repeats less of."""
    for row in rows:
        for key in ("requests", "retries"):
            row["api"].pop(key)
    return rows


def test_a_run_against_an_api_has_its_records_and_no_key(tmp_path: Path, capfd: Any):
    echoing = lambda body: error(f"wrong: {KEY}")  # noqa: E731
    told = iter([(500, echoing({})), completion(f"Your key is {KEY}")])
    with Server(answer=lambda body: next(told, "A")) as server:
        run = train(small(tmp_path, *against(server, "api.prices={input: 1, output: 10}")))
        assert server.authorizations == {f"Bearer {KEY}"}
        count = len(answers(run))
        assert count == 4 * 2 * 2 == len(server.bodies) - 1
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["api"] == {
        "answers": 4,
        "input_tokens": 400,
        "output_tokens": 40,
        "reasoning_tokens": 0,
        "cost": 0.0008,
        "requests": 5,
        "retries": 1,
        "outcomes": {"legal": 3, "illegal": 1, "refused": 0, "cut_off": 0},
        "missing": 0,
    }
    assert rows[0]["by_opponent"]["api"]["matches"] == 2
    mine = [d for d in decisions(run) if d.controller == "api"]
    assert len(mine) == 16 and {d.player for d in mine} == {f"api:local@{server.url}"}
    assert [d.text for d in mine if d.move < 0] == ["Your key is [key]"]
    for file in run.rglob("*"):
        if file.is_file():
            assert KEY.encode() not in file.read_bytes(), file
    talks = read_conversations(run / "conversations" / "000000.parquet")
    assert any(piece.text == "A" for talk in talks for piece in talk.pieces)
    page, summary = (
        (run / "report.html").read_text(),
        json.loads((run / "summary.json").read_text()),
    )
    (usage,) = summary["api"].values()
    assert 'id="api"' in page and usage["outcomes"] == {
        "legal": 15,
        "illegal": 1,
        "refused": 0,
        "cut_off": 0,
    }
    assert usage["models"] == ["local"] and usage["cost"] == pytest.approx(0.0032)
    said = "".join(capfd.readouterr())
    assert KEY not in said and "api: " in said and "1 retry" in said


def test_a_failed_run_resumes_with_what_is_missing_and_ends_with_equal_numbers(tmp_path: Path):
    with oracle_server() as server:
        whole = train(small(tmp_path / "whole", *against(server)), report=False)
    down = [True]
    with oracle_server(lambda number: "server error" if down[0] and number >= 7 else "") as server:
        settings = against(server, "api.tries=2")
        with pytest.raises(MissingMatchesError, match=r"resume the run .*--resume FOLDER"):
            train(small(tmp_path / "failed", *settings), report=False)
        run = only_folder(tmp_path / "failed")
        kept = len(answers(run))
        assert 0 < kept <= 7
        down[0], before = False, len(server.bodies)
        train(small(tmp_path / "failed", *settings), resume=run, report=False)
        assert len(server.bodies) - before == 16 - kept
    assert len({record["key"] for record in answers(run)}) == len(answers(run)) == 16
    assert without_requests(metrics(run)) == without_requests(metrics(whole))


@pytest.mark.slow
def test_a_killed_run_asks_only_for_what_is_missing(tmp_path: Path):
    """SIGKILL in the middle of play, at a server that fails 30 % of the time."""
    with oracle_server(every_third) as server:
        server.latency = 0.05
        given = overrides(tmp_path, *against(server, "iterations=2", "matches=4"))
        code = (
            "import sys; from comity.train import train; from comity.config.compose import compose;"
            "train(compose('ipd', sys.argv[1:]), report=False)"
        )
        child = Forked(("-c", code, *given), os.environ)
        began = time.monotonic()
        while server.made[""] < 6 and time.monotonic() - began < 120:
            time.sleep(0.01)
        child.kill()
        child.communicate(timeout=120)
        assert child.returncode == -signal.SIGKILL
        run = only_folder(tmp_path)
        whole_lines = (run / "api_answers.jsonl").read_bytes().count(b"\n")
        with (run / "api_answers.jsonl").open("ab") as log:
            log.write(b'{"key": "half a li')
        server.latency, good = 0.0, server.made[""]
        train(compose("ipd", given), resume=run, report=False)
        # Answers on their way to the killed process are lost; all others are found.
        assert server.made[""] - good == 16 - whole_lines
    records = answers(run)
    assert len({record["key"] for record in records}) == len(records) == 16
    mine = [d for d in decisions(run) if d.controller == "api"]
    assert len(mine) == len({(d.iteration, d.match, d.round) for d in mine}) == 16


def test_a_budget_stops_before_a_batch_and_a_larger_one_continues(tmp_path: Path):
    priced = ("api.prices={input: 1000, output: 0}", "api.budget=0.5")  # 0.1 dollars an answer
    with oracle_server() as server:
        with pytest.raises(BudgetReachedError, match=r"the budget of \$0\.5 is reached \(\$0\.8"):
            train(small(tmp_path, *against(server, *priced)), report=False)
        assert len(server.bodies) == 8  # Two iterations of four answers.
        run = only_folder(tmp_path)
        config = run / "config.yaml"
        config.write_text(re.sub(r"budget: 0\.5", "budget: 5", config.read_text()))
        train(small(tmp_path, *against(server, *priced)), resume=run, report=False)
        assert len(server.bodies) == 16 and len(metrics(run)) == 4


def test_a_cross_play_has_models_behind_apis(tmp_path: Path):
    with oracle_server() as server:
        seat = f"api:fake@{server.url}"
        given = overrides(
            tmp_path,
            "seats=[learner,base]",
            "iterations=1",
            f"crossplay={{players: [learner, '{seat}', tit_for_tat], matches: 2}}",
        )
        study = run_experiment(compose("ipd", given))
        # Against the learner, itself and tit for tat, 2 matches of 2 rounds each.
        assert len(server.bodies) == 2 * 2 * (1 + 2 + 1) == len(answers(study))
    page = (study / "report.html").read_text()
    assert "api:fake@" in page


SEATS = {
    "api": ("gpt-4o-mini", "https://api.openai.com/v1", 0.15),
    "api:other": ("other", "https://api.openai.com/v1", None),
    "api:a/b:free@http://h/v1": ("a/b:free", "http://h/v1", None),
}


@pytest.mark.parametrize("seat", SEATS)
def test_a_seat_takes_the_block_s_settings_but_its_own(seat: str):
    config = compose("", [f"seats=[learner,{seat}]", "api=gpt-4o-mini", "api.tries=3"])
    found = api_settings(config.seats[1], config.api)
    assert (found.model, found.base_url, found.prices.input) == SEATS[seat] and found.tries == 3


PRICED = {
    ("gpt-4o-mini", "api:gpt-4o-mini@https://proxy.example/v1"): None,  # another provider
    ("gpt-4o-mini", "api:gpt-4o-mini@https://api.openai.com/v1"): 0.15,
    ("gpt-4o-mini", "api:mine@http://127.0.0.1:8080/v1"): None,
    ("local", "api:mine@http://127.0.0.1:8080/v1"): 0.0,
    ("local", "api:mine@http://localhost:8000/v1"): 0.0,
    ("local", "api:mine"): 0.0,
    ("local", "api:mine@https://api.openai.com/v1"): None,
}
"""What a million input tokens of a seat cost, by the option of `api` and the seat."""


@pytest.mark.parametrize(("option", "seat"), PRICED)
def test_prices_are_those_of_a_model_at_an_endpoint_or_of_this_machine(option: str, seat: str):
    config = compose("", [f"seats=[learner,{seat}]", f"api={option}"])
    assert api_settings(config.seats[1], config.api).prices.input == PRICED[option, seat]


def test_a_model_and_an_endpoint_in_the_name_keep_every_other_setting():
    block = ApiConfig(
        model="m",
        base_url="http://localhost:1/v1",
        parameters={"seed": 1},
        system="s",
        api_key_env="MINE",
        attempts=2,
        structured=True,
        prices=PricesConfig(1.0, 0.5, 2.0),
        budget=3.0,
        requests_per_minute=4.0,
        tokens_per_minute=5.0,
        concurrency=6,
        deadline=7.0,
        tries=9,
        backoff=10.0,
    )
    plain = ApiConfig()
    set_here = [one.name for one in fields(block)]
    assert all(getattr(block, name) != getattr(plain, name) for name in set_here)
    found = api_settings("api:other@http://127.0.0.1:2/v1", block)
    assert found == replace(block, model="other", base_url="http://127.0.0.1:2/v1")


def test_a_mapping_sets_anything():
    seat = "{name: api, model: m, base_url: 'http://h/v1', parameters: {seed: 1}, deadline: 5}"
    config = compose("", [f"seats=[learner,{seat}]"])
    found = api_settings(config.seats[1], config.api)
    assert (found.model, found.parameters, found.deadline) == ("m", {"seed": 1}, 5.0)


WRONG = {
    "seats=[learner,api]": "needs a model behind an API: choose one of `comity list apis`",
    "seats=[learner,'api:@http://h/v1']": "write api:MODEL@BASE_URL",
    "seats=[learner,api:m@ftp://h]": "is not a URL such as",
    "seats=[learner,{name: api, modle: m}]": "did you mean model",
    "seats=[learner,{name: api, model: m, tries: few}]": "tries",
    "seats=[learner,{name: api, model: m, tries: 0}]": "api.tries: 0 must be at least 1",
    "seats=[learner,{name: api, model: m, budget: 1}]": "budget needs prices",
    "seats=[learner,{name: api, model: m, parameters: {n: 2}}]": "every decision has one answer",
}


@pytest.mark.parametrize("override", WRONG)
def test_wrong_settings_are_one_line_before_anything_is_played(override: str, tmp_path: Path):
    with pytest.raises(ComityError, match=re.escape(WRONG[override]).replace(r"\ ", " ")) as found:
        train(compose("ipd", [override, f"output={tmp_path}"]))
    assert "\n" not in str(found.value) and not list(tmp_path.iterdir())


def test_a_missing_key_and_a_missing_server_leave_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ComityError, match=r"no OpenAI-compatible server answers at http://127"):
        train(small(tmp_path, "seats=[learner,api:m@http://127.0.0.1:9/v1]"))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ComityError, match="set OPENAI_API_KEY in the environment"):
        train(small(tmp_path, "seats=[learner,api]", "api=gpt-4o"))
    with pytest.raises(ComityError, match="exact needs the probabilities of all answers"):
        train(compose("memory-one", ["algorithm=exact", "seats=[learner,api]", "api=local"]))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")
def test_the_default_model_trains_against_a_server(tmp_path: Path):
    with oracle_server(every_third) as server:
        config = compose("smoke", [*against(server), f"output={tmp_path}", "iterations=1"])
        run = train(config)
        assert (run / "report.html").is_file() and len(answers(run)) >= 2
    mine = [d for d in decisions(run) if d.controller == "api"]
    assert mine and all(d.parse_status == "legal" for d in mine)
