"""Contiguous keys and values of segments that are decoded token by token.

The cache holds every slot once, in the order of computation; a conversation's slots lie
scattered in it. Gathering them for each token would copy whole conversations again and again.
While answers are sampled, the same conversations need one token after another: a `KVBuffer`
gathers their keys and values once and then only appends the new slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from comity.engines.local.prefix_tree import Segment

MAX_BUFFER_TOKENS = 16_384
"""Most positions (segments x tokens) in a pass's buffers; more segments are gathered anew."""
BUFFER_MARGIN = 64
"""Free positions of each segment when a buffer is made or grown."""

Layer = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer."""


@dataclass(eq=False)
class KVBuffer:
    """Segments with the same first `shared` slots, as of the last pass."""

    shared: int
    segments: int
    """Number of segments."""
    shared_kv: dict[int, Layer]
    """By layer: `[heads, shared, dim]`."""
    own_kv: dict[int, Layer]
    """By layer: `[segments, heads, positions, dim]`; zero where a segment has no slot."""


@dataclass(frozen=True)
class BufferUpdate:
    """What one pass appends to a buffer, the same for all layers."""

    buffer: KVBuffer
    shared: torch.Tensor
    """int64 `[shared]`: the segments' common first slots."""
    source_rows: torch.Tensor | None
    """int64 `[B]`: the buffer's row that each segment continues; None: the same, in order."""
    segments: torch.Tensor
    """int64 `[T]`: row of each appended slot."""
    positions: torch.Tensor
    """int64 `[T]`: its position in the row."""
    slots: torch.Tensor
    """int64 `[T]`: the slot; for a new buffer `[B, width]`, padded with any slot."""
    width: int
    """Positions of the longest segment."""

    def extend(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[Layer, Layer]:
        """Keys and values of one layer: of the shared slots and of each segment's own.

        `keys`, `values`: the cache's, `[slots, heads, dim]`. Returns `[heads, shared, dim]` and
        `[B, heads, width, dim]`.
        """
        buffer = self.buffer
        if layer not in buffer.shared_kv:
            buffer.shared_kv[layer] = self._shared_kv(keys), self._shared_kv(values)
        old_key, old_value = buffer.own_kv.get(layer, (None, None))
        key, value = self._extended_kv(old_key, keys), self._extended_kv(old_value, values)
        buffer.own_kv[layer] = key, value
        return buffer.shared_kv[layer], (key[:, :, : self.width], value[:, :, : self.width])

    def _shared_kv(self, new: torch.Tensor) -> torch.Tensor:
        return new.index_select(0, self.shared).transpose(0, 1).contiguous()

    def _extended_kv(self, old: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
        heads, dim = new.shape[1:]
        if old is None:
            whole = new.index_select(0, self.slots.flatten()).view(*self.slots.shape, heads, dim)
            return _padded(whole.transpose(1, 2), self.width + BUFFER_MARGIN)
        if self.source_rows is not None:
            old = old.index_select(0, self.source_rows)
        if old.shape[2] < self.width:
            old = _padded(old, self.width + BUFFER_MARGIN)
        old[self.segments, :, self.positions] = new.index_select(0, self.slots)
        return old


def _padded(tensor: torch.Tensor, positions: int) -> torch.Tensor:
    """The tensor padded with zeros to `[segments, heads, positions, dim]`."""
    segments, heads, before, dim = tensor.shape
    longer = tensor.new_zeros((segments, heads, positions, dim))
    longer[:, :, :before] = tensor
    return longer


class KVBuffers:
    """The buffers of a session while it samples."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[KVBuffer, int]] = {}
        """By a segment's last slot: its buffer and row in the last pass."""
        self._next: dict[int, tuple[KVBuffer, int]] = {}
        """The same for the present pass."""
        self._positions = 0
        """Positions in the present pass's buffers."""

    def begin_pass(self) -> None:
        """Begin another pass."""
        self._last, self._next, self._positions = self._next, {}, 0

    def plan_update(
        self, segments: Sequence[Segment], shared: int, device: torch.device
    ) -> BufferUpdate | None:
        """The update of a block's buffer; None if the buffers would become too large.

        The buffer is that of the last pass if all segments continue it, else a new one.
        """
        width = max(len(segment.path) for segment in segments) - shared
        if self._positions + len(segments) * width > MAX_BUFFER_TOKENS:
            return None
        self._positions += len(segments) * width
        buffer, source_rows = self._continued_buffer(segments, shared)
        new: list[tuple[int, int]] = []
        slots: list[Any]
        if buffer is None:
            buffer, source_rows = (
                KVBuffer(shared, len(segments), {}, {}),
                list(range(len(segments))),
            )
            missing = [shared + width - len(segment.path) for segment in segments]
            slots = [
                [*segment.path[shared:], *[segment.path[-1]] * more]
                for segment, more in zip(segments, missing, strict=True)
            ]
        else:
            new = [
                (row, position)
                for row, segment in enumerate(segments)
                for position in range(segment.start, len(segment.path))
            ]
            slots = [segments[row].path[position] for row, position in new]
        same = source_rows == list(range(buffer.segments))
        buffer.segments = len(segments)
        self._next.update({segment.path[-1]: (buffer, row) for row, segment in enumerate(segments)})

        def index(values: Sequence[Any]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        return BufferUpdate(
            buffer=buffer,
            shared=index(segments[0].path[:shared]),
            source_rows=None if same else index(source_rows),
            segments=index([row for row, _ in new]),
            positions=index([position - shared for _, position in new]),
            slots=index(slots),
            width=width,
        )

    def _continued_buffer(
        self, segments: Sequence[Segment], shared: int
    ) -> tuple[KVBuffer | None, list[int]]:
        """The buffer that all segments continue, and their rows in it; None if there is none."""
        found = [
            self._last.get(segment.path[segment.start - 1]) for segment in segments if segment.start
        ]
        known = [one for one in found if one is not None]
        if len(known) < len(segments):
            return None, []
        buffer = known[0][0]
        # Two blocks of the same pass must not update the same buffer.
        taken = any(buffer is other for other, _ in self._next.values())
        if taken or buffer.shared != shared or any(other is not buffer for other, _ in known):
            return None, []
        return buffer, [row for _, row in known]
