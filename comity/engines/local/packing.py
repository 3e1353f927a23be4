"""Packing: new tokens of many conversations as one batch without padding.

`pack` turns segments of new tokens into a `PackedBatch`: a single row of tokens without padding
for all layers that work token by token (the linear layers, most of the arithmetic), and a few
padded `Block`s for attention, the only part in which tokens of one conversation interact.

Shapes are computed with numpy; the results are tensors on the model's device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from comity.engines.local.kv_buffers import BufferUpdate, KVBuffers
from comity.engines.local.prefix_tree import Segment

BLOCK_ELEMENTS = 24_000_000
"""Most entries (segments x queries x keys) of an attention block; bounds its mask's memory."""

FEW_QUERIES = 8
"""Segments of at most this many new tokens use batched matrix products (see `attention`)."""
BLOCK_COST = 256
"""Cost of one more block, in gathered keys."""
SPAN_QUERIES = 256
"""On CPUs, queries of a segment that attend at a time, only to keys up to their own."""
LONG_SPAN_QUERIES = 1024
"""The same on other devices, which need larger matrices to be busy."""
ALIGNMENT = 8
"""torch's fused attention on GPUs copies a bias for every layer unless each of its rows begins at a
multiple of so many elements."""


@dataclass(frozen=True)
class HiddenStates:
    """Hidden states of a set of sequences."""

    hidden: torch.Tensor
    """`[N, H]`, one row per distinct token."""
    rows: list[list[int]]
    """Row of each token of each sequence; negative for tokens of a shared prefix."""


@dataclass(frozen=True)
class Block:
    """Segments of similar length, padded for attention: B segments, Q queries, K keys."""

    rows: torch.Tensor
    """int64 `[B, Q]`: row of each query in the batch; padding repeats the segment's first row."""
    keys: torch.Tensor
    """int64 `[B, K]`: slot of each key; padding repeats the first slot."""
    query_positions: torch.Tensor
    """int64 `[B, Q]`; -1 in padding."""
    key_positions: torch.Tensor
    """int64 `[B, K]`; larger than all positions in padding."""
    spans: tuple[tuple[int, int, int], ...]
    """(first query, end query, keys): queries that attend together, to the first `keys` keys."""
    shared: int = 0
    """Number of leading keys that all segments share."""
    buffer_update: BufferUpdate | None = None
    """Update of the buffer that holds these segments' keys; None: keys are gathered."""

    def biases(self, window: int | None, groups: int, dtype: torch.dtype) -> list[torch.Tensor]:
        """For each span of q queries and k keys `[B, 1, groups * q, k]`: 0 where a query sees a
        key, else -inf.

        A query sees keys up to its own position, under a sliding window only the last `window`
        of them. Padded queries see everything: their results are discarded, and a row without
        any key would be NaN.
        """
        return [self._bias(window, groups, dtype, *span) for span in self.spans]

    def _bias(
        self,
        window: int | None,
        groups: int,
        dtype: torch.dtype,
        first: int,
        end: int,
        keys: int,
    ) -> torch.Tensor:
        query = self.query_positions[:, first:end, None]
        key = self.key_positions[:, None, :keys]
        seen = key <= query
        if window is not None:
            seen = seen & (key > query - window)
        seen = seen | (query < 0)
        width = keys if seen.device.type == "cpu" else -(-keys // ALIGNMENT) * ALIGNMENT
        shape = (len(seen), groups, end - first, width)
        bias = torch.zeros(shape, dtype=dtype, device=seen.device)[..., :keys]
        bias.masked_fill_(~seen[:, None], float("-inf"))
        return bias.flatten(1, 2).unsqueeze(1)


@dataclass(frozen=True)
class PackedBatch:
    """N new tokens, grouped by adapter, ready for one forward pass."""

    first_slot: int
    """The N tokens fill slots `first_slot .. first_slot + N - 1`, in order."""
    tokens: torch.Tensor
    """int64 `[N]`."""
    positions: torch.Tensor
    """int64 `[N]`."""
    routes: tuple[tuple[str | None, int, int], ...]
    """(adapter, first row, end row): the rows that each adapter computes."""
    blocks: tuple[Block, ...]
    order: torch.Tensor
    """int64 `[N]`: index of each row's result in the concatenated results of the blocks."""

    def __len__(self) -> int:
        return int(self.tokens.shape[0])


def pack(
    segments: Sequence[Segment],
    first_slot: int,
    device: torch.device,
    buffers: KVBuffers | None = None,
) -> PackedBatch:
    """One batch of segments whose slots are new, consecutive, and in the segments' order.

    Segments must be grouped by adapter; their slots then are too, because a prefix tree numbers
    slots in the order of insertion.
    """
    tokens = np.concatenate([np.asarray(segment.tokens, dtype=np.int64) for segment in segments])
    positions = np.concatenate(
        [np.arange(segment.start, len(segment.path)) for segment in segments]
    )
    lengths = np.array([len(segment.tokens) for segment in segments])
    firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])

    routes: list[tuple[str | None, int, int]] = []
    for segment, first, length in zip(segments, firsts, lengths, strict=True):
        if routes and routes[-1][0] == segment.adapter:
            routes[-1] = (segment.adapter, routes[-1][1], int(first + length))
        else:
            routes.append((segment.adapter, int(first), int(first + length)))

    order = np.empty(len(tokens), dtype=np.int64)
    blocks = []
    done = 0
    if buffers is not None:
        buffers.begin_pass()
    for members, shared in _group_segments(segments):
        queries = max(len(segments[i].tokens) for i in members)
        keys = max(len(segments[i].path) for i in members)
        rows = np.empty((len(members), queries), dtype=np.int64)
        slots = np.empty((len(members), keys), dtype=np.int64)
        query_positions = np.full((len(members), queries), -1, dtype=np.int64)
        key_positions = np.full((len(members), keys), np.iinfo(np.int32).max, dtype=np.int64)
        for b, i in enumerate(members):
            segment, first, length = segments[i], firsts[i], lengths[i]
            rows[b] = first
            rows[b, :length] = np.arange(first, first + length)
            slots[b] = segment.path[0]
            slots[b, : len(segment.path)] = segment.path
            query_positions[b, :length] = np.arange(segment.start, len(segment.path))
            key_positions[b, : len(segment.path)] = np.arange(len(segment.path))
            order[first : first + length] = done + b * queries + np.arange(length)
        done += rows.size
        blocks.append(
            Block(
                rows=torch.from_numpy(rows).to(device),
                keys=torch.from_numpy(slots).to(device),
                query_positions=torch.from_numpy(query_positions).to(device),
                key_positions=torch.from_numpy(key_positions).to(device),
                spans=_spans(
                    query_positions,
                    keys,
                    SPAN_QUERIES if device.type == "cpu" else LONG_SPAN_QUERIES,
                ),
                shared=shared,
                buffer_update=buffers.plan_update([segments[i] for i in members], shared, device)
                if buffers is not None and queries <= FEW_QUERIES
                else None,
            )
        )
    return PackedBatch(
        first_slot=first_slot,
        tokens=torch.from_numpy(tokens).to(device),
        positions=torch.from_numpy(positions).to(device),
        routes=tuple(routes),
        blocks=tuple(blocks),
        order=torch.from_numpy(order).to(device),
    )


def _spans(positions: np.ndarray, keys: int, length: int) -> tuple[tuple[int, int, int], ...]:
    """`Block.spans` of at most `length` queries at `positions [B, Q]`.

    Attention matrices in spans take half the memory of whole ones.
    """
    queries = positions.shape[1]
    bounds = [(first, min(first + length, queries)) for first in range(0, queries, length)]
    return tuple(
        (first, end, min(keys, int(positions[:, first:end].max()) + 1)) for first, end in bounds
    )


def _group_segments(segments: Sequence[Segment]) -> list[tuple[list[int], int]]:
    """Indices of segments in groups with little padding and bounded masks, and the length of
    the common prefix of each group's paths (0 where it is not used).
    """
    few = [i for i, segment in enumerate(segments) if len(segment.tokens) <= FEW_QUERIES]
    many = [i for i, segment in enumerate(segments) if len(segment.tokens) > FEW_QUERIES]
    by_size = sorted(many, key=lambda i: (len(segments[i].tokens), len(segments[i].path)))
    groups: list[list[int]] = []
    for i in by_size:
        queries, keys = len(segments[i].tokens), len(segments[i].path)
        if groups:
            group = groups[-1]
            smallest = len(segments[group[0]].tokens)
            longest = max(keys, max(len(segments[j].path) for j in group))
            small = (len(group) + 1) * queries * longest <= BLOCK_ELEMENTS
            if queries <= 1.3 * smallest + 8 and small:
                group.append(i)
                continue
        groups.append([i])
    return [
        *_group_by_prefix([segments[i].path for i in few], few),
        *((group, 0) for group in groups),
    ]


def _group_by_prefix(
    paths: Sequence[Sequence[int]], names: Sequence[int]
) -> list[tuple[list[int], int]]:
    """Short segments grouped by common prefix, minimizing the number of gathered keys."""
    if not names:
        return []
    order = sorted(range(len(names)), key=lambda i: tuple(paths[i][::32]))
    alike = [_common_prefix_length(paths[a], paths[b]) for a, b in pairwise(order)]

    def split(first: int, end: int, depth: int) -> tuple[int, list[tuple[list[int], int]]]:
        """Cost and groups of `order[first:end]`."""
        members = order[first:end]
        shared = min(alike[first : end - 1], default=0)
        total = sum(len(paths[i]) for i in members)
        whole = (BLOCK_COST + total - shared * (len(members) - 1), [(members, shared)])
        if len(members) < 3 or depth == 0:
            return whole
        cuts = [i + 1 for i in range(first, end - 1) if alike[i] == shared]
        parts = list(pairwise([first, *cuts, end]))
        single = [order[a] for a, b in parts if b - a == 1]
        cost, found = 0, []
        if single:
            cost = BLOCK_COST + sum(len(paths[i]) for i in single)
            cost -= shared * (len(single) - 1)
            found = [(single, shared if len(single) > 1 else 0)]
        for a, b in parts:
            if b - a > 1:
                more, groups = split(a, b, depth - 1)
                cost += more
                found += groups
        return min(whole, (cost, found), key=lambda one: one[0])

    _, groups = split(0, len(order), 8)
    return [([names[i] for i in members], shared) for members, shared in groups]


def _common_prefix_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of two paths' common prefix, by bisection: equal slots have equal predecessors."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high) // 2
        if one[middle] == other[middle]:
            low = middle + 1
        else:
            high = middle
    return low
