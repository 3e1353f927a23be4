"""Which tokens must be computed, and which earlier tokens each of them sees.

Conversations that begin alike share their beginning: in `TokenTree` every distinct token
in its context is one *slot*, computed once, however many conversations run through it.
The rules of a game are one stretch of slots for all matches; matches that went the same
way so far are one conversation.

`pack` turns the slots that are new since the last call into one `Packing`: a single row of
tokens without padding for everything that works token by token (the linear layers, most
of the arithmetic), and a few padded `Block`s for attention alone, the only part in which
tokens of one conversation meet.

Arrays are numpy here; `Packing.to` makes tensors. Nothing here knows about games or text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from comity.engines.local.kv_cache import Step, Windows

BLOCK_ELEMENTS = 24_000_000
"""Most entries (lanes x queries x keys) of one attention block; bounds the memory of its mask."""

FEW = 8
"""Lanes of at most so many new tokens attend by matrix products (see `attention`)."""
NEW_BLOCK = 256
"""What one more block costs, in keys."""
SPAN = 256
"""On CPUs, so many queries of each lane attend at a time, to no later keys than theirs."""


@dataclass(frozen=True)
class Reading:
    """Hidden states of a set of sequences."""

    hidden: torch.Tensor
    """`[N, H]`, one row per distinct token."""
    rows: list[list[int]]
    """Row of each token of each sequence (and branch); a trunk's tokens are negative."""


class TokenTree:
    """Slots of all distinct tokens seen so far; a slot's number is its place in the cache."""

    def __init__(self) -> None:
        self._children: dict[tuple[int, int], int] = {}
        self._roots: dict[str | None, int] = {}
        self.tokens: list[int] = []
        """Token of each slot."""

    @property
    def size(self) -> int:
        """Number of slots."""
        return len(self.tokens)

    def root(self, adapter: str | None) -> int:
        """Start of all conversations of one adapter (negative, so that it is never a slot).

        Keys and values depend on the weights, so adapters share nothing.
        """
        return self._roots.setdefault(adapter, -1 - len(self._roots))

    def insert(self, parent: int, tokens: Sequence[int]) -> tuple[list[int], int]:
        """Slots of `tokens` below `parent`, and how many of them already existed.

        Once one token is new, all after it are: the new ones are a tail.
        """
        children = self._children
        slots: list[int] = []
        known = 0
        for token in tokens:
            slot = children.get((parent, token), -1)
            if slot < 0:
                break
            slots.append(slot)
            parent = slot
            known += 1
        for token in tokens[known:]:
            children[parent, token] = slot = len(self.tokens)
            self.tokens.append(token)
            slots.append(slot)
            parent = slot
        return slots, known

    def find(self, adapter: str | None, tokens: Sequence[int]) -> list[int] | None:
        """Slots of a conversation's tokens from its first on; None unless all are there."""
        parent, slots = self.root(adapter), []
        for token in tokens:
            slot = self._children.get((parent, token), -1)
            if slot < 0:
                return None
            slots.append(slot)
            parent = slot
        return slots

    def truncate(self, size: int) -> None:
        """Take back all slots but the first so many."""
        del self.tokens[size:]
        self._children = {place: slot for place, slot in self._children.items() if slot < size}

    def copy(self, slot: int) -> int:
        """A new slot with the token of another, for computing that place once more."""
        self.tokens.append(self.tokens[slot])
        return len(self.tokens) - 1


@dataclass(frozen=True)
class Lane:
    """A run of new tokens of one conversation."""

    path: Sequence[int]
    """Slots of the conversation from its first token to the lane's last."""
    start: int
    """Index in `path` (= position) of the lane's first token."""
    tokens: Sequence[int]
    """Ids of the new tokens; `len(path) - start` of them."""
    adapter: str | None


@dataclass(frozen=True)
class Block:
    """Lanes of like length, padded to one another for attention. B lanes, Q queries, K keys."""

    rows: torch.Tensor
    """int64 `[B, Q]`: row of each query in the packing; padding repeats the lane's first row."""
    keys: torch.Tensor
    """int64 `[B, K]`: slot of each key; padding repeats the first slot."""
    query_positions: torch.Tensor
    """int64 `[B, Q]`; -1 in padding."""
    key_positions: torch.Tensor
    """int64 `[B, K]`; a number beyond all positions in padding."""
    spans: tuple[tuple[int, int, int], ...]
    """(first query, end query, keys): queries that attend together, and that no lane's among
    them see a key beyond the first so many."""
    shared: int = 0
    """The first so many keys are the same for all lanes."""
    step: "Step | None" = None
    """What is added to a window that holds the keys lane by lane; None: they are gathered."""

    def biases(self, window: int | None, groups: int) -> list[torch.Tensor]:
        """For each span of q queries and k keys float32 `[B, 1, groups * q, k]`: 0 where a
        query sees a key, else -inf.

        A query sees keys at its own position and before, and under a sliding window only
        the last `window` of them. Padding sees everything: its result is thrown away, and
        a row without any key would be NaN.
        """
        return [self._bias(window, groups, *span) for span in self.spans]

    def _bias(
        self, window: int | None, groups: int, first: int, end: int, keys: int
    ) -> torch.Tensor:
        query = self.query_positions[:, first:end, None]
        key = self.key_positions[:, None, :keys]
        seen = key <= query
        if window is not None:
            seen = seen & (key > query - window)
        seen = seen | (query < 0)
        bias = torch.zeros(seen.shape, dtype=torch.float32, device=seen.device)
        bias.masked_fill_(~seen, float("-inf"))
        return bias.repeat(1, groups, 1).unsqueeze(1)


@dataclass(frozen=True)
class Packing:
    """N new tokens, adapter by adapter, ready for one forward pass."""

    first_slot: int
    """The N tokens fill slots `first_slot .. first_slot + N - 1`, in order."""
    tokens: torch.Tensor
    """int64 `[N]`."""
    positions: torch.Tensor
    """int64 `[N]`."""
    routes: tuple[tuple[str | None, int, int], ...]
    """(adapter, first row, end row): whose weights compute which rows."""
    blocks: tuple[Block, ...]
    order: torch.Tensor
    """int64 `[N]`: where each row's result lies in the blocks' results laid end to end."""

    def __len__(self) -> int:
        return int(self.tokens.shape[0])


def pack(
    lanes: Sequence[Lane],
    first_slot: int,
    device: torch.device,
    windows: "Windows | None" = None,
) -> Packing:
    """One packing of lanes whose slots are new, consecutive, and in the lanes' order.

    Lanes must come adapter by adapter; their slots then do too, because a tree hands out
    slots in the order of insertion.
    """
    tokens = np.concatenate([np.asarray(lane.tokens, dtype=np.int64) for lane in lanes])
    positions = np.concatenate([np.arange(lane.start, len(lane.path)) for lane in lanes])
    lengths = np.array([len(lane.tokens) for lane in lanes])
    firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])

    routes: list[tuple[str | None, int, int]] = []
    for lane, first, length in zip(lanes, firsts, lengths, strict=True):
        if routes and routes[-1][0] == lane.adapter:
            routes[-1] = (lane.adapter, routes[-1][1], int(first + length))
        else:
            routes.append((lane.adapter, int(first), int(first + length)))

    order = np.empty(len(tokens), dtype=np.int64)
    blocks = []
    done = 0
    if windows is not None:
        windows.turn()
    for members, shared in _alike(lanes):
        queries = max(len(lanes[i].tokens) for i in members)
        keys = max(len(lanes[i].path) for i in members)
        rows = np.empty((len(members), queries), dtype=np.int64)
        slots = np.empty((len(members), keys), dtype=np.int64)
        query_positions = np.full((len(members), queries), -1, dtype=np.int64)
        key_positions = np.full((len(members), keys), np.iinfo(np.int32).max, dtype=np.int64)
        for b, i in enumerate(members):
            lane, first, length = lanes[i], firsts[i], lengths[i]
            rows[b] = first
            rows[b, :length] = np.arange(first, first + length)
            slots[b] = lane.path[0]
            slots[b, : len(lane.path)] = lane.path
            query_positions[b, :length] = np.arange(lane.start, len(lane.path))
            key_positions[b, : len(lane.path)] = np.arange(len(lane.path))
            order[first : first + length] = done + b * queries + np.arange(length)
        done += rows.size
        blocks.append(
            Block(
                rows=torch.from_numpy(rows).to(device),
                keys=torch.from_numpy(slots).to(device),
                query_positions=torch.from_numpy(query_positions).to(device),
                key_positions=torch.from_numpy(key_positions).to(device),
                spans=_spans(query_positions, keys, SPAN if device.type == "cpu" else queries),
                shared=shared,
                step=windows.step([lanes[i] for i in members], shared, device)
                if windows is not None and queries <= FEW
                else None,
            )
        )
    return Packing(
        first_slot=first_slot,
        tokens=torch.from_numpy(tokens).to(device),
        positions=torch.from_numpy(positions).to(device),
        routes=tuple(routes),
        blocks=tuple(blocks),
        order=torch.from_numpy(order).to(device),
    )


def _spans(positions: np.ndarray, keys: int, length: int) -> tuple[tuple[int, int, int], ...]:
    """`Block.spans` of at most `length` queries at `positions [B, Q]`."""
    queries = positions.shape[1]
    bounds = [(first, min(first + length, queries)) for first in range(0, queries, length)]
    return tuple(
        (first, end, min(keys, int(positions[:, first:end].max()) + 1)) for first, end in bounds
    )


def _alike(lanes: Sequence[Lane]) -> list[tuple[list[int], int]]:
    """Lane indices in groups whose padding wastes little and whose masks stay small; and how
    many slots each group's paths begin with alike, where that is made use of.
    """
    few = [i for i, lane in enumerate(lanes) if len(lane.tokens) <= FEW]
    many = [i for i, lane in enumerate(lanes) if len(lane.tokens) > FEW]
    by_size = sorted(many, key=lambda i: (len(lanes[i].tokens), len(lanes[i].path)))
    groups: list[list[int]] = []
    for i in by_size:
        queries, keys = len(lanes[i].tokens), len(lanes[i].path)
        if groups:
            group = groups[-1]
            smallest = len(lanes[group[0]].tokens)
            longest = max(keys, max(len(lanes[j].path) for j in group))
            small = (len(group) + 1) * queries * longest <= BLOCK_ELEMENTS
            if queries <= 1.3 * smallest + 8 and small:
                group.append(i)
                continue
        groups.append([i])
    return [*_families([lanes[i].path for i in few], few), *((group, 0) for group in groups)]


def _families(paths: Sequence[Sequence[int]], names: Sequence[int]) -> list[tuple[list[int], int]]:
    """Lanes of few tokens in groups that begin alike; cheapest in keys that must be gathered."""
    if not names:
        return []
    order = sorted(range(len(names)), key=lambda i: tuple(paths[i][::32]))
    alike = [_common(paths[a], paths[b]) for a, b in pairwise(order)]

    def split(first: int, end: int, depth: int) -> tuple[int, list[tuple[list[int], int]]]:
        """Cost and groups of `order[first:end]`."""
        members = order[first:end]
        shared = min(alike[first : end - 1], default=0)
        total = sum(len(paths[i]) for i in members)
        whole = (NEW_BLOCK + total - shared * (len(members) - 1), [(members, shared)])
        if len(members) < 3 or depth == 0:
            return whole
        cuts = [i + 1 for i in range(first, end - 1) if alike[i] == shared]
        parts = list(pairwise([first, *cuts, end]))
        single = [order[a] for a, b in parts if b - a == 1]
        cost, found = 0, []
        if single:
            cost = NEW_BLOCK + sum(len(paths[i]) for i in single)
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


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many slots both paths begin; where they are equal, all before is equal too."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high) // 2
        if one[middle] == other[middle]:
            low = middle + 1
        else:
            high = middle
    return low
