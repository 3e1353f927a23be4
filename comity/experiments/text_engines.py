"""Which engine samples text and scores answers: this process, or a vLLM server beside it.

Runs in one process share the server, as they share the base model. Several ranks share one, too
(`comity.experiments.shared_server`): what they ask it is asked inside of `with_servers`.
"""

import atexit
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from comity.config.schema import Config
from comity.distributed.environment import before_end
from comity.distributed.process_group import ALONE, ProcessGroup
from comity.engines.local.engine import Engine
from comity.engines.vllm.adapters import ServedAdapters
from comity.engines.vllm.check import check_scoring
from comity.engines.vllm.client import ServerLostError, VllmClient
from comity.engines.vllm.sampler import VllmSampler
from comity.engines.vllm.scorer import VllmScorer
from comity.engines.vllm.served_model import ServedModel
from comity.engines.vllm.server import check_server_program
from comity.errors import ComityError, warn
from comity.experiments.server_beside import ServerBeside, largest_rank
from comity.experiments.shared_server import SharedServer, place
from comity.players.language_model.player import Policy
from comity.rollout.play import Match

Result = TypeVar("Result")


@dataclass(frozen=True)
class OwnServer:
    """The server of a single process."""

    served: ServedModel
    beside: ServerBeside
    is_in_charge = True
    """It has the server for itself."""

    @property
    def engine(self) -> Engine:
        return self.beside.engine

    def close(self) -> None:
        """End the server if it was started here, or leave it without our adapters."""
        if not self.beside.close():
            with suppress(ComityError):  # It may have ended before.
                self.served.close()


_shared: dict[tuple[object, ...], OwnServer | SharedServer] = {}
"""Connections by their settings."""


def choose_text_engine(
    engine: Engine, config: Config, tokenizer: Any, ranks: ProcessGroup = ALONE
) -> int | None:
    """Let the config's engine sample the text of `engine`'s sessions, and score their answers.

    The first time, connects to the server or starts it. `ranks`: the processes that share it; all
    of them call this. Returns the most tokens of a conversation on the server, None without a
    limit. Raises `ComityError` where there is no server, or one that computes something else.
    """
    settings = config.engine
    if settings.name == "local":
        engine.text_sampler = engine.scorer = None
        return None
    server = replace(settings, scored="local")  # The same one for both.
    key = (config.model.name, str(engine.dtype), largest_rank(config), repr(server), ranks)
    if key not in _shared:
        disconnect(engine)  # From the server that it turns away from, as from another arm's.
        if len(settings.urls) > ranks.size and ranks.first:
            warn(
                f"engine.url names {len(settings.urls)} servers, of which {ranks.size} "
                f"{'rank asks' if ranks.size == 1 else 'ranks ask'} {ranks.size}"
            )
        connect = _connect if ranks.size == 1 else partial(SharedServer, ranks)
        _shared[key] = connect(engine, config, tokenizer)
    served = _shared[key].served
    engine.text_sampler = partial(VllmSampler(served).sample, engine)
    engine.scorer = None
    if settings.scored == "vllm":
        scorer = VllmScorer(served)
        with ranks.together():
            if _shared[key].is_in_charge:
                check_scoring(scorer, engine)
        engine.scorer = partial(scorer.score, engine)
    return served.max_tokens


def with_servers(
    ranks: ProcessGroup, work: Callable[[], Result], matches: Sequence[Match] | None = None
) -> Result:
    """What `work` returns, which may ask servers; called by all ranks, each with its own work.

    `matches`: those of all ranks, whose adapters are loaded first; None: the loaded ones are used.
    A rank that lost its server works again, with the same random numbers, once it has a new one.
    If one raises a `ComityError`, all do.
    """
    shared = [
        one for one in _shared.values() if isinstance(one, SharedServer) and one.ranks is ranks
    ]
    if not shared:
        with ranks.together():
            return work()
    for one in shared:
        one.begin(None if matches is None else _adapters(matches, one.engine))
    found: list[Result] = []
    while True:
        with ranks.together(), suppress(ServerLostError):
            if not found:
                found.append(work())
        recovered = [one.recover() for one in shared]  # Of all: each is an exchange.
        if not any(recovered):
            return found[0]


def _adapters(matches: Sequence[Match], engine: Engine) -> set[str]:
    """The adapters with which an engine plays matches."""
    return {
        player.adapter
        for match in matches
        for player in match.players
        if isinstance(player, Policy)
        and player.backend.engine is engine
        and player.adapter is not None
    }


def check_text_engine(config: Config, ranks: ProcessGroup = ALONE) -> None:
    """Raises `ComityError` where this rank has no server, and none that could be started.

    For before a model is loaded: what the server computes is compared by `choose_text_engine`.
    """
    settings = config.engine
    if settings.name == "local":
        return
    server = repr(replace(settings, scored="local"))
    if any(key[-2:] == (server, ranks) for key in _shared):
        return  # If it was lost since, it is waited for when it is needed.
    url, _ = place(settings.urls, ranks)
    if url is not None:
        client = VllmClient(url)
        try:
            client.model()
        finally:
            client.close()
    elif settings.python is not None:
        check_server_program(settings.python, largest_rank(config))


@atexit.register
def disconnect(engine: Engine | None = None) -> None:
    """End servers that were started here, and leave those that go on without us.

    `engine`: the one whose server is meant; None: those of all.
    """
    for key, one in list(_shared.items()):
        if engine is None or one.engine is engine:
            del _shared[key]
            one.close()


before_end(disconnect)


def _connect(engine: Engine, config: Config, tokenizer: Any) -> OwnServer:
    beside = ServerBeside(engine, config, tokenizer, next(iter(config.engine.urls), None))
    try:
        client, base = beside.connect()
    except BaseException:
        beside.close(failed=True)
        raise
    adapters = ServedAdapters(client, base.name, beside.adapters)
    return OwnServer(ServedModel(client, adapters, beside.reconnect, base.max_tokens), beside)
