"""Removes exploration instructions from conversations before training.

A decision is sampled in a context with instructions (`comity.prompts.exploration`), but trained
in the same context without them: their token spans are removed, and later tokens move up. The
recorded probabilities are those of the context with instructions, so importance weights correct
for the difference.
"""

from dataclasses import dataclass

from comity.prompts.exploration import EXPLORATION
from comity.rollout.records import Conversation


@dataclass(frozen=True)
class StrippedConversation:
    """A conversation without its exploration instructions."""

    ids: tuple[int, ...]
    removed: tuple[tuple[int, int], ...] = ()
    """(first, end) of every removed span, in indices of the whole conversation."""

    @staticmethod
    def of(conversation: Conversation) -> "StrippedConversation":
        """Strip a conversation."""
        removed = tuple((p.start, p.end) for p in conversation.pieces if p.kind == EXPLORATION)
        ids: list[int] = []
        after = 0
        for first, end in removed:
            ids += conversation.ids[after:first]
            after = end
        return StrippedConversation((*ids, *conversation.ids[after:]), removed)

    def index_of(self, index: int) -> int:
        """New index of the id at `index` in the whole conversation, which must not be removed."""
        return index - sum(end - first for first, end in self.removed if end <= index)
