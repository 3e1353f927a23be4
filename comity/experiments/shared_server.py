"""A vLLM server that several ranks ask, each for its own matches.

Every rank has one server: its own of `engine.url`, or the one that was started on its machine. The
first of the ranks that have the same server is in charge of it: it starts it, checks it, and loads
and unloads the adapters, at times when no rank asks anything. The others know the names of the
adapters from it. When a server is lost, the ranks that noticed tell the others, after all have
finished or given up their work; the rank in charge starts it again or waits for it.

All ranks call the same methods in the same order.
"""

import platform
from collections.abc import Collection
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from comity.config.schema import Config
from comity.distributed.process_group import ProcessGroup
from comity.engines.local.engine import Engine
from comity.engines.vllm.adapters import PublishedAdapters, ServedAdapters, served_name
from comity.engines.vllm.client import ServedBase, ServerLostError, VllmClient
from comity.engines.vllm.served_model import RESTARTS, ServedModel
from comity.errors import ComityError, WorkError
from comity.experiments.server_beside import ServerBeside


class SharedServer:
    """One rank's server."""

    def __init__(self, ranks: ProcessGroup, engine: Engine, config: Config, tokenizer: Any) -> None:
        """Starts the servers, or connects to them, and checks them.

        Raises `ComityError` on all ranks where that fails on one.
        """
        with ranks.together():
            pass  # All ranks have come so far: from here on they do the same.
        self.engine = engine
        self.ranks = ranks
        url, _ = own = place(config.engine.urls, ranks)
        places = ranks.gather(own)
        self._in_charge = [places.index(one) for one in places]
        """By rank: the one that is in charge of its server."""
        self._wanted: dict[str, str] = {}
        """Adapters that are loaded, with their `served_name`."""
        self._restarts = 0
        self._served: ServedModel | None = None
        self._beside: ServerBeside | None = None
        self._loading: ServedAdapters | None = None
        if self.is_in_charge:
            self._beside = ServerBeside(engine, config, tokenizer, url)
        try:
            found = self._connect(set(self._in_charge))
            assert found is not None
            self._begin_with(*found)
        except BaseException:
            self.close(failed=True)
            raise

    @property
    def is_in_charge(self) -> bool:
        """Whether this rank is in charge of its server."""
        return self._in_charge[self.ranks.rank] == self.ranks.rank

    @property
    def served(self) -> ServedModel:
        """The model and the adapters of all ranks on the server."""
        assert self._served is not None
        return self._served

    def begin(self, adapters: Collection[str] | None) -> None:
        """Load the adapters with their present weights; None: those that are loaded stay.

        Raises `WorkError` on all ranks if their weights differ.
        """
        self._restarts = 0
        if adapters is None:
            return
        self._wanted = {one: served_name(self.engine, one) for one in sorted(adapters)}
        # From here on nothing that is unloaded is in use: every rank has come so far.
        first, *others = self.ranks.gather(self._wanted)
        for rank, found in enumerate(others, start=1):
            for one in first:
                if found[one] != first[one]:
                    error = WorkError(f"the adapter {one} on rank {rank} differs from rank 0's")
                    error.shared = True
                    raise error
        self._load()
        self.recover()

    def recover(self) -> bool:
        """After the work of all ranks: connect again to servers that were lost.

        Returns whether one was. Raises `WorkError` on all ranks after `RESTARTS` of them.
        """
        again = False
        while True:
            lost = self.ranks.gather(None if self.served.lost is None else str(self.served.lost))
            first = next((one for one in lost if one is not None), None)
            if first is None:
                return again
            if self._restarts == RESTARTS:
                error = WorkError(f"{first} (after {RESTARTS} new starts)")
                error.shared = True
                raise error
            again, self._restarts = True, self._restarts + 1
            in_charge = {self._in_charge[rank] for rank, one in enumerate(lost) if one is not None}
            if (found := self._connect(in_charge, first)) is not None:
                self.served.move(*found)
                if self._loading is not None:
                    self._loading.move(found[0], found[1].name)
            self._load()

    def close(self, failed: bool = False) -> None:
        """End the server if this rank started it, or leave it without our adapters."""
        ended = self._beside is not None and self._beside.close(failed)
        with suppress(ComityError):  # It may have ended before.
            if self._loading is not None and not ended:
                self._loading.close()
        if self._served is not None:
            self._served.close()

    def _begin_with(self, client: VllmClient, base: ServedBase) -> None:
        self._published = PublishedAdapters(base.name)
        self._served = ServedModel(client, self._published, None, base.max_tokens)
        if self._beside is not None:
            self._loading = ServedAdapters(client, base.name, self._beside.adapters)

    def _connect(
        self, in_charge: Collection[int], lost: str | None = None
    ) -> tuple[VllmClient, ServedBase] | None:
        """New connections to the servers of which these ranks are in charge; None to another one.

        `lost`: why, if there was one before.
        """
        found = None
        with self.ranks.together():
            if self._beside is not None and self.ranks.rank in in_charge:
                if lost is None:
                    found = self._beside.connect()
                else:
                    found = self._beside.reconnect(ServerLostError(lost))
        urls = self.ranks.gather(None if found is None else found[0].url)
        with self.ranks.together():
            mine = self._in_charge[self.ranks.rank]
            if found is None and (url := urls[mine]) is not None:
                client = VllmClient(url)
                try:
                    found = client, client.model()
                except BaseException:
                    client.close()
                    raise
        return found

    def _load(self) -> None:
        """Load what is wanted on every server, and unload what is no longer."""
        published = None
        with self.ranks.together():
            if self._loading is not None:
                try:
                    names = self._loading.names(self.engine, self._wanted)
                except ServerLostError as error:
                    self.served.lost = error
                else:
                    published = {own: names[adapter] for adapter, own in self._wanted.items()}
        found = self.ranks.gather(published)[self._in_charge[self.ranks.rank]]
        self._published.know(found or {})


def place(urls: list[str], ranks: ProcessGroup) -> tuple[str | None, str]:
    """The URL of a rank's server, None if one is started, and its machine if it is this one.

    Of several URLs each is for as many consecutive ranks.
    """
    url = urls[ranks.rank * len(urls) // ranks.size] if urls else None
    host = "localhost" if url is None else urlsplit(url).hostname or ""
    is_here = host in ("localhost", "::1") or host.startswith("127.")
    return url, platform.node() if is_here else ""
