"""Keys and values of lanes that go on token by token, laid out lane by lane.

The cache holds every slot once, in the order in which slots were computed; a lane's slots
lie scattered in it. Gathering them anew for each token would copy whole conversations again
and again. While answers are sampled, the same lanes ask for one token after another: a
`Window` gathers what they saw so far once, and from then on only adds the new slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from comity.engines.local.packing import Lane

MOST = 16_384
"""Most places (lanes x tokens) of a pass's windows; more lanes are gathered anew for each token."""
SPARE = 64
"""Places that a lane has left when its window is made or must grow."""

Layer = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer."""


@dataclass(eq=False)
class Window:
    """Some lanes with the same first `shared` slots, as they were in the last pass."""

    shared: int
    lanes: int
    """How many of them."""
    common: dict[int, Layer]
    """By layer: `[heads, shared, dim]`."""
    own: dict[int, Layer]
    """By layer: `[lanes, heads, places, dim]`; zero where a lane has no slot."""


@dataclass(frozen=True)
class Step:
    """What one pass adds to a window, the same for all layers."""

    window: Window
    shared: torch.Tensor
    """int64 `[shared]`: slots that all lanes begin with."""
    kept: torch.Tensor | None
    """int64 `[B]`: the window's lane that each lane goes on from; None: the same, in order."""
    lanes: torch.Tensor
    """int64 `[T]`: lane of each slot that is added."""
    places: torch.Tensor
    """int64 `[T]`: its place in the lane."""
    slots: torch.Tensor
    """int64 `[T]`: the slot; for a new window `[B, width]`, padded with any slot."""
    width: int
    """Places of the longest lane."""

    def extend(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[Layer, Layer]:
        """Keys and values of one layer, of the shared slots and of each lane's own.

        `keys`, `values`: the cache's, `[slots, heads, dim]`. Returns `[heads, shared, dim]` and
        `[B, heads, width, dim]`.
        """
        window = self.window
        if layer not in window.common:
            window.common[layer] = self._common(keys), self._common(values)
        old_key, old_value = window.own.get(layer, (None, None))
        key, value = self._extended(old_key, keys), self._extended(old_value, values)
        window.own[layer] = key, value
        return window.common[layer], (key[:, :, : self.width], value[:, :, : self.width])

    def _common(self, new: torch.Tensor) -> torch.Tensor:
        return new.index_select(0, self.shared).transpose(0, 1).contiguous()

    def _extended(self, old: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
        heads, dim = new.shape[1:]
        if old is None:
            whole = new.index_select(0, self.slots.flatten()).view(*self.slots.shape, heads, dim)
            return _longer(whole.transpose(1, 2), self.width + SPARE)
        if self.kept is not None:
            old = old.index_select(0, self.kept)
        if old.shape[2] < self.width:
            old = _longer(old, self.width + SPARE)
        old[self.lanes, :, self.places] = new.index_select(0, self.slots)
        return old


def _longer(tensor: torch.Tensor, places: int) -> torch.Tensor:
    """`[lanes, heads, places, dim]` with zeros after what was there."""
    lanes, heads, before, dim = tensor.shape
    longer = tensor.new_zeros((lanes, heads, places, dim))
    longer[:, :, :before] = tensor
    return longer


class Windows:
    """The windows of a session while it samples."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[Window, int]] = {}
        """By last slot: where a lane stood in the last pass."""
        self._next: dict[int, tuple[Window, int]] = {}
        """The same for the present pass."""
        self._places = 0
        """Of the present pass's windows."""

    def turn(self) -> None:
        """Another pass begins."""
        self._last, self._next, self._places = self._next, {}, 0

    def step(self, lanes: Sequence[Lane], shared: int, device: torch.device) -> Step | None:
        """What a block of lanes adds to its window; None: they are too many.

        The window is that of the last pass where all lanes go on from there, else a new one.
        """
        width = max(len(lane.path) for lane in lanes) - shared
        if self._places + len(lanes) * width > MOST:
            return None
        self._places += len(lanes) * width
        window, kept = self._before(lanes, shared)
        new: list[tuple[int, int]] = []
        slots: list[Any]
        if window is None:
            window, kept = Window(shared, len(lanes), {}, {}), list(range(len(lanes)))
            missing = [shared + width - len(lane.path) for lane in lanes]
            slots = [
                [*lane.path[shared:], *[lane.path[-1]] * more]
                for lane, more in zip(lanes, missing, strict=True)
            ]
        else:
            new = [
                (row, place)
                for row, lane in enumerate(lanes)
                for place in range(lane.start, len(lane.path))
            ]
            slots = [lanes[row].path[place] for row, place in new]
        same = kept == list(range(window.lanes))
        window.lanes = len(lanes)
        self._next.update({lane.path[-1]: (window, row) for row, lane in enumerate(lanes)})

        def index(values: Sequence[Any]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        return Step(
            window=window,
            shared=index(lanes[0].path[:shared]),
            kept=None if same else index(kept),
            lanes=index([row for row, _ in new]),
            places=index([place - shared for _, place in new]),
            slots=index(slots),
            width=width,
        )

    def _before(self, lanes: Sequence[Lane], shared: int) -> tuple[Window | None, list[int]]:
        """The one window that all lanes go on from, and from which of its lanes; None: none."""
        found = [self._last.get(lane.path[lane.start - 1]) for lane in lanes if lane.start]
        known = [one for one in found if one is not None]
        if len(known) < len(lanes):
            return None, []
        window = known[0][0]
        # What one block adds to a window is not for another block of the same pass.
        taken = any(window is other for other, _ in self._next.values())
        if taken or window.shared != shared or any(other is not window for other, _ in known):
            return None, []
        return window, [row for _, row in known]
