"""An OpenAI-compatible server on loopback that misbehaves by plan.

`Server(faults)` asks `faults(number)` for every chat request, numbered from 0 in order of arrival;
the result is one of `FAULTS`, or "" for a good answer. It counts what it was sent and what it
answered.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]

FAULTS = (
    *("rate limit", "server error", "time-out", "half an answer", "not JSON", "no choices"),
    *("no content", "too large", "redirect", "content type"),
)
USAGE = {"prompt_tokens": 100, "completion_tokens": 10}
LARGE = b'{"choices": "' + b"x" * 20_000_000 + b'"}'


def completion(content: str | None, finish: str = "stop", **more: Any) -> Json:
    """A chat completion; `more`: other keys of the message."""
    message = {"role": "assistant", "content": content, **more}
    return {
        "id": "a",
        "object": "chat.completion",
        "model": "fake-1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": USAGE,
    }


def error(message: str, **more: Any) -> Json:
    return {"error": {"message": message, "type": "error", "param": None, "code": None, **more}}


SLOW = ("time-out", "too large")


def every_third(number: int, quick: int = 3) -> str:
    """30 % faults of every kind, no two in a row; the `SLOW` ones are `quick` times rarer."""
    plan = [*(kind for kind in FAULTS if kind not in SLOW)] * quick + [*SLOW]
    return plan[number // 10 % len(plan)] if number % 10 in (0, 3, 6) else ""


class Server:
    """The server; a context manager. `answer(body)` is the content, or a whole (status, JSON)."""

    def __init__(
        self,
        faults: Callable[[int], str] = lambda number: "",
        answer: Callable[[Json], Any] = lambda body: "A",
        latency: float = 0.0,
        hang: float = 0.3,
        retry_after: str = "0.01",
    ) -> None:
        self.faults, self.answer, self.latency, self.hang = faults, answer, latency, hang
        self.retry_after = retry_after
        self.bodies: list[Json] = []
        self.authorizations: set[str] = set()
        self.made: Counter[str] = Counter()
        """Requests by fault; "" are good answers."""
        self.at_once = 0
        """Most requests at one time."""
        self._running = 0
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"server_of": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def begin(self, body: Json, authorization: str) -> str:
        with self._lock:
            fault = self.faults(len(self.bodies))
            self.bodies.append(body)
            self.authorizations.add(authorization)
            self.made[fault] += 1
            self._running += 1
            self.at_once = max(self.at_once, self._running)
        return fault

    def end(self) -> None:
        with self._lock:
            self._running -= 1


class _Handler(BaseHTTPRequestHandler):
    server_of: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._send(200, json.dumps({"object": "list", "data": []}).encode())

    def do_POST(self) -> None:
        server = self.server_of
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/elsewhere"):
            self._send(200, json.dumps(completion("B")).encode())
            return
        fault = server.begin(body, self.headers.get("authorization", ""))
        try:
            time.sleep(server.latency)
            self._respond(fault, body)
        except OSError:  # The client gave up.
            self.close_connection = True
        finally:
            server.end()

    def _respond(self, fault: str, body: Json) -> None:
        server = self.server_of
        good = json.dumps(completion("A")).encode()
        if fault == "rate limit":
            said = json.dumps(error("slow down", code="rate_limit_exceeded")).encode()
            self._send(429, said, **{"retry-after": server.retry_after})
        elif fault == "server error":
            self._send(500, json.dumps(error("oops")).encode())
        elif fault == "time-out":
            time.sleep(server.hang)
            self._send(200, good)
        elif fault == "half an answer":
            self._send(200, good[: len(good) // 2], length=len(good))
            self.close_connection = True
        elif fault == "not JSON":
            self._send(200, good[: len(good) // 2])
        elif fault == "no choices":
            self._send(200, json.dumps({**completion("A"), "choices": []}).encode())
        elif fault == "no content":
            self._send(200, json.dumps(completion(None)).encode())
        elif fault == "too large":
            self._send(200, LARGE)
        elif fault == "redirect":
            self._send(307, b"", location="/v1/elsewhere")
        elif fault == "content type":
            self._send(200, b"<html>Welcome</html>", kind="text/html")
        else:
            found = server.answer(body)
            status, found = found if isinstance(found, tuple) else (200, found)
            found = found if isinstance(found, dict) else completion(found)
            self._send(status, json.dumps(found).encode())

    def _send(
        self,
        status: int,
        body: bytes,
        kind: str = "application/json",
        length: int | None = None,
        **headers: str,
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
