"""Which engine samples text and scores answers: this process, or a vLLM server beside it.

Runs in one process share the server, as they share the base model.
"""

import atexit
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from comity.config.schema import Config
from comity.engines.local.engine import Engine
from comity.engines.local.models import fetch
from comity.engines.vllm.adapters import KEPT, ServedAdapters
from comity.engines.vllm.check import (
    check_adapters,
    check_scoring,
    check_server,
    check_temperature,
    check_tokenizer,
)
from comity.engines.vllm.client import ServedBase, ServerLostError, VllmClient
from comity.engines.vllm.sampler import VllmSampler
from comity.engines.vllm.scorer import VllmScorer
from comity.engines.vllm.served_model import ServedModel
from comity.engines.vllm.server import VllmServer, check_server_program
from comity.errors import ComityError
from comity.runs.progress import say

WAIT = 1.0
"""Seconds between attempts to reach a server that was lost."""

_shared: dict[tuple[object, ...], tuple[ServedModel, "ServerBeside"]] = {}
"""Connections by their settings."""


def choose_text_engine(engine: Engine, config: Config, tokenizer: Any) -> int | None:
    """Let the config's engine sample the text of `engine`'s sessions, and score their answers.

    The first time, connects to the server or starts it. Returns the most tokens of a conversation
    on the server, None without a limit. Raises `ComityError` where there is no server, or one that
    computes something else.
    """
    settings = config.engine
    if settings.name == "local":
        engine.text_sampler = engine.scorer = None
        return None
    server = replace(settings, scored="local")  # The same one for both.
    key = (config.model.name, str(engine.dtype), config.adapter.rank, repr(server))
    if key not in _shared:
        disconnect(engine)  # From the server that it turns away from, as from another arm's.
        _shared[key] = _connect(engine, config, tokenizer)
    served, _ = _shared[key]
    engine.text_sampler = partial(VllmSampler(served).sample, engine)
    engine.scorer = None
    if settings.scored == "vllm":
        scorer = VllmScorer(served)
        check_scoring(scorer, engine)
        engine.scorer = partial(scorer.score, engine)
    return served.max_tokens


def check_text_engine(config: Config) -> None:
    """Raises `ComityError` where there is no server, and none that could be started.

    For before a model is loaded: what the server computes is compared by `choose_text_engine`.
    """
    settings = config.engine
    if settings.name == "local":
        return
    server = repr(replace(settings, scored="local"))
    if any(key[-1] == server for key in _shared):
        return  # If it was lost since, it is waited for when it is needed.
    if settings.url is not None:
        client = VllmClient(settings.url)
        try:
            client.model()
        finally:
            client.close()
    elif settings.python is not None:
        check_server_program(settings.python, config.adapter.rank)


@atexit.register
def disconnect(engine: Engine | None = None) -> None:
    """End servers that were started here, and leave those that go on without us.

    `engine`: the one whose server is meant; None: those of all.
    """
    for key, (served, beside) in list(_shared.items()):
        if engine is None or beside.engine is engine:
            del _shared[key]
            if not beside.close():
                with suppress(ComityError):  # It may have ended before.
                    served.close()


def _connect(engine: Engine, config: Config, tokenizer: Any) -> tuple[ServedModel, "ServerBeside"]:
    beside = ServerBeside(engine, config, tokenizer)
    try:
        client, base = beside.connect()
    except BaseException:
        beside.close(failed=True)
        raise
    adapters = ServedAdapters(client, base.name, beside.adapters)
    return ServedModel(client, adapters, beside.reconnect, base.max_tokens), beside


class ServerBeside:
    """The server of a config, started here or by somebody else, and again after it was lost."""

    def __init__(self, engine: Engine, config: Config, tokenizer: Any) -> None:
        self.engine = engine
        self._config = config
        self._tokenizer = tokenizer
        self._folder = Path(tempfile.mkdtemp(prefix="comity-vllm-"))
        given = config.engine.adapters
        self.adapters = self._folder / "adapters" if given is None else Path(given)
        """Folder through which adapters reach the server."""
        self._log = self._folder / "vllm.log"
        self._log_before = self._log.with_suffix(".before.log")
        self._server: VllmServer | None = None

    def close(self, failed: bool = False) -> bool:
        """End the server if it was started here; returns whether it was.

        `failed`: its log stays, because it says what went wrong.
        """
        if self._server is not None:
            self._server.close()
        shutil.rmtree(self._folder / "adapters" if failed else self._folder, ignore_errors=True)
        with suppress(OSError):  # It has the log.
            self._folder.rmdir()
        return self._server is not None

    def connect(self) -> tuple[VllmClient, ServedBase]:
        """A client of the server, and its base model, after all checks.

        Starts the server unless the config has a URL.
        """
        url = self._config.engine.url or self._start().url
        client, engine = VllmClient(url), self.engine
        try:
            base = client.model()
            check_server(client, base.name, engine)
            check_tokenizer(client, self._tokenizer, engine)
            check_temperature(client, base.name, engine)
            adapters = ServedAdapters(client, base.name, self.adapters)
            given = self._config.adapter
            shape = {"rank": given.rank, "alpha": given.alpha, "targets": given.targets}
            check_adapters(adapters, client, engine, shape)
        except BaseException:
            client.close()
            raise
        return client, base

    def reconnect(self, error: ServerLostError) -> tuple[VllmClient, ServedBase]:
        """The same after a failure: a new server, or the one at the URL as soon as it is back.

        Waits for that one as long as a server may take to start.
        """
        if self._config.engine.url is None:
            say(f"the vLLM server has ended (log: {self._log_before}); starting it again ...")
            return self.connect()
        say(f"{error}; waiting ...")
        end = time.monotonic() + self._config.engine.timeout
        while True:
            time.sleep(WAIT)
            try:
                return self.connect()
            except ServerLostError:
                if time.monotonic() > end:
                    raise

    def _start(self) -> VllmServer:
        if self._server is not None:
            self._server.close()
            self._log.replace(self._log_before)
        settings = self._config.engine
        assert settings.python is not None  # checked with the config
        say(f"starting vLLM from {settings.python} (log: {self._log}) ...")
        self._server = VllmServer(
            settings.python,
            fetch(self._config.model.name),
            dtype=str(self.engine.dtype).removeprefix("torch."),
            log=self._log,
            rank=self._config.adapter.rank,
            adapters=KEPT,
            options=settings.options,
            timeout=settings.timeout,
        )
        return self._server
