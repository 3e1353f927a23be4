"""What was told for exploration is taken out before anything is learned.

A decision is sampled in a context that holds instructions (`comity.prompts.exploration`), and
learned from in the same context without them: their token spans are removed, and what stands
after them moves up. The probabilities as sampled stay those of the context that held them, so
importance weights correct for the difference.
"""

from dataclasses import dataclass

from comity.prompts.exploration import EXPLORATION
from comity.rollout.records import Conversation


@dataclass(frozen=True)
class Remainder:
    """A conversation without its instructions."""

    ids: tuple[int, ...]
    removed: tuple[tuple[int, int], ...] = ()
    """(first, end) of every stretch that is missing, in the whole conversation's counting."""

    @staticmethod
    def of(talk: Conversation) -> "Remainder":
        """All of a conversation that is learned from."""
        removed = tuple((p.start, p.end) for p in talk.pieces if p.kind == EXPLORATION)
        ids: list[int] = []
        after = 0
        for first, end in removed:
            ids += talk.ids[after:first]
            after = end
        return Remainder((*ids, *talk.ids[after:]), removed)

    def place(self, index: int) -> int:
        """Where the conversation's id at `index`, which is not removed, stands here."""
        return index - sum(end - first for first, end in self.removed if end <= index)
