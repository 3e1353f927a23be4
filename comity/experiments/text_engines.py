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

from comity.config.schema import Config, EngineConfig
from comity.engines.local.engine import Engine
from comity.engines.local.models import fetch
from comity.engines.vllm.adapters import KEPT, ServedAdapters
from comity.engines.vllm.check import check_scoring, check_server, check_temperature
from comity.engines.vllm.client import ServerLostError, VllmClient
from comity.engines.vllm.sampler import VllmSampler
from comity.engines.vllm.scorer import VllmScorer
from comity.engines.vllm.served_model import ServedModel
from comity.engines.vllm.server import VllmServer
from comity.errors import ComityError
from comity.runs.progress import say

WAIT = 1.0
"""Seconds between attempts to reach a server that was lost."""

_shared: dict[tuple[object, ...], ServedModel] = {}


def choose_text_engine(engine: Engine, config: Config) -> None:
    """Let the config's engine sample the text of `engine`'s sessions, and score their answers.

    The first time, connects to the server or starts it. Raises `ComityError` where there is none,
    or one with another model.
    """
    settings = config.engine
    if settings.name == "local":
        engine.text_sampler = engine.scorer = None
        return
    server = replace(settings, scored="local")  # The same one for both.
    key = (config.model.name, str(engine.dtype), config.adapter.rank, repr(server))
    if key not in _shared:
        _shared[key] = _connect(engine, config, settings)
    served = _shared[key]
    engine.text_sampler = partial(VllmSampler(served).sample, engine)
    engine.scorer = None
    if settings.scored == "vllm":
        scorer = VllmScorer(served)
        check_scoring(scorer, engine)
        engine.scorer = partial(scorer.score, engine)


def _connect(engine: Engine, config: Config, settings: EngineConfig) -> ServedModel:
    """The model on the settings' server; everything of it ends with this process."""
    own = Path(tempfile.mkdtemp(prefix="comity-vllm-"))
    beside = ServerBeside(engine, config, own / "vllm.log")
    try:
        client, model = beside.connect()
    except BaseException:
        with suppress(OSError):  # A server's log stays: it says what went wrong.
            own.rmdir()
        raise
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    folder = own / "adapters" if settings.adapters is None else Path(settings.adapters)
    served = ServedModel(client, ServedAdapters(client, model, folder), beside.reconnect)
    if settings.url is not None:
        atexit.register(_leave, served)  # The server goes on without us.
    return served


class ServerBeside:
    """The server of a config, started here or by somebody else, and again after it was lost."""

    def __init__(self, engine: Engine, config: Config, log: Path) -> None:
        self._engine = engine
        self._config = config
        self._log, self._log_before = log, log.with_suffix(".before.log")
        self._server: VllmServer | None = None

    def connect(self) -> tuple[VllmClient, str]:
        """A client of the server, and the name of its base model, after a check of its weights.

        Starts the server unless the config has a URL.
        """
        url = self._config.engine.url or self._start().url
        client = VllmClient(url)
        try:
            model = client.model()
            check_server(client, model, self._engine)
            check_temperature(client, model, self._engine)
        except BaseException:
            client.close()
            raise
        return client, model

    def reconnect(self, error: ServerLostError) -> tuple[VllmClient, str]:
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
            dtype=str(self._engine.dtype).removeprefix("torch."),
            log=self._log,
            rank=self._config.adapter.rank,
            adapters=KEPT,
            options=settings.options,
            timeout=settings.timeout,
        )
        atexit.register(self._server.close)
        return self._server


def _leave(served: ServedModel) -> None:
    with suppress(ComityError):  # It may have ended before.
        served.close()
