"""Attention over a packing, as an attention implementation of transformers.

transformers lets a model call any registered function in place of its attention. Ours
receives the projected queries, keys and values of all N packed tokens, hands keys and
values to a `Cache`, and lets each block of lanes attend to its own slots. So every
architecture that uses transformers' attention interface works unchanged: its own
positions, norms, sliding windows and soft-capping are applied by its own code.

On CPUs the products run in float32 also for bfloat16 models: it is the more exact and the
faster of the two there (see docs/performance.md).
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from comity.engines.local.packing import FEW, Block, Packing

NAME = "comity_packed"
"""What transformers calls `packed_attention` (the engine registers it)."""


class Cache(Protocol):
    """Keys and values of all slots, layer by layer."""

    def extend(
        self, layer: int, first_slot: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put `[N, heads, dim]` at `first_slot` and return all slots' `[slots, heads, dim]`."""
        ...


class Pool:
    """Keys and values kept between forward passes, for playing (no gradients)."""

    def __init__(self) -> None:
        self._keys: dict[int, torch.Tensor] = {}
        self._values: dict[int, torch.Tensor] = {}

    def extend(
        self, layer: int, first_slot: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        end = first_slot + key.shape[0]
        keys, values = (
            _grown(kept.get(layer), first_slot, end, new)
            for kept, new in ((self._keys, key), (self._values, value))
        )
        keys[first_slot:end] = key
        values[first_slot:end] = value
        self._keys[layer], self._values[layer] = keys, values
        return keys, values


def _grown(kept: torch.Tensor | None, used: int, end: int, like: torch.Tensor) -> torch.Tensor:
    """A tensor with room for `end` slots: at least half more than before, so copies are few."""
    if kept is not None and kept.shape[0] >= end:
        return kept
    capacity = max(end, used + used // 2, 256)
    grown = like.new_empty((capacity, *like.shape[1:]))
    if kept is not None:
        grown[:used] = kept[:used]
    return grown


class Trunk:
    """Keys and values of slots computed before, followed by the packing's own, for learning.

    `keys[layer]`, `values[layer]`: `[T, heads, dim]`; an empty trunk has none.
    """

    def __init__(
        self,
        keys: dict[int, torch.Tensor] | None = None,
        values: dict[int, torch.Tensor] | None = None,
    ) -> None:
        self.keys = keys or {}
        self.values = values or {}
        self.seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        """The packing's own keys and values, to make a trunk of."""

    def extend(
        self, layer: int, first_slot: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen[layer] = (key, value)
        if layer not in self.keys:
            return key, value
        return torch.cat([self.keys[layer], key]), torch.cat([self.values[layer], value])


class Recorded:
    """Keys and values of all slots as parts of the passes' own graphs, for learning from them.

    Nothing is written in place, so gradients flow back through every pass that a later one saw.
    """

    def __init__(self) -> None:
        self._keys: dict[int, list[torch.Tensor]] = {}
        self._values: dict[int, list[torch.Tensor]] = {}

    def extend(
        self, layer: int, first_slot: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._keys.setdefault(layer, []), self._values.setdefault(layer, [])
        keys.append(key)
        values.append(value)
        return torch.cat(keys), torch.cat(values)

    def pool(self) -> Pool:
        """The same without gradients."""
        pool = Pool()
        for layer, keys in self._keys.items():
            key, value = torch.cat(keys).detach(), torch.cat(self._values[layer]).detach()
            pool.extend(layer, 0, key, value)
        return pool


class Masks:
    """Biases of one packing, made once for all layers that share a window."""

    def __init__(self, packing: Packing) -> None:
        self._packing = packing
        self._made: dict[tuple[int | None, int], list[list[torch.Tensor]]] = {}

    def get(self, window: int | None, groups: int) -> list[list[torch.Tensor]]:
        """Block by block, those of its spans."""
        key = (window, groups)
        if key not in self._made:
            self._made[key] = [block.biases(window, groups) for block in self._packing.blocks]
        return self._made[key]


class Pass:
    """What the attention of one forward pass needs: the packing, its masks and the cache."""

    def __init__(self, packing: Packing, cache: Cache) -> None:
        self.packing = packing
        self.cache = cache
        self.masks = Masks(packing)


@dataclass(frozen=True)
class Rule:
    """How one layer turns products of queries and keys into weights."""

    scale: float
    softcap: float | None
    sinks: torch.Tensor | None
    """float32 `[kv_heads, groups]`: see `packed_attention`."""

    @property
    def plain(self) -> bool:
        """A softmax of scaled products, and nothing else."""
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
    forward_pass: Pass | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`query [1, heads, N, dim]`, `key`/`value [1, kv_heads, N, dim]` -> `[1, N, heads, dim]`.

    Values may have another dim than keys. `s_aux [heads]`: a sink's score, which takes a share
    of each query's attention and gives nothing.
    """
    if forward_pass is None:
        raise RuntimeError("comity's attention runs only inside the engine's forward pass")
    packing = forward_pass.packing
    compute = torch.float32 if query.device.type == "cpu" else query.dtype
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    keys, values = forward_pass.cache.extend(
        layer,
        packing.first_slot,
        key.squeeze(0).transpose(0, 1).to(compute),
        value.squeeze(0).transpose(0, 1).to(compute),
    )
    heads, dim = query.shape[1], query.shape[3]
    kv_heads = keys.shape[1]
    groups = heads // kv_heads
    queries = query.squeeze(0).transpose(0, 1).to(compute)
    scale = dim**-0.5 if scaling is None else scaling
    sinks = None if s_aux is None else s_aux.float().view(kv_heads, groups)
    rule = Rule(scale, softcap, sinks)
    results = []
    for block, biases in zip(
        packing.blocks, forward_pass.masks.get(sliding_window, groups), strict=True
    ):
        lanes, length = block.rows.shape
        # Query heads that share a key head are laid along the query axis: keys are not repeated.
        q = queries.index_select(0, block.rows.flatten())
        q = q.view(lanes, length, kv_heads, groups, dim).permute(0, 2, 3, 1, 4)
        if length <= FEW and q.device.type == "cpu":
            q, (bias,) = q.reshape(lanes, kv_heads, groups * length, dim), biases
            if block.step is None:
                out = _few_queries(q, keys, values, block, bias, rule)
            else:
                common, own = block.step.extend(layer, keys, values)
                out = _windowed(q, common, own, bias, rule)
            out = out.view(lanes, kv_heads, groups, length, -1)
        else:
            k, v = (
                t.index_select(0, block.keys.flatten())
                .view(lanes, -1, kv_heads, t.shape[2])
                .transpose(1, 2)
                for t in (keys, values)
            )
            parts = []
            for (first, end, seen), bias in zip(block.spans, biases, strict=True):
                part = q[:, :, :, first:end].reshape(lanes, kv_heads, -1, dim)
                part = _masked(part, k[:, :, :seen], v[:, :, :seen], bias, rule)
                parts.append(part.view(lanes, kv_heads, groups, end - first, -1))
            out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=3)
        results.append(out.permute(0, 3, 1, 2, 4).reshape(lanes * length, heads, -1))
    together = results[0] if len(results) == 1 else torch.cat(results)
    return together.index_select(0, packing.order).to(query.dtype).unsqueeze(0), None


def _masked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor,
    rule: Rule,
) -> torch.Tensor:
    """Attention of `q [B, kv_heads, R, dim]` to `k`/`v [B, kv_heads, K, dim]`: like `q`."""
    if rule.plain:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=rule.scale)
    scores = torch.matmul(q, k.transpose(2, 3)).float() * rule.scale
    return torch.matmul(rule.weights(scores, bias).to(q.dtype), v)


def _few_queries(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    block: Block,
    bias: torch.Tensor,
    rule: Rule,
) -> torch.Tensor:
    """Attention of few queries to many keys, head by head: `q [B, kv_heads, R, dim]`, same result.

    Keys that all lanes share are multiplied by all lanes' queries at once and never copied
    lane by lane; the softmax goes over them and each lane's own together.
    """
    lanes, heads, rows, _ = q.shape
    shared = block.shared
    common, own = block.keys[0, :shared], block.keys[:, shared:].flatten()
    together = [t.index_select(0, common) for t in (keys, values)]
    apart = [t.index_select(0, own).view(lanes, -1, *t.shape[1:]) for t in (keys, values)]
    results = []
    for head in range(heads):
        one = q[:, head]
        # The slices of one head are matrices with a stride: nothing is copied.
        scores = torch.bmm(one, apart[0][:, :, head].transpose(1, 2))
        if shared:
            first = one.flatten(0, 1) @ together[0][:, head].T
            scores = torch.cat([first.view(lanes, rows, shared), scores], dim=2)
        weights = rule.weights(scores * rule.scale, bias[:, 0], head)
        out = torch.bmm(weights[:, :, shared:], apart[1][:, :, head])
        if shared:
            first = weights[:, :, :shared].reshape(-1, shared) @ together[1][:, head]
            out = out + first.view(out.shape)
        results.append(out)
    return torch.stack(results, dim=1)


def _windowed(
    q: torch.Tensor,
    common: tuple[torch.Tensor, torch.Tensor],
    own: tuple[torch.Tensor, torch.Tensor],
    bias: torch.Tensor,
    rule: Rule,
) -> torch.Tensor:
    """`_few_queries` where a window holds keys and values, as the products of all heads need them.

    `common`: `[kv_heads, S, dim]` each; `own`: `[B, kv_heads, K, dim]` each. What is gathered
    for one pass alone is not laid out so: turning it around costs more than it saves.
    """
    lanes, heads, rows, dim = q.shape
    shared = common[0].shape[1]
    keys, values = (t.flatten(0, 1) for t in own)
    q = q * rule.scale
    scores = torch.bmm(q.flatten(0, 1), keys.transpose(1, 2)).view(lanes, heads, rows, -1)
    if shared:
        one = q.transpose(0, 1).reshape(heads, lanes * rows, dim)
        first = torch.bmm(one, common[0].transpose(1, 2)).view(heads, lanes, rows, shared)
        scores = torch.cat([first.transpose(0, 1), scores], dim=3)
    weights = rule.weights(scores, bias)
    out = torch.bmm(weights[..., shared:].flatten(0, 1), values).view(lanes, heads, rows, -1)
    if shared:
        one = weights[..., :shared].transpose(0, 1).reshape(heads, lanes * rows, shared)
        out = out + torch.bmm(one, common[1]).view(heads, lanes, rows, -1).transpose(0, 1)
    return out
