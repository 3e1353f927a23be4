"""Adapters on the server: written to a folder and loaded under a name that never changes meaning.

The name ends with a hash of the weights. A server keeps what it computed by an adapter's name, so
other weights under an old name would be played with the old ones' cache. A prefix of the process
keeps apart the adapters of several processes that share a server.
"""

import hashlib
import re
import secrets
import shutil
from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from comity.engines.local.engine import Engine
from comity.engines.vllm.client import VllmClient
from comity.errors import WorkError

KEPT = 8
"""Adapters that stay on the server, at least those of one batch."""


class ServedAdapters:
    """The adapters of an engine as the server knows them."""

    def __init__(self, client: VllmClient, base: str, folder: Path, kept: int = KEPT) -> None:
        """`base`: the served base model's name; `folder`: one that the server reads, too."""
        self._client = client
        self._base = base
        self._folder = folder
        self._kept = kept
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._prefix = secrets.token_hex(4)

    def names(self, engine: Engine, adapters: Collection[str | None]) -> dict[str | None, str]:
        """The server's name of each adapter with its present weights; loads what is new."""
        found = {one: self._base if one is None else self._load(engine, one) for one in adapters}
        while len(self._loaded) > max(self._kept, len(found)):
            self._unload(next(iter(self._loaded)))
        return found

    def _load(self, engine: Engine, adapter: str) -> str:
        name = f"{self._prefix}-{served_name(engine, adapter)}"
        if name in self._loaded:
            self._loaded.move_to_end(name)
            return name
        folder = self._folder / name
        engine.adapters.save(adapter, folder)
        self._loaded[name] = None  # Before it is known to be: `move` unloads it.
        self._client.load_adapter(name, str(folder.absolute()))
        return name

    def move(self, client: VllmClient, base: str) -> None:
        """Go on with another connection, to the same server or to a new one."""
        self._client, self._base = client, base
        for name in self._loaded:
            with suppress(WorkError):  # A new server does not know it.
                client.unload_adapter(name)
        self._loaded.clear()

    def close(self) -> None:
        """Unload everything from the server, which may serve others after us."""
        for name in list(self._loaded):
            self._unload(name)

    def _unload(self, name: str) -> None:
        del self._loaded[name]
        try:
            self._client.unload_adapter(name)
        finally:
            shutil.rmtree(self._folder / name, ignore_errors=True)


class PublishedAdapters:
    """The adapters that one of several ranks has loaded on the server for all of them."""

    def __init__(self, base: str) -> None:
        """`base`: the served base model's name."""
        self._base = base
        self._published: Mapping[str, str] = {}

    def know(self, published: Mapping[str, str]) -> None:
        """From now on these, the server's names by `served_name`, and no others."""
        self._published = published

    def names(self, engine: Engine, adapters: Collection[str | None]) -> dict[str | None, str]:
        """The server's name of each adapter with its present weights."""
        return {one: self._base if one is None else self._known(engine, one) for one in adapters}

    def _known(self, engine: Engine, adapter: str) -> str:
        if (name := self._published.get(served_name(engine, adapter))) is None:
            raise WorkError(f"the weights of the adapter {adapter} are not on the vLLM server")
        return name

    def move(self, client: VllmClient, base: str) -> None:
        """Go on with another connection, which has none of the adapters."""
        self._base, self._published = base, {}

    def close(self) -> None:
        """Does nothing: they belong to the rank that has loaded them."""


def served_name(engine: Engine, adapter: str) -> str:
    """An adapter's name with a hash (BLAKE2b, 64 bits) of its weights."""
    digest = hashlib.blake2b(digest_size=8)
    for parameter, weights in engine.adapters.parameters(adapter).items():
        digest.update(parameter.encode())
        digest.update(weights.detach().cpu().contiguous().numpy().tobytes())
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', adapter)}-{digest.hexdigest()}"
