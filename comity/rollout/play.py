"""Play of many matches in lock-step, with a record of every decision.

Each match has its own random streams, so its result does not depend on the other matches of the
batch (up to floating-point rounding).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from comity.games.base import Game, PlayedMatches
from comity.players.base import MeteredBackend, PlayerBackend
from comity.rollout.match_runner import Match, MatchRunner, MissingMatchesError
from comity.rollout.records import Conversation, Decision, Piece

if TYPE_CHECKING:  # Humans and strategies play without torch.
    from comity.engines.local.scoring import Answers
    from comity.engines.local.session import Session
    from comity.engines.token_masks import TokenMask

__all__ = ["Match", "MissingMatchesError", "Rollout", "play"]


@dataclass(frozen=True)
class Rollout:
    """The result of a batch of matches."""

    decisions: list[Decision]
    """In order of play: step by step, match by match, seat by seat."""
    answers: "list[Answers]"
    """For each decision the ids of the scored legal answers; () for generated answers."""
    masks: "list[tuple[TokenMask | None, ...]]"
    """For each decision the masks of its sampled tokens; () without a grammar."""
    conversations: list[Conversation]
    """`conversations[d.conversation]` holds decision d."""
    played: PlayedMatches
    """The finished rounds as arrays; match m is the m-th of the batch (missing ones: no rounds)."""
    runner: MatchRunner | None = None
    """The matches with their sessions, if `play(keep=True)`."""
    recording: "Session | None" = None
    """The engine session of the only backend with a model, whose passes training may reuse."""
    missing: Mapping[int, str] = field(default_factory=dict)
    """Index of each abandoned match, with the reason; they have no decisions and no rounds."""
    local_matches: frozenset[int] | None = None
    """Numbers of the matches that this rank played, whose masks and passes it has; None: all."""

    def is_local(self, match: int) -> bool:
        """Whether this rank played the match with this number."""
        return self.local_matches is None or match in self.local_matches

    def release(self) -> None:
        """Free the memory of all forward passes; no more counterfactuals or reuse after that."""
        sessions = [] if self.runner is None else self.runner.sessions.values()
        for session in (self.recording, *(one.recording for one in sessions)):
            if session is not None:
                session.release()


def play(
    game: Game,
    matches: Sequence[Match],
    iteration: int = 0,
    progress: Callable[[int, int], None] | None = None,
    keep: bool = False,
    allow_missing: bool = False,
) -> Rollout:
    """Play all matches to their ends.

    `progress(running, finished)` is called after every step. `keep`: the result keeps the matches
    and the cache of all conversations, for counterfactuals. A match in which a player cannot
    respond is abandoned: with `allow_missing` it is in `Rollout.missing`, otherwise
    `MissingMatchesError` is raised when the others are over. A spent budget raises before the
    first match begins.
    """
    runner = MatchRunner.begin(game, matches, iteration)
    for backend in runner.sessions:
        if isinstance(backend, MeteredBackend):
            backend.check_budget()
    while runner.step():
        if progress is not None:
            progress(len(matches) - runner.over, runner.over)
    if not allow_missing:
        runner.check_complete()
    conversations = _conversations(runner)
    sessions = runner.sessions.values()
    recordings = [one.recording for one in sessions if one.recording is not None]
    if not keep:
        for session in recordings:
            session.finish()
    return Rollout(
        decisions=runner.decisions,
        answers=[answer.answers for answer in runner.answers],
        masks=[answer.masks for answer in runner.answers],
        conversations=conversations,
        played=runner.played(),
        runner=runner if keep else None,
        recording=recordings[0] if len(recordings) == 1 else None,
        missing=runner.missing,
    )


def _conversations(runner: MatchRunner) -> list[Conversation]:
    """The conversations of all sessions; sets the conversation numbers of the decisions."""
    number: dict[tuple[PlayerBackend, int], int] = {}
    conversations: list[Conversation] = []
    for backend, session in runner.sessions.items():
        for t, transcript in enumerate(session.transcripts):
            if transcript.match in runner.missing:
                continue
            number[backend, t] = len(conversations)
            conversations.append(
                Conversation(
                    iteration=runner.iteration,
                    conversation=len(conversations),
                    match=runner.matches[transcript.match].number,
                    seat=transcript.seat,
                    adapter=transcript.adapter,
                    ids=list(transcript.ids),
                    pieces=[
                        Piece(kind, start, end, backend.text(transcript.ids[start:end]))
                        for kind, start, end in transcript.pieces
                    ],
                )
            )
    for decision, backend in zip(runner.decisions, runner.backends, strict=True):
        if decision.conversation >= 0:
            decision.conversation = number[backend, decision.conversation]
    return conversations
