"""An engine's model and adapters on a vLLM server, and on the next server if that one is lost.

All that a batch of answers needs is in its requests, and the conversations are in this process.
So when the server ends, the same requests are sent again to a new one, with the same seeds.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from comity.engines.local.engine import Engine
from comity.engines.vllm.adapters import PublishedAdapters, ServedAdapters
from comity.engines.vllm.client import ServedBase, ServerLostError, VllmClient
from comity.errors import WorkError

Reconnect = Callable[[ServerLostError], tuple[VllmClient, ServedBase]]
"""A new connection after the old one was lost, and the served base model."""
Found = TypeVar("Found")

RESTARTS = 3
"""New connections for one batch of answers, at most."""


class ServedModel:
    """Sends requests under the adapters' present weights."""

    def __init__(
        self,
        client: VllmClient,
        adapters: ServedAdapters | PublishedAdapters,
        reconnect: Reconnect | None = None,
        max_tokens: int | None = None,
    ) -> None:
        """`reconnect`: None where `ask` leaves a lost server to its caller."""
        self.max_tokens = max_tokens
        """Tokens of the longest conversation that the server takes; None: any."""
        self.lost: ServerLostError | None = None
        """What `ask` raised, until there is a new connection."""
        self._client = client
        self._adapters = adapters
        self._reconnect = reconnect

    def ask(
        self,
        engine: Engine,
        adapters: Sequence[str | None],
        bodies: Sequence[dict[str, Any]],
        send: Callable[[VllmClient, Sequence[dict[str, Any]]], list[Found]],
    ) -> list[Found]:
        """What `send`, a method of the client, returns for the bodies, one per adapter.

        From a new server where the old one is lost.
        """
        for restarts in range(RESTARTS + 1):
            try:
                names = self._adapters.names(engine, set(adapters))
                return send(
                    self._client,
                    [
                        {**body, "model": names[adapter]}
                        for body, adapter in zip(bodies, adapters, strict=True)
                    ],
                )
            except ServerLostError as error:
                if self._reconnect is None:
                    self.lost = error
                    raise
                if restarts == RESTARTS:
                    raise WorkError(f"{error} (after {RESTARTS} new starts)") from None
                self.move(*self._reconnect(error))
        raise AssertionError("unreachable")

    def move(self, client: VllmClient, base: ServedBase) -> None:
        """Go on with another connection."""
        self._client.close()
        self._client, self.lost = client, None
        self._adapters.move(client, base.name)

    def close(self) -> None:
        """Unload our adapters from the server and close the connection."""
        try:
            self._adapters.close()
        finally:
            self._client.close()
