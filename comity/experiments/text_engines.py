"""Which engine samples the text of an experiment: this process, or a vLLM server beside it.

Runs in one process share the server, as they share the base model.
"""

import atexit
import shutil
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

from comity.config.schema import Config, EngineConfig
from comity.engines.local.engine import Engine
from comity.engines.local.models import fetch
from comity.engines.vllm.adapters import KEPT, ServedAdapters
from comity.engines.vllm.check import check_server
from comity.engines.vllm.client import VllmClient
from comity.engines.vllm.sampler import VllmSampler
from comity.engines.vllm.server import VllmServer
from comity.errors import ComityError
from comity.runs.progress import say

_shared: dict[tuple[object, ...], VllmSampler] = {}


def choose_text_engine(engine: Engine, config: Config) -> None:
    """Let the config's engine sample the text of `engine`'s sessions.

    The first time, connects to the server or starts it. Raises `ComityError` where there is none,
    or one with another model.
    """
    settings = config.engine
    if settings.name == "local":
        engine.text_sampler = None
        return
    key = (config.model.name, str(engine.dtype), config.adapter.rank, repr(settings))
    if key not in _shared:
        _shared[key] = _connect(engine, config, settings)
    engine.text_sampler = partial(_shared[key].sample, engine)


def _connect(engine: Engine, config: Config, settings: EngineConfig) -> VllmSampler:
    """A sampler on the settings' server; everything of it ends with this process."""
    own = Path(tempfile.mkdtemp(prefix="comity-vllm-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    url = settings.url
    if url is None:
        assert settings.python is not None  # checked with the config
        say(f"starting vLLM from {settings.python} (log: {own / 'vllm.log'}) ...")
        server = VllmServer(
            settings.python,
            fetch(config.model.name),
            dtype=str(engine.dtype).removeprefix("torch."),
            log=own / "vllm.log",
            rank=config.adapter.rank,
            adapters=KEPT,
            options=settings.options,
            timeout=settings.timeout,
        )
        atexit.register(server.close)
        url = server.url
    client = VllmClient(url)
    model = client.model()
    check_server(client, model, engine)
    folder = own / "adapters" if settings.adapters is None else Path(settings.adapters)
    sampler = VllmSampler(client, ServedAdapters(client, model, folder))
    if settings.url is not None:
        atexit.register(_leave, sampler)  # The server goes on without us.
    return sampler


def _leave(sampler: VllmSampler) -> None:
    with suppress(ComityError):  # It may have ended before.
        sampler.close()
