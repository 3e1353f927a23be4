"""The vLLM server that a config names, or one that is started here, and the checks of it."""

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from comity.config.schema import Config
from comity.config.seats import learner_of
from comity.engines.local.adapters.files import adapter_rank
from comity.engines.local.engine import Engine
from comity.engines.local.models import fetch
from comity.engines.vllm.adapters import KEPT, ServedAdapters
from comity.engines.vllm.check import (
    check_adapters,
    check_server,
    check_temperature,
    check_tokenizer,
)
from comity.engines.vllm.client import ServedBase, ServerLostError, VllmClient
from comity.engines.vllm.server import VllmServer
from comity.experiments.agent_plans import seat_adapters
from comity.learning.state.snapshots import find_adapters
from comity.runs.progress import say

WAIT = 1.0
"""Seconds between attempts to reach a server that was lost."""


def largest_rank(config: Config) -> int:
    """The largest rank of an adapter that plays: of learners, on seats, of an earlier run."""
    folders, pool = seat_adapters(config), config.opponent_pool
    if pool is not None and pool.initial_snapshots is not None:
        for name in {learner_of(seat) for seat in config.seats} - {None}:
            folders.update(find_adapters(Path(pool.initial_snapshots), str(name)))
    return max([config.adapter.rank, *map(adapter_rank, folders)])


class ServerBeside:
    """The server of a config, started here or by somebody else, and again after it was lost."""

    def __init__(self, engine: Engine, config: Config, tokenizer: Any, url: str | None) -> None:
        """`url`: of a running server; None: it is started here."""
        self.engine = engine
        self._url = url
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

        Starts the server unless it has a URL.
        """
        url = self._url or self._start().url
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
        if self._url is None:
            say(f"the vLLM server was lost (log: {self._log_before}); starting it again ...")
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
            rank=largest_rank(self._config),
            adapters=KEPT,
            options=settings.options,
            timeout=settings.timeout,
        )
        return self._server
