"""A round robin of ordered pairs, self-play included, which plays only what is missing.

The row's player sits on seat 0, the column's on seat 1. Repetition k of every pair has the same
environment seed (common random numbers), so that two players can be compared under equal chances.
A match depends on nothing but the tournament's seed, its two players and its repetition: adding
players or repetitions changes no other match.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.evaluation.negotiation.outcomes import is_split, negotiation_outcomes
from comity.evaluation.payoff_ranges import is_deterministic
from comity.evaluation.tournament.pair_matches import ANSWERS
from comity.evaluation.tournament.records import StoredMatch, read_matches, write_matches
from comity.evaluation.tournament.schedule import (
    LOCKSTEP_SCRIPTED,
    Batch,
    batch_size,
    count_answers,
)
from comity.games.base import Game, PlayedMatches
from comity.games.randomness import ENVIRONMENT, TOURNAMENT, generator
from comity.games.split.game import group_seed
from comity.players.base import Player
from comity.rollout.play import Match, Rollout, play
from comity.rollout.scripted_matches import Pool, is_repeated, play_scripted

SCRIPTED_BATCH = 2000
"""Least matches of strategies in a file."""

Rounds = tuple[
    Sequence[bool], Sequence[float], Sequence[float], tuple[Sequence[int], Sequence[int]]
]
"""Of a match in a split game, by round: allocated, points, most points, `at_reserve` by seat."""


@dataclass(frozen=True)
class Fixture:
    """A match to play."""

    row: str
    column: str
    repetition: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies it in the tournament."""
        return self.row, self.column, self.repetition

    @property
    def columns(self) -> dict[str, Any]:
        """What names it in the records."""
        return {"row": self.row, "column": self.column, "repetition": self.repetition}


def check_seats(game: Game) -> None:
    """Raises `ComityError` unless the game has two seats."""
    if game.seats != 2:
        raise ComityError(
            f"this plays pairs, and the game has {game.seats} seats; choose a game of two, such as "
            "prisoners_dilemma"
        )


class RoundRobin:
    """The matches of a tournament."""

    def __init__(
        self,
        game: Game,
        players: Mapping[str, Player],
        matches: int,
        seed: int,
        pairs: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        """`matches`: of each ordered pair; `pairs`: (row, column); None: every ordered pair."""
        check_seats(game)
        self.pairs = list(product(players, repeat=2)) if pairs is None else list(pairs)
        self.game, self.players, self.matches, self.seed = game, dict(players), matches, seed
        self._deterministic: dict[tuple[str, str], bool] = {}
        self._pool: Pool = {}

    @property
    def total(self) -> int:
        """Matches of the whole tournament."""
        return len(self.pairs) * self.matches

    def is_deterministic(self, row: str, column: str) -> bool:
        """Whether all matches of the pair are identical."""
        if (row, column) not in self._deterministic:
            pair = (self.players[row], self.players[column])
            strategies = [getattr(player, "strategy", None) for player in pair]
            self._deterministic[row, column] = is_repeated(self.game, pair) or (
                None not in strategies and is_deterministic(self.game, strategies)
            )
        return self._deterministic[row, column]

    def missing(self, played: Collection[tuple[str, str, int]]) -> list[Fixture]:
        """What is still to be played, in order."""
        return [
            fixture
            for fixture in self._fixtures()
            if (fixture.row, fixture.column, self._stored(fixture)) not in played
        ]

    def settled(self, played: Collection[tuple[str, str, int]]) -> int:
        """Matches of the tournament that are played; a deterministic one counts for all."""
        return self.total - len(self.missing(played))

    def _fixtures(self) -> Iterator[Fixture]:
        # Repetitions first: a tournament that is stopped has some matches of every pair.
        for repetition in range(self.matches):
            for row, column in self.pairs:
                yield Fixture(row, column, repetition)

    def _stored(self, fixture: Fixture) -> int:
        """The repetition under which the fixture's match is stored."""
        return 0 if self.is_deterministic(fixture.row, fixture.column) else fixture.repetition

    def read_keys(self, folder: Path) -> set[Hashable]:
        """The keys of the matches that are stored."""
        return {match.key for match in read_matches(folder)}

    def write(self, folder: Path, number: int, matches: Sequence[StoredMatch]) -> None:
        """Store a batch of matches as file `number`; all of it or nothing."""
        write_matches(folder, number, matches)

    def play(
        self,
        played: Collection[tuple[str, str, int]] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Batch]:
        """Play what is missing, batch by batch; store each before the next is asked for.

        `progress(running, finished)` is called while a batch is played.
        """
        waiting: dict[tuple[str, str, int], Fixture] = {}
        counts: dict[tuple[str, str, int], int] = {}
        for fixture in self.missing(played):
            key = (fixture.row, fixture.column, self._stored(fixture))
            waiting.setdefault(key, replace(fixture, repetition=key[2]))
            counts[key] = counts.get(key, 0) + 1
        fast: list[StoredMatch] = []
        rest: list[Fixture] = []
        for (row, column), pair in _by_pair(waiting.values()).items():
            played_pair = self._play_scripted(row, column, pair)
            if played_pair is None:
                rest += pair
                continue
            fast += played_pair
            if len(fast) >= SCRIPTED_BATCH:
                yield Batch(fast, [], sum(counts[one.key] for one in fast))
                fast = []
        if fast:
            yield Batch(fast, [], sum(counts[one.key] for one in fast))
        # In lock-step repetition by repetition: one that is stopped has some of every pair.
        rest.sort(key=lambda one: (not self._is_scripted(one), one.repetition))
        for scripted, group in groupby(rest, key=self._is_scripted):
            everything = list(group)
            size = LOCKSTEP_SCRIPTED if scripted else batch_size(self.players.values())
            for first in range(0, len(everything), size):
                batch = everything[first : first + size]
                yield self._play_batch(batch, sum(counts[one.key] for one in batch), progress)

    def _play_batch(
        self,
        batch: list[Fixture],
        repeats: int,
        progress: Callable[[int, int], None] | None,
    ) -> Batch:
        """Play matches in lock-step, with records."""
        rollout = play(
            self.game,
            [self._match(number, one) for number, one in enumerate(batch)],
            progress=progress,
            allow_missing=True,
        )
        for decision in rollout.decisions:
            decision.trained = False
        matches = self._stored_matches(
            batch,
            rollout.played,
            count_answers(rollout, len(batch), 2),
            self._split_rounds(rollout, len(batch)),
            rollout.missing,
        )
        missing = {batch[m].key: reason for m, reason in rollout.missing.items()}
        if all(self._is_scripted(one) for one in batch):  # The matches say everything.
            return Batch(matches, [], repeats)
        return Batch(
            matches,
            [one.columns for one in batch],
            repeats - len(missing),
            rollout.decisions,
            rollout.conversations,
            missing,
        )

    def _play_scripted(
        self, row: str, column: str, pair: list[Fixture]
    ) -> list[StoredMatch] | None:
        """Matches of two strategies without records; None where that is not possible."""
        made = [self._match(0, one) for one in pair]
        played = play_scripted(
            self.game,
            (self.players[row], self.players[column]),
            [match.seed for match in made],
            [match.stream for match in made],
            self._pool,
        )
        if played is None:
            return None
        answers = np.zeros((len(pair), 2, len(ANSWERS)), dtype=int)
        answers[:, :, 0] = played.alive.sum(axis=1)[:, None]
        return self._stored_matches(pair, played, answers, [])

    def _is_scripted(self, fixture: Fixture) -> bool:
        return all(
            self.players[name].controller == "scripted" for name in (fixture.row, fixture.column)
        )

    def _match(self, number: int, fixture: Fixture) -> Match:
        k = fixture.repetition
        return Match(
            number=number,
            group=k,
            seed=environment_seed(self.game, self.seed, k),
            players=(self.players[fixture.row], self.players[fixture.column]),
            stream=(self.seed, TOURNAMENT, fixture.row, fixture.column, k),
        )

    def _stored_matches(
        self,
        batch: Sequence[Fixture],
        played: PlayedMatches,
        answers: np.ndarray,
        splits: Sequence[Rounds],
        missing: Collection[int] = (),
    ) -> list[StoredMatch]:
        found = []
        for m, fixture in enumerate(batch):
            if m in missing:
                continue
            alive = played.alive[m]
            deal, surplus, best, (reserve_row, reserve_column) = (
                splits[m] if splits else ((), (), (), ((), ()))
            )
            found.append(
                StoredMatch(
                    row=fixture.row,
                    column=fixture.column,
                    repetition=fixture.repetition,
                    seed=self._match(m, fixture).seed,
                    deterministic=self.is_deterministic(fixture.row, fixture.column),
                    intended_row=played.intended[m, 0, alive],
                    intended_column=played.intended[m, 1, alive],
                    moves_row=played.moves[m, 0, alive],
                    moves_column=played.moves[m, 1, alive],
                    payoffs_row=played.payoffs[m, 0, alive],
                    payoffs_column=played.payoffs[m, 1, alive],
                    deal=deal,
                    surplus=surplus,
                    best_surplus=best,
                    reserve_row=reserve_row,
                    reserve_column=reserve_column,
                    **{
                        f"{kind}_{seat}": int(answers[m, s, k])
                        for k, kind in enumerate(ANSWERS)
                        for s, seat in enumerate(("row", "column"))
                    },
                )
            )
        return found

    def _split_rounds(self, rollout: Rollout, matches: int) -> list[Rounds]:
        """The rounds of each match in a split game; [] in others."""
        if not is_split([decision.kind for decision in rollout.decisions]):
            return []
        outcomes = negotiation_outcomes(rollout.decisions)
        points = outcomes.points.sum(axis=1)
        deal = (outcomes.allocation.sum(axis=2) > 0).any(axis=1)
        found: list[Rounds] = []
        for m in range(matches):
            here = outcomes.round_match == m
            # Where all points are shared, what a seat takes for itself says nothing.
            shared = getattr(self.game, "shared_payoff", False)
            row, column = ((), ()) if shared else outcomes.at_reserve[here].T
            found.append((deal[here], points[here], outcomes.max_welfare[here], (row, column)))
        return found


def environment_seed(game: Game, seed: int, repetition: int) -> int:
    """The environment seed of a repetition, the same in all matches of a tournament."""
    drawn = int(generator(seed, TOURNAMENT, ENVIRONMENT, repetition).integers(2**62))
    return group_seed(game, drawn, repetition)


def _by_pair(fixtures: Iterable[Fixture]) -> dict[tuple[str, str], list[Fixture]]:
    found: dict[tuple[str, str], list[Fixture]] = {}
    for fixture in fixtures:
        found.setdefault((fixture.row, fixture.column), []).append(fixture)
    return found
