"""The client of an endpoint against a server on loopback that misbehaves."""

import json
import socket
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from comity.engines.api.answer_log import AnswerLog, answer_key
from comity.engines.api.client import ApiClient, ApiFailureError
from comity.engines.api.faults import FatalApiError, retry_after
from comity.engines.api.outcomes import Completion, FaultyAnswerError, read_completion
from comity.engines.api.settings import Endpoint, Prices
from comity.engines.api.usage import BudgetReachedError, Totals, Usage, describe
from comity.engines.event_loop import wait
from comity.errors import ComityError
from tests.misbehaving_api import FAULTS, Server, completion, error

KEY = "sk-very-secret-key-0123456789"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def endpoint(server: Server, **more: Any) -> Endpoint:
    quick = {"backoff": 0.001, "deadline": 30.0, **more}
    return Endpoint("fake-1", server.url, **quick)


def ask(client: ApiClient, count: int = 1, first: int = 0) -> Sequence[Completion]:
    """Answers to so many requests at once, in different matches."""
    client.check_budget()
    body = client.body([{"role": "user", "content": "A or B?"}], {})
    return wait(
        client.loop.start([client.ask(body, (first + n, 0), {"n": n}) for n in range(count)])
    )


def made(clients: list[ApiClient], *given: Any, **more: Any) -> ApiClient:
    clients.append(ApiClient(*given, **more))
    return clients[-1]


def test_exactly_the_configured_parameters_are_sent(clients):
    parameters = {"max_completion_tokens": 5, "reasoning_effort": "low", "extra": {"deep": [1]}}
    with Server() as server:
        (answer,) = ask(made(clients, endpoint(server, parameters=parameters)))
        assert server.bodies == [
            {
                "model": "fake-1",
                "messages": [{"role": "user", "content": "A or B?"}],
                **parameters,
            }
        ]
        assert server.authorizations == {f"Bearer {KEY}"}
    assert answer == Completion("A", "answered", "stop", Usage(100, 0, 10, 0), "fake-1")


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_repeated_and_counted(fault: str, clients):
    with Server(lambda number: fault if number < 2 else "", hang=1.5) as server:
        deadline = 1.0 if fault == "time-out" else 30.0
        client = made(clients, endpoint(server, deadline=deadline))
        (answer,) = ask(client)
        assert (answer.text, answer.status) == ("A", "answered")
        assert server.made[fault] == 2 and server.made[""] == 1
    assert sum(client.used.retries.values()) == 2 and client.used.requests == 3
    assert client.used.answers == 1
    assert len(set(client.used.retries)) == 1  # One kind of fault has one name.


def test_after_all_tries_there_is_no_answer(clients):
    with Server(lambda number: "server error" if number else "") as server:
        client = made(clients, endpoint(server, tries=3))
        ask(client)
        with pytest.raises(ApiFailureError, match=r"no answer in 3 tries, the last: status 500 "):
            ask(client, first=1)
        assert client.used.failed == 1 and len(client.log) == 1


def test_a_429_is_waited_out_and_shrinks_the_number_of_requests_at_once(clients):
    with Server(lambda number: "rate limit" if number == 0 else "", retry_after="0.2") as server:
        client = made(clients, endpoint(server, deadline=5))
        began = datetime.now(UTC)
        ask(client)
        assert (datetime.now(UTC) - began).total_seconds() >= 0.2
        assert client.pacing.limit == 8


def test_requests_go_out_at_once_up_to_the_most(clients):
    with Server(latency=0.05) as server:
        ask(made(clients, endpoint(server, concurrency=4, deadline=10)), count=20)
        assert 2 <= server.at_once <= 4


ONE_LINE = {
    "parameter": (
        (400, error("Unsupported value: 'temperature' does not support 0.7", param="temperature")),
        "fake-1 refuses the parameter 'temperature'; remove it from api.parameters",
    ),
    "parameter by words": (
        (400, error("Unsupported parameter: 'top_p'. Use 'temperature' instead.")),
        "fake-1 refuses the parameter 'top_p'; remove it",
    ),
    "quota": (
        (429, error("You exceeded your quota", code="insufficient_quota")),
        "the quota of the key for http://.* is exceeded; add credit",
    ),
    "key": (
        (401, error(f"Incorrect API key: {KEY}")),
        "refuses the key; correct OPENAI_API_KEY in the environment",
    ),
    "model": (
        (404, error("The model `fake-1` does not exist", code="model_not_found")),
        "does not know the model 'fake-1'; set api.model",
    ),
    "path": ((404, {"detail": "Not Found"}), "has no chat API .404.; correct api.base_url"),
    "length": (
        (400, error("too many tokens", code="context_length_exceeded")),
        "the conversation is too long for fake-1",
    ),
    "parameter by detail": (
        (422, {"detail": "Unexpected fields in the request: {'top_p'}"}),
        "fake-1 refuses the parameter 'top_p'; remove it .*Unexpected fields",
    ),
    "schema": (
        (400, error("unknown field: response_format")),
        "fake-1 has no structured outputs; set api.structured=false: unknown field",
    ),
    "detail": (
        (400, {"detail": "Server is pinned to 'b'"}),
        "status 400.: Server is pinned to 'b'",
    ),
    "other": ((422, error("no")), "refuses the request .status 422.: no"),
}


@pytest.mark.parametrize("case", ONE_LINE)
def test_what_no_repetition_helps_stops_at_once_with_one_line(case: str, clients):
    response, says = ONE_LINE[case]
    with Server(answer=lambda body: response) as server:
        settings = endpoint(server, parameters={"temperature": 0.7, "top_p": 1})
        client = made(clients, settings)
        with pytest.raises(FatalApiError, match=says) as raised:
            ask(client)
        assert len(server.bodies) == 1
    assert "\n" not in str(raised.value) and KEY not in str(raised.value)


def test_a_day_s_wait_stops_at_once(clients):
    with Server(lambda number: "rate limit", retry_after="86400") as server:
        with pytest.raises(FatalApiError, match=r"asks to wait 24\.0 hours; continue later"):
            ask(made(clients, endpoint(server)))
        assert len(server.bodies) == 1


def test_no_server_and_another_protocol_are_one_clear_line(clients):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    client = made(clients, Endpoint("m", nobody, backoff=0.001))
    for attempt in (client.check_server, lambda: ask(client)):
        with pytest.raises(ComityError, match="no OpenAI-compatible server answers at http") as it:
            attempt()
        assert "start it, or correct api.base_url" in str(it.value)
    with socket.create_server(("127.0.0.1", 0)) as strange:

        def greet() -> None:
            for _ in range(6):
                talking, _ = strange.accept()
                with talking:
                    talking.recv(10)
                    talking.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        threading.Thread(target=greet, daemon=True).start()
        url = f"http://127.0.0.1:{strange.getsockname()[1]}/v1"
        client = made(clients, Endpoint("m", url, backoff=0.001))
        with pytest.raises(ComityError, match="no OpenAI-compatible server answers"):
            client.check_server()
    with Server(lambda number: "content type") as pages:
        client = made(clients, endpoint(pages, tries=3))
        client.check_server()  # It lists models.
        with pytest.raises(FatalApiError, match=r"no usable answer in 3 tries.*content type"):
            ask(client)


def test_a_key_in_an_answer_or_an_error_is_redacted(clients, tmp_path: Path):
    with Server(answer=lambda body: f"your key is {KEY}") as server:
        client = made(clients, endpoint(server), AnswerLog(tmp_path / "log.jsonl"))
        assert ask(client)[0].text == "your key is [key]"
    assert KEY not in (tmp_path / "log.jsonl").read_text()


def test_keys_come_from_the_environment_only(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ComityError, match="must not contain credentials"):
        Endpoint("m", f"https://user:{KEY}@example.com/v1")
    with pytest.raises(ComityError, match="must not contain credentials") as raised:
        Endpoint("m", f"https://example.com/v1?key={KEY}")
    assert KEY not in str(raised.value)
    with pytest.raises(ComityError, match="does not belong in a config"):
        Endpoint("m", parameters={"api_key": KEY})
    monkeypatch.delenv("OPENAI_API_KEY")
    assert Endpoint("m", "http://127.0.0.1:1/v1").key() == "no-key"
    with pytest.raises(ComityError, match="needs a key: set OPENAI_API_KEY in the environment"):
        Endpoint("m").key()


OUTCOMES = {
    "answered": (completion("A"), "A", "answered"),
    "empty": (completion(""), "", "answered"),
    "refused": (completion(None, refusal="I will not"), "I will not", "refused"),
    "filtered": (completion("I wo", "content_filter"), "I wo", "refused"),
    "cut off": (completion("I would", "length"), "I would", "cut_off"),
    "nothing but thoughts": (completion(None, "length"), "", "cut_off"),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_what_an_answer_turned_out_to_be(case: str):
    payload, text, status = OUTCOMES[case]
    found = read_completion(payload)
    assert (found.text, found.status) == (text, status)


def test_no_content_without_a_reason_is_a_fault_until_the_last_try():
    with pytest.raises(FaultyAnswerError, match="no content"):
        read_completion(completion(None))
    assert read_completion(completion(None), last_try=True).status == "cut_off"
    spent = {**completion(None), "usage": {"completion_tokens_details": {"reasoning_tokens": 9}}}
    spent["usage"] |= {"prompt_tokens": 1, "completion_tokens": 9}
    assert read_completion(spent).status == "cut_off"


@pytest.mark.parametrize(
    "payload",
    [
        *(None, [], {}, {"choices": None}, {"choices": []}, {"choices": [{}]}, {"choices": [1]}),
        *({"choices": [{"message": {"content": [1]}}]}, {"choices": {"0": {}}}),
    ],
)
def test_what_is_no_completion_is_a_fault(payload: Any):
    with pytest.raises(FaultyAnswerError):
        read_completion(payload)


def test_half_surrogates_do_not_reach_files():
    assert read_completion(completion("a\ud800b")).text == "a?b"


def test_retry_after_in_seconds_and_as_a_date():
    now = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
    assert retry_after({}) is None
    assert retry_after({"retry-after": "3"}) == 3.0
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": "Sat, 31 Jan 2026 12:00:30 GMT"}, now) == 30.0
    assert retry_after({"retry-after": "Sat, 31 Jan 2026 11:00:00 GMT"}, now) == 0.0
    for strange in ("soon", "nan", "inf", ""):
        assert retry_after({"retry-after": strange}) is None


def test_cost_by_hand():
    usage = Usage(input=1_000, cached=400, output=50, reasoning=30)
    assert usage.cost(Prices(2.0, 0.5, 8.0)) == pytest.approx((600 * 2 + 400 * 0.5 + 50 * 8) / 1e6)
    assert usage.cost(Prices(2.0, None, 8.0)) == pytest.approx((1000 * 2 + 50 * 8) / 1e6)
    assert usage.cost(Prices(2.0)) is None
    totals = Totals()
    totals.add("answered", usage, 0.25)
    totals.add("refused", None, None)
    assert totals.known_cost is None and "cost unknown" in describe(totals)


def test_a_budget_stops_before_the_next_batch(clients, tmp_path: Path):
    prices = Prices(1000.0, None, 1000.0)  # 0.11 dollars an answer
    with Server() as server:
        log = AnswerLog(tmp_path / "log.jsonl")
        client = made(clients, endpoint(server, prices=prices, budget=0.3), log)
        ask(client, 2)
        ask(client, 2, first=2)
        with pytest.raises(BudgetReachedError, match=r"the budget of \$0\.3 is reached \(\$0\.44"):
            ask(client, 1, first=4)
        assert len(server.bodies) == 4
        # Spent is spent: the log counts for whoever continues.
        again = made(clients, endpoint(server, prices=prices, budget=0.3), AnswerLog(log.path))
        with pytest.raises(BudgetReachedError):
            again.check_budget()
        larger = made(clients, endpoint(server, prices=prices, budget=1), AnswerLog(log.path))
        ask(larger, 5)
        assert len(server.bodies) == 5
    with pytest.raises(ComityError, match="budget needs prices"):
        Endpoint("m", budget=1.0)


def test_the_log_answers_what_it_knows_and_survives_a_half_written_line(clients, tmp_path: Path):
    path = tmp_path / "log.jsonl"
    with Server() as server:
        ask(made(clients, endpoint(server), AnswerLog(path)), 5)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:3]) + lines[3][: len(lines[3]) // 2])
        log = AnswerLog(path)
        assert len(log) == 3 and log.totals(f"fake-1@{server.url}").answers == 3
        client = made(clients, endpoint(server), log)
        assert [one.text for one in ask(client, 5)] == ["A"] * 5
        assert len(server.bodies) == 7  # 5, and 2 again.
        # Other parameters are another request.
        ask(made(clients, endpoint(server, parameters={"seed": 1}), log), 5)
        assert len(server.bodies) == 12
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({record["key"] for record in records}) == len(records) == 10


def test_a_key_of_the_log_is_of_the_whole_request_and_its_place():
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    keys = {
        answer_key(body, "http://a/v1", (0, 1)),
        answer_key(body, "http://b/v1", (0, 1)),
        answer_key(body, "http://a/v1", (0, 2)),
        answer_key(body, "http://a/v1", (0, "1")),
        answer_key({**body, "temperature": 1}, "http://a/v1", (0, 1)),
        answer_key({**body, "model": "n"}, "http://a/v1", (0, 1)),
    }
    assert len(keys) == 6
    swapped = dict(reversed(body.items()))
    assert answer_key(swapped, "http://a/v1", (0, 1)) == answer_key(body, "http://a/v1", (0, 1))
