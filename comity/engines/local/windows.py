"""Windows: keys and values of conversations in rows of a fixed size, for passes of one shape."""

from collections.abc import Sequence

import torch

from comity.engines.local.attention import AttentionScoring, attend_masked
from comity.engines.local.kv_cache import KVCache


class Windows:
    """Keys and values of B rows with W positions each; the forward context of `decode_step`.

    Attention of a row's new token is to the positions up to its own, as far as a sliding window
    reaches. Position p of a row holds token p of its conversation.
    """

    checkpointing = False

    def __init__(self, rows: int, width: int, device: torch.device) -> None:
        self.width = width
        self.positions = torch.zeros(rows, dtype=torch.int64, device=device)
        """Position of each row's new token."""
        self._rows = torch.arange(rows, device=device)
        self._keys = torch.arange(width, device=device)
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        """By layer: `[B, kv_heads, W, dim]`."""
        self._biases: dict[tuple[int | None, torch.dtype], torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, cache: KVCache, paths: Sequence[Sequence[int]]) -> None:
        """Copy the slots of each row's conversation from a cache; a row without any is idle."""
        device = self.positions.device
        longest = max(len(path) for path in paths)
        padded = [[*path, *[0] * (longest - len(path))] for path in paths]
        slots = torch.tensor(padded, dtype=torch.int64, device=device).flatten()
        for layer, kept in cache.layers.items():
            if layer not in self._layers:
                shapes = [(len(self), one.shape[1], self.width, one.shape[2]) for one in kept]
                key, value = (one.new_zeros(shape) for one, shape in zip(kept, shapes, strict=True))
                self._layers[layer] = key, value
            for window, one in zip(self._layers[layer], kept, strict=True):
                found = one.index_select(0, slots).view(len(paths), longest, *one.shape[1:])
                window[:, :, :longest] = found.transpose(1, 2)

    def store(
        self, cache: KVCache, first_slot: int, rows: Sequence[int], positions: Sequence[int]
    ) -> None:
        """Copy single positions of rows to a cache, from slot `first_slot` on."""
        device = self.positions.device
        at, where = (
            torch.tensor(one, dtype=torch.int64, device=device) for one in (rows, positions)
        )
        for layer, (key, value) in self._layers.items():
            cache.extend(layer, first_slot, key[at, :, where], value[at, :, where])

    def begin_pass(self) -> None:
        """The biases depend on the positions of the new tokens."""
        self._biases = {}

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scoring: AttentionScoring,
        sliding_window: int | None,
    ) -> torch.Tensor:
        """Store the new tokens' keys and values, and attend: see `packed_attention`."""
        keys, values = self._layers[layer]
        keys[self._rows, :, self.positions] = key.squeeze(0).transpose(0, 1).to(keys.dtype)
        values[self._rows, :, self.positions] = value.squeeze(0).transpose(0, 1).to(values.dtype)
        heads, rows, dim = query.shape[1:]
        # Query heads that share a key head are rows of one matrix: keys are not repeated.
        q = query.squeeze(0).transpose(0, 1).reshape(rows, keys.shape[1], -1, dim)
        dtype = keys.dtype if scoring.plain else torch.float32
        bias = self._bias(sliding_window, dtype)
        out = attend_masked(q.to(keys.dtype), keys, values, bias, scoring)
        return out.reshape(1, rows, heads, -1).to(query.dtype)

    def _bias(self, sliding_window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """0 where a row's new token sees a position, else -inf: `[B, 1, 1, W]`."""
        made = self._biases.get((sliding_window, dtype))
        if made is None:
            new = self.positions[:, None]
            seen = self._keys <= new
            if sliding_window is not None:
                seen = seen & (self._keys > new - sliding_window)
            made = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            made = made.masked_fill(~seen, float("-inf"))[:, None, None]
            self._biases[sliding_window, dtype] = made
        return made

    @staticmethod
    def nbytes(cache: KVCache, rows: int, width: int) -> int:
        """Bytes of windows for what a cache holds."""
        return sum(rows * width * one[0].nbytes for kept in cache.layers.values() for one in kept)
