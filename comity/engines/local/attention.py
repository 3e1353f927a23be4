"""Attention over a packed batch, as an attention implementation of transformers.

transformers lets a model call any registered attention function. This one receives the
projected queries, keys and values of all N packed tokens, stores keys and values in a `Cache`,
and lets each block of segments attend to its own slots. Every architecture that uses
transformers' attention interface works unchanged: its own code applies positions, norms,
sliding windows and soft-capping.

On CPUs the matrix products run in float32 for bfloat16 models too: there it is both more exact
and faster (see docs/performance.md).
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from comity.engines.local.kv_cache import Cache
from comity.engines.local.packing import FEW_QUERIES, Block, PackedBatch

NAME = "comity_packed"
"""Name of `packed_attention` in transformers (registered by the engine)."""


class BiasCache:
    """Attention biases of one batch, computed once for all layers with the same sliding window."""

    def __init__(self, batch: PackedBatch) -> None:
        self._batch = batch
        self._made: dict[tuple[int | None, int, torch.dtype], list[list[torch.Tensor]]] = {}

    def get(self, window: int | None, groups: int, dtype: torch.dtype) -> list[list[torch.Tensor]]:
        """For each block the biases of its spans."""
        key = (window, groups, dtype)
        if key not in self._made:
            self._made[key] = [block.biases(*key) for block in self._batch.blocks]
        return self._made[key]


@dataclass(frozen=True)
class AttentionScoring:
    """How one layer turns query-key products into attention weights."""

    scale: float
    softcap: float | None
    sinks: torch.Tensor | None
    """float32 `[kv_heads, groups]`: see `packed_attention`."""

    @property
    def plain(self) -> bool:
        """Whether the weights are just a softmax of the scaled products."""
        return self.softcap is None and self.sinks is None

    def weights(
        self, scores: torch.Tensor, bias: torch.Tensor, head: int | None = None
    ) -> torch.Tensor:
        """`scores [B, kv_heads, R, K]`, scaled, or of one key head `[B, R, K]` -> weights.

        R holds, for each group's query head in turn, the same number of queries.
        """
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        scores = scores + bias
        if self.sinks is None:
            return torch.softmax(scores, dim=-1)
        sinks = self.sinks if head is None else self.sinks[head]
        each = scores.shape[-2] // self.sinks.shape[1]
        sink = sinks.repeat_interleave(each, dim=-1)[..., None].expand(*scores.shape[:-1], 1)
        return torch.softmax(torch.cat([scores, sink], dim=-1), dim=-1)[..., :-1]


class AttentionContext(Protocol):
    """A forward pass, as its layers' attention sees it."""

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scoring: AttentionScoring,
        sliding_window: int | None,
    ) -> torch.Tensor:
        """Store the new tokens' keys and values, and attend; shapes as in `packed_attention`."""
        ...


class ForwardContext:
    """What attention needs in one forward pass: the batch, its biases and the cache."""

    def __init__(self, batch: PackedBatch, cache: Cache, checkpointing: bool = False) -> None:
        """`checkpointing`: see `comity.engines.local.activation_checkpointing`."""
        self.batch = batch
        self.cache = cache
        self.checkpointing = checkpointing
        self.biases = BiasCache(batch)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scoring: AttentionScoring,
        sliding_window: int | None,
    ) -> torch.Tensor:
        """Attention block by block: see `AttentionContext`."""
        batch = self.batch
        compute = torch.float32 if query.device.type == "cpu" else query.dtype
        keys, values = self.cache.extend(
            layer,
            batch.first_slot,
            key.squeeze(0).transpose(0, 1).to(compute),
            value.squeeze(0).transpose(0, 1).to(compute),
        )
        heads, dim = query.shape[1], query.shape[3]
        kv_heads = keys.shape[1]
        groups = heads // kv_heads
        queries = query.squeeze(0).transpose(0, 1).to(compute)
        # torch's attention takes the bias in the type of the queries; ours adds it to float32
        # scores.
        dtype = compute if scoring.plain else torch.float32
        found = self.biases.get(sliding_window, groups, dtype)
        results = []
        for block, biases in zip(batch.blocks, found, strict=True):
            segments, length = block.rows.shape
            # Query heads that share a key head are stacked along the query axis: keys are not
            # repeated.
            q = queries.index_select(0, block.rows.flatten())
            q = q.view(segments, length, kv_heads, groups, dim).permute(0, 2, 3, 1, 4)
            if length <= FEW_QUERIES and q.device.type == "cpu":
                q, (bias,) = q.reshape(segments, kv_heads, groups * length, dim), biases
                if block.buffer_update is None:
                    out = _attend_few_queries(q, keys, values, block, bias, scoring)
                else:
                    common, own = block.buffer_update.extend(layer, keys, values)
                    out = _attend_buffered(q, common, own, bias, scoring)
                out = out.view(segments, kv_heads, groups, length, -1)
            else:
                k, v = (
                    t.index_select(0, block.keys.flatten())
                    .view(segments, -1, kv_heads, t.shape[2])
                    .transpose(1, 2)
                    for t in (keys, values)
                )
                parts = []
                for (first, end, seen), bias in zip(block.spans, biases, strict=True):
                    part = q[:, :, :, first:end].reshape(segments, kv_heads, -1, dim)
                    part = attend_masked(part, k[:, :, :seen], v[:, :, :seen], bias, scoring)
                    parts.append(part.view(segments, kv_heads, groups, end - first, -1))
                out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=3)
            results.append(out.permute(0, 3, 1, 2, 4).reshape(segments * length, heads, -1))
        together = results[0] if len(results) == 1 else torch.cat(results)
        return together.index_select(0, batch.order).to(query.dtype).unsqueeze(0)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    forward_context: AttentionContext | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`query [1, heads, N, dim]`, `key`/`value [1, kv_heads, N, dim]` -> `[1, N, heads, dim]`.

    Values may have another dim than keys. `s_aux [heads]`: scores of attention sinks, which take
    a share of each query's attention and contribute no value.
    """
    if forward_context is None:
        raise RuntimeError("comity's attention runs only inside the engine's forward pass")
    kv_heads, dim = key.shape[1], query.shape[3]
    scale = dim**-0.5 if scaling is None else scaling
    sinks = None if s_aux is None else s_aux.float().view(kv_heads, query.shape[1] // kv_heads)
    scoring = AttentionScoring(scale, softcap, sinks)
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    return forward_context.attend(layer, query, key, value, scoring, sliding_window), None


def attend_masked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor,
    scoring: AttentionScoring,
) -> torch.Tensor:
    """Attention of `q [B, kv_heads, R, dim]` to `k`/`v [B, kv_heads, K, dim]`: like `q`."""
    if scoring.plain:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scoring.scale)
    scores = torch.matmul(q, k.transpose(2, 3)).float() * scoring.scale
    return torch.matmul(scoring.weights(scores, bias).to(q.dtype), v)


def _attend_few_queries(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    block: Block,
    bias: torch.Tensor,
    scoring: AttentionScoring,
) -> torch.Tensor:
    """Attention of few queries to many keys, head by head: `q [B, kv_heads, R, dim]`, same result.

    Keys that all segments share are multiplied by all queries at once and never copied per
    segment; the softmax is over them and each segment's own keys together.
    """
    segments, heads, rows, _ = q.shape
    shared = block.shared
    common, own = block.keys[0, :shared], block.keys[:, shared:].flatten()
    together = [t.index_select(0, common) for t in (keys, values)]
    apart = [t.index_select(0, own).view(segments, -1, *t.shape[1:]) for t in (keys, values)]
    results = []
    for head in range(heads):
        one = q[:, head]
        # The slices of one head are matrices with a stride: nothing is copied.
        scores = torch.bmm(one, apart[0][:, :, head].transpose(1, 2))
        if shared:
            first = one.flatten(0, 1) @ together[0][:, head].T
            scores = torch.cat([first.view(segments, rows, shared), scores], dim=2)
        weights = scoring.weights(scores * scoring.scale, bias[:, 0], head)
        out = torch.bmm(weights[:, :, shared:], apart[1][:, :, head])
        if shared:
            first = weights[:, :, :shared].reshape(-1, shared) @ together[1][:, head]
            out = out + first.view(out.shape)
        results.append(out)
    return torch.stack(results, dim=1)


def _attend_buffered(
    q: torch.Tensor,
    common: tuple[torch.Tensor, torch.Tensor],
    own: tuple[torch.Tensor, torch.Tensor],
    bias: torch.Tensor,
    scoring: AttentionScoring,
) -> torch.Tensor:
    """`_attend_few_queries` with keys and values from a buffer, laid out for all heads at once.

    `common`: `[kv_heads, S, dim]` each; `own`: `[B, kv_heads, K, dim]` each. Keys gathered for a
    single pass keep their layout: transposing them would cost more than it saves.
    """
    segments, heads, rows, dim = q.shape
    shared = common[0].shape[1]
    keys, values = (t.flatten(0, 1) for t in own)
    q = q * scoring.scale
    scores = torch.bmm(q.flatten(0, 1), keys.transpose(1, 2)).view(segments, heads, rows, -1)
    if shared:
        one = q.transpose(0, 1).reshape(heads, segments * rows, dim)
        first = torch.bmm(one, common[0].transpose(1, 2)).view(heads, segments, rows, shared)
        scores = torch.cat([first.transpose(0, 1), scores], dim=3)
    weights = scoring.weights(scores, bias)
    out = torch.bmm(weights[..., shared:].flatten(0, 1), values).view(segments, heads, rows, -1)
    if shared:
        one = weights[..., :shared].transpose(0, 1).reshape(heads, segments * rows, shared)
        out = out + torch.bmm(one, common[1]).view(heads, segments, rows, -1).transpose(0, 1)
    return out
