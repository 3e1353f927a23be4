"""What a session needs of an engine."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Protocol

import torch

from comity.engines.local.decoding import DecodingEngine
from comity.engines.local.kv_cache import Cache
from comity.engines.local.packing import PackedBatch
from comity.engines.local.sampling import SamplingState
from comity.engines.local.score_cache import Scorer


class MergeableAdapters(Protocol):
    """What a session needs of an engine's adapters."""

    def merged(self, name: str | None) -> AbstractContextManager[None]:
        """Inside the block, the adapter may be part of the base's weights."""
        ...


class ForwardEngine(DecodingEngine, Protocol):
    """What a session needs of an engine (`comity.engines.local.engine.Engine`)."""

    static_decoding: bool
    """Whether text is sampled in passes of one shape (`comity.engines.local.decoding`)."""
    text_sampler: Callable[[list[SamplingState]], list[SamplingState]] | None
    """Samples text elsewhere and returns the answers that have to be completed here; None: all
    text is sampled here."""
    scorer: Scorer | None
    """Scores answers elsewhere; None: here."""
    max_tokens: int
    """Most tokens of one forward pass without gradients."""

    @property
    def adapters(self) -> MergeableAdapters: ...

    def forward(
        self, batch: PackedBatch, cache: Cache, dropout_adapters: Collection[str | None] = ()
    ) -> torch.Tensor:
        """Last hidden states `[N, H]` of a packed batch."""
        ...
