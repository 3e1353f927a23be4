"""The matches of a tournament of N seats, of which only the missing ones are played.

Repetition k has the same environment seed and the same random order of seats in every composition
(common random numbers). A match depends on nothing but the tournament's seed, its composition and
its repetition, so that more repetitions change no other match.
"""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from comity.errors import ComityError
from comity.evaluation.payoff_ranges import is_deterministic
from comity.evaluation.tournament.many_seats.compositions import Composition, seated
from comity.evaluation.tournament.many_seats.records import (
    SeatedMatch,
    read_matches,
    write_matches,
)
from comity.evaluation.tournament.pair_matches import ANSWERS
from comity.evaluation.tournament.round_robin import environment_seed
from comity.evaluation.tournament.schedule import (
    LOCKSTEP_SCRIPTED,
    Batch,
    batch_size,
    count_answers,
)
from comity.games.base import Game
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.stages import interchangeable
from comity.games.randomness import TOURNAMENT
from comity.games.split.game import Split
from comity.players.base import Player
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.rollout.play import Match, play

Key = tuple[Composition, int]
"""Composition and repetition."""


@dataclass(frozen=True)
class Fixture:
    """A match to play."""

    composition: Composition
    repetition: int

    @property
    def key(self) -> Key:
        """What identifies it in the tournament."""
        return self.composition, self.repetition

    @property
    def columns(self) -> dict[str, Any]:
        """What names it in the records."""
        return {"composition": ", ".join(self.composition), "repetition": self.repetition}


def check_many_seats(game: Game) -> None:
    """Raises `ComityError` for a game of which this tournament has no metrics."""
    if isinstance(game, Split):
        raise ComityError(
            f"this negotiation has {game.seats} seats; tournaments of more than two seats are for "
            "games of moves, such as public_goods"
        )


class ManySeats:
    """The matches of every composition."""

    def __init__(
        self,
        game: Game,
        players: Mapping[str, Player],
        compositions: Sequence[Composition],
        matches: int,
        seed: int,
    ) -> None:
        """`matches`: of each composition."""
        check_many_seats(game)
        self.game, self.players, self.seed = game, dict(players), seed
        self.compositions, self.matches = list(compositions), matches
        self._deterministic: dict[Composition, bool] = {}

    @property
    def total(self) -> int:
        """Matches of the whole tournament."""
        return len(self.compositions) * self.matches

    def is_deterministic(self, composition: Composition) -> bool:
        """Whether all matches are identical but for the seats of the agents.

        Known of our own strategies, for which only the number of others who did something counts,
        where that is all that payoffs depend on, too.
        """
        if composition not in self._deterministic:
            strategies = [getattr(self.players[name], "strategy", None) for name in composition]
            self._deterministic[composition] = (
                isinstance(self.game, Iterated)
                and interchangeable(self.game.stage)
                and all(type(one) in MATRIX_STRATEGIES.values() for one in strategies)
                and is_deterministic(self.game, strategies)
            )
        return self._deterministic[composition]

    def settled(self, played: Collection[Key]) -> int:
        """Matches of the tournament that are played; a deterministic one counts for all."""
        return self.total - sum(self._stored(one).key not in played for one in self._fixtures())

    def read_keys(self, folder: Path) -> set[Hashable]:
        """The keys of the matches that are stored."""
        return {match.key for match in read_matches(folder)}

    def write(self, folder: Path, number: int, matches: Sequence[SeatedMatch]) -> None:
        """Store a batch of matches as file `number`; all of it or nothing."""
        write_matches(folder, number, matches)

    def _fixtures(self) -> Iterator[Fixture]:
        # Repetitions first: a tournament that is stopped has some matches of every composition.
        for repetition in range(self.matches):
            for composition in self.compositions:
                yield Fixture(composition, repetition)

    def _stored(self, fixture: Fixture) -> Fixture:
        """The fixture under which the match is stored."""
        fixed = self.is_deterministic(fixture.composition)
        return Fixture(fixture.composition, 0) if fixed else fixture

    def play(
        self,
        played: Collection[Key] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Batch]:
        """Play what is missing, batch by batch; store each before the next is asked for.

        `progress(running, finished)` is called while a batch is played.
        """
        counts: dict[Fixture, int] = {}
        for fixture in map(self._stored, self._fixtures()):
            if fixture.key not in played:
                counts[fixture] = counts.get(fixture, 0) + 1
        waiting = sorted(counts, key=lambda one: (not self._is_scripted(one), one.repetition))
        for scripted, group in groupby(waiting, key=self._is_scripted):
            everything = list(group)
            size = LOCKSTEP_SCRIPTED if scripted else batch_size(self.players.values())
            for first in range(0, len(everything), size):
                batch = everything[first : first + size]
                yield self._play_batch(batch, scripted, counts, progress)

    def _is_scripted(self, fixture: Fixture) -> bool:
        return all(self.players[name].controller == "scripted" for name in fixture.composition)

    def _play_batch(
        self,
        batch: Sequence[Fixture],
        scripted: bool,
        counts: Mapping[Fixture, int],
        progress: Callable[[int, int], None] | None,
    ) -> Batch:
        """Play matches in lock-step, with records where a model plays."""
        made = [self._match(number, one) for number, one in enumerate(batch)]
        rollout = play(self.game, made, progress=progress, allow_missing=True)
        for decision in rollout.decisions:
            decision.trained = False
        answers = count_answers(rollout, len(batch), self.game.seats)
        played = rollout.played
        matches = []
        for m, fixture in enumerate(batch):
            if m in rollout.missing:
                continue
            alive = played.alive[m]
            matches.append(
                SeatedMatch(
                    agents=seated(fixture.composition, self.seed, fixture.repetition),
                    repetition=fixture.repetition,
                    seed=made[m].seed,
                    deterministic=self.is_deterministic(fixture.composition),
                    intended=played.intended[m][:, alive].tolist(),
                    moves=played.moves[m][:, alive].tolist(),
                    payoffs=played.payoffs[m][:, alive].tolist(),
                    **{kind: answers[m, :, k].tolist() for k, kind in enumerate(ANSWERS)},
                )
            )
        settled = sum(counts[one] for m, one in enumerate(batch) if m not in rollout.missing)
        if scripted:  # The matches say everything.
            return Batch(matches, [], settled)
        missing = {batch[m].key: reason for m, reason in rollout.missing.items()}
        columns = [one.columns for one in batch]
        return Batch(matches, columns, settled, rollout.decisions, rollout.conversations, missing)

    def _match(self, number: int, fixture: Fixture) -> Match:
        k = fixture.repetition
        agents = seated(fixture.composition, self.seed, k)
        return Match(
            number=number,
            group=k,
            seed=environment_seed(self.game, self.seed, k),
            players=tuple(self.players[name] for name in agents),
            stream=(self.seed, TOURNAMENT, *fixture.composition, k),
        )
