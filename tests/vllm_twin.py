"""A server that speaks as vLLM does where Comity asks it, with the local engine behind.

It samples on an engine of its own, with adapters loaded from the folders that it is told, so that
everything between a session and the server is used: requests, names, folders, replay.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np
import torch

from comity.engines.chat import ChatFormat
from comity.engines.grammar import GrammarCompiler
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model, load_tokenizer
from comity.engines.local.sampling import SampleRequest
from comity.engines.vllm.check import local_logprobs

CRASH = 599
"""The status by which the twin ends the server in front of it."""

IN_FRONT = f"""
import http.server, os, pathlib, sys, urllib.error, urllib.request

twin, folder, *arguments = sys.argv[1:]
given = dict(zip(arguments, arguments[1:]))
direct = urllib.request.build_opener(urllib.request.ProxyHandler({{}}))

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if self.command == "POST" else None
        kind = {{"Content-Type": "application/json"}}
        try:
            asked = urllib.request.Request(twin + self.path, body, kind)
            with direct.open(asked) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        if status == {CRASH}:
            os._exit(1)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_GET

    def log_message(self, *_):
        pass

assert "RANK" not in os.environ, "it takes itself for a rank"
direct.open(twin + "/start").read()
pathlib.Path(folder, "pids").open("a").write(f"{{os.getpid()}}\\n")
address = given["--host"], int(given["--port"])
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""
"""A server that asks the twin, started in a twentieth of the time that one of its own takes."""


def server_program(folder: Path, url: str) -> Path:
    """An `engine.python` whose server asks the twin at `url`; the servers' ids are in `pids`."""
    script, program = folder / "in_front.py", folder / "python"
    script.write_text(IN_FRONT)
    program.write_text(
        '#!/bin/sh\nif [ "$1" = -c ]; then exit 0; fi\nshift 2\n'
        f'exec "{sys.executable}" -IS "{script}" "{url}" "{folder}" "$@"\n'
    )
    program.chmod(0o755)
    return program


class VllmTwin:
    """State and answers of the server."""

    def __init__(self, engine: Engine, grammars: GrammarCompiler | None = None) -> None:
        self.engine = engine
        self.grammars = grammars
        self.loaded: list[str] = []
        """Adapters that were loaded, in order, also those unloaded since."""
        self.bodies: list[dict[str, Any]] = []
        """Completion requests."""
        self.divide: dict[int, list[int]] = {}
        """Tokens that are given as several others: another division of the same text."""
        self.old = False
        """Whether it ignores the tokens whose log-probabilities it is asked for."""
        self.processed = True
        """Whether log-probabilities are those at the request's temperature."""
        self.owner: str | None = "vllm"
        """Who serves the model; None: no server of language models."""
        self.max_tokens: int | None = None
        """Most tokens of a prompt and its answer."""
        self.max_rank = 16
        """Of an adapter."""
        self.without_adapters = False
        """Whether adapters have no effect."""
        self.vocabulary = engine.head.vocabulary
        self.tokenizer: Any = None
        self.cut: int | None = None
        """Tokens after which every answer ends."""
        self.failures = 0
        """New starts until the server works; before, it refuses completions and adapters."""
        self.starts = 0
        """Servers in front of it (`server_program`) that were started so far."""
        self.crash_at = 0
        """Number of the completion at which the server in front of it ends, from 1; 0: none."""
        self._lock = Lock()

    def forget(self) -> None:
        """Lose all adapters, as a server that was started again."""
        for name in list(self.engine.adapters.names):
            self.engine.adapters.remove(name)

    def get(self, path: str) -> tuple[int, Any]:
        if path == "/health":
            return (200 if self.failures <= 0 else 503), {}
        if path == "/start":
            with self._lock:
                self.forget()
                self.starts += 1
            return 200, {}
        if self.owner is None:
            return 404, {"error": {"message": "Not Found"}}
        base = {"id": "base", "owned_by": self.owner, "parent": None}
        return 200, {"object": "list", "data": [{**base, "max_model_len": self.max_tokens}]}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        with self._lock:
            if path == "/v1/load_lora_adapter":
                name = body["lora_name"]
                if self.failures > 0:
                    return 500, {"error": {"message": "EngineDeadError"}}
                if name in self.engine.adapters.names:
                    return 400, {"error": {"message": f"{name} is loaded already"}}
                rank = json.loads(Path(body["lora_path"], "adapter_config.json").read_text())["r"]
                if rank > self.max_rank:
                    return 500, {"error": {"message": f"LoRA rank {rank} is greater"}}
                self.engine.adapters.load(name, Path(body["lora_path"]))
                self.loaded.append(name)
                return 200, {}
            if path == "/v1/unload_lora_adapter":
                if body["lora_name"] not in self.engine.adapters.names:
                    return 404, {"error": {"message": f"{body['lora_name']} is not loaded"}}
                self.engine.adapters.remove(body["lora_name"])
                return 200, {}
            if path == "/detokenize":
                return 200, {"prompt": self.tokenizer.decode(body["tokens"])}
            if max(body["prompt"]) >= self.vocabulary:
                return 400, {"error": {"message": "Token id is out of vocabulary"}}
            longest = len(body["prompt"]) + body["max_tokens"]
            if self.max_tokens is not None and longest > self.max_tokens:
                return 400, {"error": {"message": "maximum context length"}}
            if "prompt_logprobs" in body:
                return 200, self._prompt_logprobs(body["prompt"], body["model"])
            return self._complete(body)

    def _prompt_logprobs(self, ids: list[int], model: str) -> Any:
        adapter = None if model == "base" or self.without_adapters else model
        found = local_logprobs(self.engine, adapter, ids)
        rows = [None, *({str(t): {"logprob": p}} for t, p in zip(ids[1:], found, strict=True))]
        return {"choices": [{"prompt_logprobs": rows}]}

    def _next_logprobs(self, body: dict[str, Any], adapter: str | None) -> tuple[int, Any]:
        tokens = body["logprob_token_ids"]
        if len(tokens) > 128 or body.get("logprobs") is None:
            return 400, {"error": {"message": f"{len(tokens)} tokens, or no logprobs"}}
        states = self.engine.hidden_states([body["prompt"]], adapter, gradients=False)
        logits = self.engine.head.logits(states.hidden[states.rows[0][-1:]])[0].detach()
        table = torch.log_softmax(logits / (body["temperature"] if self.processed else 1), dim=-1)
        given = {f"token_id:{token}": float(table[token]) for token in tokens}
        if self.old:
            given = {}
        return 200, {"choices": [{"logprobs": {"top_logprobs": [given]}}]}

    def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.failures > 0:
            self.forget()
            return 500, {"error": {"message": "EngineDeadError"}}
        self.bodies.append(body)
        if len(self.bodies) == self.crash_at:
            return CRASH, {}
        adapter = None if body["model"] == "base" else body["model"]
        if adapter is not None and adapter not in self.engine.adapters.names:
            return 404, {"error": {"message": f"The model `{adapter}` does not exist."}}
        if "logprob_token_ids" in body:
            return self._next_logprobs(body, adapter)
        session = self.engine.session()
        conversation = session.conversation(adapter)
        conversation.append(body["prompt"])
        regex = body.get("structured_outputs", {}).get("regex")
        matcher = None
        if regex is not None:
            assert self.grammars is not None
            matcher = self.grammars.compile(regex).start()
        request = SampleRequest(
            conversation,
            body["max_tokens"],
            frozenset(body.get("stop_token_ids", ())),
            np.random.default_rng(body["seed"]),
            body["temperature"],
            matcher=matcher,
        )
        drawn = session.sample([request])[0]
        ids = conversation.ids[len(body["prompt"]) :]
        logprobs = [0.0] * len(ids)
        for offset, value in zip(drawn.offsets, drawn.logprobs, strict=True):
            logprobs[offset] = value
        if not self.processed:
            plain = local_logprobs(self.engine, adapter, conversation.ids)
            logprobs = [float(value) for value in plain[len(body["prompt"]) - 1 :]]
        ids, logprobs = ids[: self.cut], logprobs[: self.cut]
        given = [
            (d, p) for t, p in zip(ids, logprobs, strict=True) for d in self.divide.get(t, [t])
        ]
        return 200, {
            "choices": [
                {
                    "token_ids": [token for token, _ in given],
                    "logprobs": {"token_logprobs": [value for _, value in given]},
                }
            ]
        }


def make_twin(folder: Path) -> VllmTwin:
    """A twin that serves the model in a folder, in float32."""
    chat = ChatFormat.from_tokenizer(load_tokenizer(str(folder)))
    twin = VllmTwin(Engine(load_model(str(folder), "float32", "cpu")), GrammarCompiler(chat))
    twin.tokenizer = chat.tokenizer
    return twin


@contextmanager
def serving(twin: VllmTwin, port: int = 0) -> Iterator[str]:
    """The twin behind HTTP; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(*twin.get(self.path))

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            self._answer(*twin.post(self.path, json.loads(self.rfile.read(length))))

        def _answer(self, status: int, found: Any) -> None:
            text = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            with suppress(OSError):  # Who asked may have been killed meanwhile.
                self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
