"""A conversation: token ids that grow under one adapter."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Conversation:
    """A growing sequence of token ids under one adapter."""

    adapter: str | None
    ids: list[int] = field(default_factory=list)
    _slots: list[int] = field(default_factory=list)

    def append(self, ids: Sequence[int]) -> None:
        self.ids.extend(ids)

    def rewind(self, length: int) -> None:
        """Remove all ids after the first `length`."""
        del self.ids[length:]
        del self._slots[length:]
