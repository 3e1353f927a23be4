"""The prefix tree: conversations with a common prefix share its computation.

Every distinct token in its context is one *slot*, computed once for all conversations that
contain it. The rules of a game are the same slots for all matches, and matches with identical
histories are one path.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class PrefixTree:
    """The slots of all distinct tokens so far; a slot's number is its index in the cache."""

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
        """Root of all conversations of one adapter (negative, so that it is never a slot).

        Keys and values depend on the weights, so adapters share no slots.
        """
        return self._roots.setdefault(adapter, -1 - len(self._roots))

    def insert(self, parent: int, tokens: Sequence[int]) -> tuple[list[int], int]:
        """Slots of `tokens` below `parent`, and how many of them already existed.

        After the first new token, all are new.
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
        """Slots of a conversation's tokens from the first on; None unless all exist."""
        parent, slots = self.root(adapter), []
        for token in tokens:
            slot = self._children.get((parent, token), -1)
            if slot < 0:
                return None
            slots.append(slot)
            parent = slot
        return slots

    def truncate(self, size: int) -> None:
        """Remove all slots from number `size` on."""
        del self.tokens[size:]
        self._children = {place: slot for place, slot in self._children.items() if slot < size}

    def copy(self, slot: int) -> int:
        """A new slot with the token of another, to compute it once more."""
        self.tokens.append(self.tokens[slot])
        return len(self.tokens) - 1


@dataclass(frozen=True)
class Segment:
    """A run of new tokens of one conversation."""

    path: Sequence[int]
    """Slots of the conversation, from its first token to the segment's last."""
    start: int
    """Index in `path` (= position) of the segment's first token."""
    tokens: Sequence[int]
    """Ids of the new tokens; `len(path) - start` of them."""
    adapter: str | None


def split_passes(segments: Sequence[Segment], most: int) -> list[tuple[int, list[Segment]]]:
    """Split segments into passes of at most `most` tokens; (first slot, segments) each."""
    found: list[tuple[int, list[Segment]]] = []
    room = 0
    for segment in segments:
        done = 0
        while done < len(segment.tokens):
            if room == 0:
                found.append((segment.path[segment.start + done], []))
                room = most
            take = min(room, len(segment.tokens) - done)
            start = segment.start + done
            piece = Segment(
                segment.path[: start + take],
                start,
                segment.tokens[done : done + take],
                segment.adapter,
            )
            found[-1][1].append(piece)
            done += take
            room -= take
    return found
