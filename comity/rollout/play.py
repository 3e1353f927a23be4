"""Plays many matches to their ends in lock-step and writes down every decision.

Randomness is each match's own, so a match does not depend on which others are played beside
it (up to floating-point rounding of batches).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comity.games.base import Game, Played
from comity.players.base import Host
from comity.rollout.match_runner import Live, Match
from comity.rollout.records import Conversation, Decision, Piece

if TYPE_CHECKING:  # People and scripts play without torch.
    from comity.engines.local.scoring import Answers
    from comity.engines.local.session import Session
    from comity.engines.token_masks import Mask

__all__ = ["Match", "Rollout", "play"]


@dataclass(frozen=True)
class Rollout:
    """What came of a batch of matches."""

    decisions: list[Decision]
    """In order of play: step by step, match by match, seat by seat."""
    answers: "list[Answers]"
    """For each decision the legal answers' ids that were scored; () for written answers."""
    masks: "list[tuple[Mask | None, ...]]"
    """For each decision the masks that its tokens were sampled under; () where there were none."""
    conversations: list[Conversation]
    """`conversations[d.conversation]` holds decision d."""
    played: Played
    """The same as arrays; match m is the m-th of the batch."""
    live: Live | None = None
    """The matches as they ended, with their tables, where they were asked to be kept."""
    recording: "Session | None" = None
    """The passes of the one host with a model, for a first learning step to reuse."""

    def release(self) -> None:
        """Give back the memory of all passes: nothing is branched off or reused any more."""
        tables = [] if self.live is None else self.live.tables.values()
        for session in (self.recording, *(table.recording for table in tables)):
            if session is not None:
                session.release()


def play(
    game: Game,
    matches: Sequence[Match],
    iteration: int = 0,
    progress: Callable[[int, int], None] | None = None,
    keep: bool = False,
) -> Rollout:
    """Play all matches to their ends.

    `progress(live, finished)` is called after every step. `keep`: the result holds on to the
    matches and the cache of all conversations, to branch off from them.
    """
    live = Live.begin(game, matches, iteration)
    while live.step():
        if progress is not None:
            progress(len(matches) - live.over, live.over)
    conversations = _conversations(live)
    tables = live.tables.values()
    recordings = [table.recording for table in tables if table.recording is not None]
    if not keep:
        for session in recordings:
            if not session.recording:  # Nobody asks it for anything any more.
                session.release()
    return Rollout(
        decisions=live.decisions,
        answers=[answer.answers for answer in live.answers],
        masks=[answer.masks for answer in live.answers],
        conversations=conversations,
        played=live.played(),
        live=live if keep else None,
        recording=recordings[0] if len(recordings) == 1 else None,
    )


def _conversations(live: Live) -> list[Conversation]:
    """All tables' conversations; the decisions are told their numbers."""
    number: dict[tuple[Host, int], int] = {}
    conversations: list[Conversation] = []
    for host, table in live.tables.items():
        for t, talk in enumerate(table.talks):
            number[host, t] = len(conversations)
            conversations.append(
                Conversation(
                    iteration=live.iteration,
                    conversation=len(conversations),
                    match=live.matches[talk.match].number,
                    seat=talk.seat,
                    adapter=talk.adapter,
                    ids=list(talk.ids),
                    pieces=[
                        Piece(kind, start, end, host.text(talk.ids[start:end]))
                        for kind, start, end in talk.pieces
                    ],
                )
            )
    for decision, host in zip(live.decisions, live.hosts, strict=True):
        if decision.conversation >= 0:
            decision.conversation = number[host, decision.conversation]
    return conversations
