"""What servers other than OpenAI's say: other reasons to stop, errors in good responses, usage
that is none, and logs and settings that were written by others."""

import json
from pathlib import Path
from typing import Any

import pytest

from comity.engines.api.answer_log import AnswerLog, answer_key
from comity.engines.api.client import ApiClient
from comity.engines.api.faults import FatalApiError
from comity.engines.api.outcomes import Completion, FaultyAnswerError, read_completion
from comity.engines.api.settings import Endpoint, Prices, check_base_url
from comity.engines.api.usage import BudgetReachedError, Usage
from comity.errors import ComityError
from tests.misbehaving_api import Server, completion

KEY = "sk-very-secret-key-0123456789"
TOOL = {"id": "1", "type": "function", "function": {"name": "choose", "arguments": '{"move": "A"}'}}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def client_of(clients: list[ApiClient], server: Server, **more: Any) -> ApiClient:
    log = more.pop("log", None)
    settings = {"backoff": 0.001, "deadline": 30.0, "tries": 3, **more}
    clients.append(ApiClient(Endpoint("fake-1", server.url, **settings), log))
    return clients[-1]


def ask(client: ApiClient, number: int = 0) -> Completion:
    client.check_budget()
    body = client.body([{"role": "user", "content": "A or B?"}], {})
    return client.loop.run(client.ask(body, (number, 0), {"n": number}))


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        *((one, "cut_off") for one in ("LENGTH", "max_tokens", "MAX_TOKENS", "model_length")),
        *((one, "refused") for one in ("SAFETY", "content-filter", "content_filter: violence")),
        *((one, "answered") for one in ("stop", "STOP", "eos", "end_turn", "lengthy", None)),
    ],
)
def test_a_reason_to_stop_in_the_words_of_other_servers(reason: str | None, status: str):
    found = read_completion(completion("A", reason))  # type: ignore[arg-type]
    assert (found.text, found.status, found.finish_reason) == ("A", status, reason or "")


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource", "ERROR"])
def test_what_a_server_broke_off_is_no_answer(reason: str, clients):
    """A transport failure is asked again, and is never behaviour, even where it can be read."""
    with Server(
        answer=lambda body: completion("A", reason) if len(server.bodies) < 3 else "B"
    ) as server:
        client = client_of(clients, server)
        assert ask(client).text == "B"
        assert client.used.retries == {"interrupted": 2} and client.used.answers == 1
    half = completion("A")
    half["choices"][0]["error"] = {"code": 502, "message": "the provider left"}
    with pytest.raises(FaultyAnswerError):
        read_completion(half)


@pytest.mark.parametrize("key", ["tool_calls", "function_call"])
def test_a_tool_that_nobody_offered_is_an_answer_without_a_text(key: str):
    found = read_completion(completion(None, "tool_calls", **{key: [TOOL]}))
    assert (found.text, found.status) == ("", "answered")
    with pytest.raises(FaultyAnswerError):
        read_completion(completion(None, **{key: []}))


def test_an_error_in_a_good_response_is_an_error(clients):
    busy = {"error": {"code": 429, "message": "busy"}}
    with Server(answer=lambda body: busy if len(server.bodies) < 3 else "A") as server:
        client = client_of(clients, server)
        assert ask(client).text == "A"
        assert client.used.retries == {"status 429": 2} and client.pacing.limit < 16
    spent = {"error": {"code": "insufficient_quota", "message": f"none left for {KEY}"}}
    with Server(answer=lambda body: spent) as server:
        with pytest.raises(FatalApiError, match=r"the quota of the key .* is exceeded") as raised:
            ask(client_of(clients, server))
        assert len(server.bodies) == 1 and KEY not in str(raised.value)
    with (
        Server(answer=lambda body: {"error": "the model is loading"}) as server,
        pytest.raises(FatalApiError, match=r"status 500 \(the model is loading\)"),
    ):
        ask(client_of(clients, server))


@pytest.mark.parametrize(
    ("counted", "usage"),
    [
        ({"prompt_tokens": 100.0, "completion_tokens": 2}, Usage(100, 0, 2, 0)),
        ({"prompt_tokens": 100, "completion_tokens": 0}, Usage(100, 0, 0, 0)),
        ({"prompt_tokens": 100, "completion_tokens": None}, None),
        ({"prompt_tokens": -100, "completion_tokens": 2}, None),
        ({"prompt_tokens": "100", "completion_tokens": 2}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": 100, "completion_tokens": float("nan")}, None),
        ({"prompt_tokens": 10**400, "completion_tokens": 2}, None),
        ("much", None),
    ],
)
def test_usage_is_believed_where_both_numbers_are_some(counted: Any, usage: Usage | None, clients):
    """Half a count would be half a price."""
    with Server(answer=lambda body: {**completion("A"), "usage": counted}) as server:
        assert ask(client_of(clients, server)) == Completion(
            "A", "answered", "stop", usage, "fake-1"
        )


def test_a_budget_is_kept_where_a_server_forgets_to_count(clients, tmp_path: Path):
    prices = Prices(1000.0, None, 1000.0)  # 0.11 dollars an answer
    uncounted = {**completion("A"), "usage": None}
    settings = {"prices": prices, "budget": 0.4}
    with Server(answer=lambda body: "A" if len(server.bodies) % 2 else uncounted) as server:
        client = client_of(clients, server, **settings)
        for number in range(4):
            ask(client, number)
        with pytest.raises(BudgetReachedError, match=r"\$0\.44 spent"):
            ask(client, 5)
    with Server(answer=lambda body: uncounted) as server:
        client = client_of(clients, server, **settings)
        ask(client)
        with pytest.raises(BudgetReachedError, match="counts no tokens, so that"):
            ask(client, 1)
        assert len(server.bodies) == 1
        ask(client_of(clients, server), 1)  # Without a budget, the cost is just unknown.


@pytest.mark.parametrize(
    "damage",
    [
        {"usage": {"tokens": 3}},
        {"usage": {"input": "many", "cached": 0, "output": 1, "reasoning": 0}},
        {"cost": "dear"},
        {"cost": float("nan")},
        {"text": None},
    ],
)
def test_a_damaged_record_of_the_log_is_asked_for_again(damage: Any, clients, tmp_path: Path):
    path = tmp_path / "log.jsonl"
    with Server() as server:
        ask(client_of(clients, server, log=AnswerLog(path)))
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, **damage}) + "\n")
        log = AnswerLog(path, read_only=True)
        assert len(log) == 0 and log.find(answer_key({}, server.url, (0,))) is None
        assert ask(client_of(clients, server, log=AnswerLog(path))).text == "A"
        assert len(server.bodies) == 2
        assert len(AnswerLog(path)) == 1


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{KEY}@example.com:99999/v1",
        f"ftp://user:{KEY}@example.com/v1",
        f"http://us er:{KEY}@example.com/v1",
        f"user:{KEY}@example.com/v1",
        f"http://user:a/{KEY}@b@example.com:x/v1",
        f"http:///v1?key={KEY}",
        f"http:///v1#{KEY}",
        f"http://user:{KEY}@example.com/v1",
    ],
)
def test_a_wrong_url_does_not_show_its_credentials(url: str):
    with pytest.raises(ComityError, match="base_url") as raised:
        check_base_url(url)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"parameters": {"user": f"mine {KEY}"}},
        {"parameters": {"metadata": {KEY: 1}}},
        {"base_url": f"http://127.0.0.1:9/{KEY}/v1"},
        {"model": f"{KEY}/fake-1"},
    ],
)
def test_a_key_in_the_settings_is_refused(settings: dict[str, Any]):
    with pytest.raises(ComityError, match="the key in OPENAI_API_KEY stands in") as raised:
        ApiClient(Endpoint(**{"model": "m", "base_url": "http://127.0.0.1:9/v1", **settings}))
    assert KEY not in str(raised.value)
    with pytest.raises(ComityError, match=r"api\.parameters\.extra_headers is an option of the"):
        Endpoint("m", parameters={"extra_headers": {"authorization": KEY}})
