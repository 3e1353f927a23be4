"""Key-value caches: keys and values of all slots of a prefix tree, layer by layer.

- `KVCache`: for playing, without gradients.
- `PrefixCache`: a prefix that was computed before, with gradients, for learning.
- `DifferentiableCache`: several passes with their graphs, for learning from played matches.
"""

from typing import Protocol

import torch


class Cache(Protocol):
    """Keys and values of all slots, layer by layer."""

    def extend(
        self, layer: int, first_slot: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store `[N, heads, dim]` at `first_slot`; returns all slots', `[slots, heads, dim]`.

        Activation checkpointing calls it a second time in the backward pass, with the same slots:
        then nothing is stored, and the result is that of the first time.
        """
        ...


class KVCache:
    """Keys and values kept between forward passes, without gradients."""

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

    @property
    def layers(self) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values by layer, `[slots, heads, dim]` each."""
        return {layer: (key, self._values[layer]) for layer, key in self._keys.items()}

    @property
    def slots(self) -> int:
        """Slots that there is room for."""
        return max((len(keys) for keys in self._keys.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes of all layers' keys and values."""
        return sum(one.nbytes for kept in (self._keys, self._values) for one in kept.values())


def _grown(kept: torch.Tensor | None, used: int, end: int, like: torch.Tensor) -> torch.Tensor:
    """A tensor with room for `end` slots; grows by at least half, so that copies are rare."""
    if kept is not None and kept.shape[0] >= end:
        return kept
    capacity = grown_capacity(0 if kept is None else kept.shape[0], used, end)
    grown = like.new_empty((capacity, *like.shape[1:]))
    if kept is not None:
        grown[:used] = kept[:used]
    return grown


def grown_capacity(capacity: int, used: int, end: int) -> int:
    """Slots of a cache that had `capacity`, of which `used` are filled, and now needs `end`."""
    return capacity if capacity >= end else max(end, used + used // 2, 256)


class PrefixCache:
    """Keys and values of a computed prefix, followed by the batch's own, for training.

    `keys[layer]`, `values[layer]`: `[T, heads, dim]`; none for an empty prefix.
    """

    def __init__(
        self,
        keys: dict[int, torch.Tensor] | None = None,
        values: dict[int, torch.Tensor] | None = None,
        keep: bool = False,
    ) -> None:
        self.keys = keys or {}
        self.values = values or {}
        self._keep = keep
        self.computed: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        """With `keep`, the batch's own keys and values by layer."""

    def extend(
        self, layer: int, first_slot: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._keep:
            self.computed.setdefault(layer, (key, value))
        if layer not in self.keys:
            return key, value
        return torch.cat([self.keys[layer], key]), torch.cat([self.values[layer], value])


class DifferentiableCache:
    """Keys and values of all slots with their autograd graphs, for training on played passes.

    Nothing is written in place, so gradients flow through all earlier passes.
    """

    def __init__(self) -> None:
        self._keys: dict[int, list[torch.Tensor]] = {}
        self._values: dict[int, list[torch.Tensor]] = {}

    def extend(
        self, layer: int, first_slot: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._keys.setdefault(layer, []), self._values.setdefault(layer, [])
        earlier, slots = 0, 0
        while slots < first_slot:
            slots += len(keys[earlier])
            earlier += 1
        if earlier == len(keys):  # Else this pass is computed again.
            keys.append(key)
            values.append(value)
        return torch.cat([*keys[:earlier], key]), torch.cat([*values[:earlier], value])

    def detached(self) -> KVCache:
        """The same keys and values without gradients."""
        cache = KVCache()
        for layer, keys in self._keys.items():
            key, value = torch.cat(keys).detach(), torch.cat(self._values[layer]).detach()
            cache.extend(layer, 0, key, value)
        return cache
