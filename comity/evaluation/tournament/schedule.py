"""What the two kinds of tournaments share: batches of matches, and how a command plays them."""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from comity.evaluation.tournament.pair_matches import ANSWERS
from comity.games.base import KINDS
from comity.players.base import MeteredBackend, Player
from comity.prompts.answers import NOT_BEHAVIOR
from comity.rollout.play import Rollout
from comity.rollout.records import Conversation, Decision

BATCH = 256
"""Most matches that are played in lock-step; bounds the memory of the models' cache."""
BUDGET_BATCH = 64
"""The same where a budget may be spent, which ends the play between batches."""
LOCKSTEP_SCRIPTED = 200
"""The same without language models, where strategies need observations."""


@dataclass(frozen=True)
class Batch:
    """Matches that were played together."""

    matches: Sequence[Any]
    """As the tournament stores them."""
    columns: Sequence[Mapping[str, Any]]
    """What names each match in the records of decisions, by the match number of the records."""
    repeats: int
    """Matches of the tournament that it settles: a deterministic one settles all repetitions."""
    decisions: list[Decision] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    missing: Mapping[Any, str] = field(default_factory=dict)
    """Matches that could not be played to their ends, with the reason; they are played again."""


class Schedule(Protocol):
    """The matches of a tournament, which plays only those that are missing."""

    @property
    def total(self) -> int:
        """Matches of the whole tournament."""
        ...

    def settled(self, played: Collection[Any]) -> int:
        """Matches of the tournament that are played; a deterministic one counts for all."""
        ...

    def play(
        self, played: Collection[Any] = (), progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Batch]:
        """Play what is missing, batch by batch; store each before the next is asked for.

        `progress(running, finished)` is called while a batch is played.
        """
        ...

    def read_keys(self, folder: Path) -> set[Hashable]:
        """The keys of the matches that are stored."""
        ...

    def write(self, folder: Path, number: int, matches: Sequence[Any]) -> None:
        """Store a batch of matches as file `number`; all of it or nothing."""
        ...


def batch_size(players: Iterable[Player]) -> int:
    """Most matches in lock-step."""
    backends = [getattr(player, "backend", None) for player in players]
    metered = any(isinstance(one, MeteredBackend) and one.has_budget for one in backends)
    return BUDGET_BATCH if metered else BATCH


def count_answers(rollout: Rollout, matches: int, seats: int) -> np.ndarray:
    """int `[match, seat, kind]`: numbers of answers (`ANSWERS`), without failed attempts."""
    found = np.zeros((matches, seats, len(ANSWERS)), dtype=int)
    for decision in rollout.decisions:
        if decision.kind in KINDS:
            counts = found[decision.match, decision.seat]
            counts[0] += 1
            if decision.move < 0:
                status = decision.parse_status
                counts[ANSWERS.index(status if status in NOT_BEHAVIOR else "illegal")] += 1
    return found
