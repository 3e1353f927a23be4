"""Running a batch of matches in lock-step.

In each step every backend gets one batch of requests, for all turns of its players, and then all
matches advance. To continue from later states (`comity.rollout.counterfactuals`), pass the states,
the sessions with their transcripts, and new numbers for the matches.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from comity.errors import WorkError
from comity.games.base import Game, PlayedMatches, Reply, Turn
from comity.players.base import (
    AsynchronousSession,
    Player,
    PlayerBackend,
    PlayerSession,
    Request,
    Response,
)
from comity.rollout.recording import complete_decision, decision_rows, record_outcome
from comity.rollout.records import Decision


class MissingMatchesError(WorkError):
    """Matches could not be played to their ends, because a player could not respond."""


@dataclass(frozen=True)
class Match:
    """One match to play."""

    number: int
    group: int
    """Matches of a group share their environment seed."""
    seed: int
    """Environment seed."""
    players: tuple[Player, ...]
    """The player on each seat."""
    stream: tuple[int | str, ...]
    """Name of the match's random streams (run seed, iteration, number)."""


@dataclass
class MatchRunner:
    """A batch of running matches."""

    matches: Sequence[Match]
    games: list[Game]
    """The game of each match (`Game.sample_instance`)."""
    states: list[Any]
    sessions: dict[PlayerBackend, PlayerSession]
    keys: Sequence[int]
    """Number of each match in the sessions."""
    iteration: int = 0
    limits: Sequence[int | None] | None = None
    """Number of rounds after which each match is stopped; None: never."""
    decisions: list[Decision] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    """Of every decision."""
    backends: list[PlayerBackend] = field(default_factory=list)
    """Of every decision."""
    replies: list[list[tuple[Any, dict[int, Reply]]]] = field(default_factory=list)
    """For each match the states and the replies of its steps."""
    missing: dict[int, str] = field(default_factory=dict)
    """Matches that were abandoned because a player could not respond, with the reason.

    They have no decisions and no finished rounds."""

    def __post_init__(self) -> None:
        self._open_decisions: list[list[Decision]] = [[] for _ in self.matches]
        self.replies = [[] for _ in self.matches]

    @staticmethod
    def begin(game: Game, matches: Sequence[Match], iteration: int = 0) -> "MatchRunner":
        """Matches in their initial states, with new sessions."""
        sessions: dict[PlayerBackend, PlayerSession] = {}
        for match in matches:
            for player in match.players:
                if player.backend not in sessions:
                    sessions[player.backend] = player.backend.open()
        games = [game.sample_instance(match.seed) for match in matches]
        states = [
            sample_instance.start(match.seed)
            for sample_instance, match in zip(games, matches, strict=True)
        ]
        return MatchRunner(matches, games, states, sessions, range(len(matches)), iteration)

    def step(self, fixed: Mapping[tuple[int, int], Reply] | None = None) -> bool:
        """Play one step of all matches; False when all are over.

        `fixed`: given replies by (index of the match, seat), which are neither requested nor
        recorded.
        """
        fixed = fixed or {}
        turns = [(m, turn) for m in range(len(self.states)) for turn in self._turns(m)]
        if not turns:
            self._finish()
            return False
        asked: dict[PlayerBackend, list[tuple[int, Request]]] = {
            backend: [] for backend in self.sessions
        }
        for m, turn in turns:
            if (m, turn.seat) not in fixed:
                match = self.matches[m]
                player = match.players[turn.seat]
                request = Request(player, self.keys[m], self.games[m], turn, match.stream)
                asked[player.backend].append((m, request))
        given = self._responses(asked)
        for (m, _), answer in given.items():
            if answer.failure:
                self.missing.setdefault(m, answer.failure)
        moves: dict[int, dict[int, Reply]] = {}
        for m, turn in turns:
            if m in self.missing:
                continue
            place = (m, turn.seat)
            if place in fixed:
                moves.setdefault(m, {})[turn.seat] = fixed[place]
                continue
            match = self.matches[m]
            player = match.players[turn.seat]
            moves.setdefault(m, {})[turn.seat] = given[place].action
            common = {
                "iteration": self.iteration,
                "match": match.number,
                "group": match.group,
                "seed": match.seed,
            }
            for decision, answer in decision_rows(
                self.games[m], turn, given[place], player, common
            ):
                self.decisions.append(decision)
                self._open_decisions[m].append(decision)
                self.backends.append(player.backend)
                self.answers.append(answer)
        for m, joint in moves.items():
            self._advance(m, joint)
        return True

    def _responses(
        self, asked: Mapping[PlayerBackend, Sequence[tuple[int, Request]]]
    ) -> dict[tuple[int, int], Response]:
        """The responses by (index of the match, seat).

        Asynchronous sessions begin first, so that they work while the others respond.
        """
        waiting: dict[PlayerBackend, Callable[[], list[Response]]] = {}
        for backend, session in self.sessions.items():
            if isinstance(session, AsynchronousSession) and asked[backend]:
                waiting[backend] = session.submit([request for _, request in asked[backend]])
        for backend, session in self.sessions.items():
            if backend not in waiting and asked[backend]:
                answers = session.respond([request for _, request in asked[backend]])
                waiting[backend] = partial(list, answers)
        given: dict[tuple[int, int], Response] = {}
        for backend, responses in waiting.items():
            for (m, request), answer in zip(asked[backend], responses(), strict=True):
                given[m, request.turn.seat] = answer
        return given

    def _drop_missing(self) -> None:
        """Remove the decisions of missing matches."""
        numbers = {self.matches[m].number for m in self.missing}
        kept = [i for i, d in enumerate(self.decisions) if d.match not in numbers]
        self.decisions = [self.decisions[i] for i in kept]
        self.answers = [self.answers[i] for i in kept]
        self.backends = [self.backends[i] for i in kept]

    def _finish(self) -> None:
        """Complete the decisions of pending responses."""
        if self.missing:
            self._drop_missing()
        finished = {backend: session.finish() for backend, session in self.sessions.items()}
        for i, (decision, backend) in enumerate(zip(self.decisions, self.backends, strict=True)):
            answer = finished[backend].get(decision.conversation)
            if answer is not None:
                complete_decision(decision, answer)
                self.answers[i] = answer

    def _turns(self, m: int) -> tuple[Turn, ...]:
        """The turns of a match; () if it is over or stopped."""
        if m in self.missing:
            return ()
        limit = self.limits[m] if self.limits is not None else None
        if limit is not None and len(self.games[m].history(self.states[m])) >= limit:
            return ()
        return self.games[m].turns(self.states[m])

    def _advance(self, m: int, joint: dict[int, Reply]) -> None:
        game, before = self.games[m], self.states[m]
        self.replies[m].append((before, joint))
        self.states[m] = game.step(before, joint)
        history = game.history(self.states[m])
        if len(history) > len(game.history(before)):
            record_outcome(self._open_decisions[m], history[-1])
            self._open_decisions[m] = []

    def check_complete(self) -> None:
        """Raises `MissingMatchesError` if matches are missing."""
        if self.missing:
            m, reason = next(iter(self.missing.items()))
            count = len(self.missing)
            raise MissingMatchesError(
                f"{count} of {len(self.matches)} matches {'is' if count == 1 else 'are'} missing "
                f"(match {self.matches[m].number}: {reason}); every answer that arrived is kept: "
                "resume the run to ask for the others again (comity train --resume FOLDER)"
            )

    @property
    def over(self) -> int:
        """Number of matches that are over."""
        return sum(not self._turns(m) for m in range(len(self.states)))

    def played(self) -> PlayedMatches:
        """The finished rounds as arrays; missing matches have none."""
        return PlayedMatches.from_histories(
            [
                () if m in self.missing else game.history(state)
                for m, (game, state) in enumerate(zip(self.games, self.states, strict=True))
            ],
            [getattr(state, "prior", None) for state in self.states],
        )
