"""Cross-play: everyone meets everyone, in both orders of seats.

An `Entrant` is a name with one player per training seed (or one for all). Each pair of
entrants, and each with itself, plays `matches` matches under every seed, untrained players too:
means over seeds then have the same opponents in every seed. Matches come in twos on one
environment seed, in which the players change seats, and all pairings of a seed have the same
environments: who deals well is not taken for who plays well.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from comity.errors import ComityError
from comity.evaluation.payoff_ranges import is_deterministic
from comity.games.base import Game
from comity.games.randomness import CROSSPLAY, ENVIRONMENT, generator
from comity.players.base import Player
from comity.rollout.play import Match, play
from comity.rollout.records import Conversation, Decision

BATCH = 48
"""Matches that are played side by side; bounds the memory of the cache."""


@dataclass(frozen=True)
class Entrant:
    """Somebody who takes part."""

    name: str
    players: Mapping[int | None, Player]
    """By training seed; `{None: player}`: the same under every seed."""

    def player(self, seed: int) -> Player:
        return self.players[None] if None in self.players else self.players[seed]


@dataclass(frozen=True)
class Pairing:
    """Two entrants under one seed."""

    row: Entrant
    column: Entrant
    seed: int

    @property
    def label(self) -> str:
        return f"{self.row.name}|{self.column.name}|{self.seed}"


def pairings(entrants: Sequence[Entrant], seeds: Sequence[int]) -> list[Pairing]:
    """Every unordered pair under every seed, in the entrants' order."""
    return [
        Pairing(row, column, seed)
        for i, row in enumerate(entrants)
        for column in entrants[i:]
        for seed in seeds
    ]


@dataclass(frozen=True)
class Meetings:
    """The records of a cross-play; match numbers are unique in it.

    A group are all matches on one environment seed, whoever plays them.
    """

    decisions: list[Decision]
    conversations: list[Conversation]
    pairing_of_decision: list[str]
    pairing_of_conversation: list[str]
    deterministic: list[bool]
    """By decision: nothing in its match was left to chance, another would be the same."""


def check_matches(matches: int) -> None:
    """`ComityError` unless the players of a pairing can sit on each seat equally often."""
    if matches < 2 or matches % 2:
        raise ComityError(
            f"crossplay.matches must be even, not {matches}: in every two matches on one "
            "environment the players change seats"
        )


def crossplay(
    game: Game,
    entrants: Sequence[Entrant],
    seeds: Sequence[int],
    matches: int,
    advance: Callable[[int], None] = lambda done: None,
) -> Meetings:
    """Play all pairings of a two-seat game, an even number of `matches` each.

    `advance` is told of finished matches.
    """
    check_matches(matches)
    numbered = list(enumerate(_matches(pairings(entrants, seeds), matches)))
    twos = matches // 2
    meetings = Meetings([], [], [], [], [])
    deterministic: dict[tuple[str, str], bool] = {}
    for first in range(0, len(numbered), BATCH):
        batch = numbered[first : first + BATCH]
        rollout = play(
            game,
            [
                Match(
                    number=number,
                    group=list(seeds).index(pairing.seed) * twos + k // 2,
                    seed=int(
                        generator(pairing.seed, CROSSPLAY, ENVIRONMENT, k // 2).integers(2**62)
                    ),
                    players=_seated(pairing, k),
                    stream=(pairing.seed, CROSSPLAY, pairing.label, k),
                )
                for number, (pairing, k) in batch
            ],
        )
        labels = {number: pairing.label for number, (pairing, _) in batch}
        fixed = {number: _certain(game, pairing, deterministic) for number, (pairing, _) in batch}
        offset = len(meetings.conversations)
        for decision in rollout.decisions:
            if decision.conversation >= 0:
                decision.conversation += offset
            decision.trained = False
        for conversation in rollout.conversations:
            conversation.conversation += offset
        meetings.decisions.extend(rollout.decisions)
        meetings.conversations.extend(rollout.conversations)
        meetings.pairing_of_decision.extend(labels[d.match] for d in rollout.decisions)
        meetings.deterministic.extend(fixed[d.match] for d in rollout.decisions)
        meetings.pairing_of_conversation.extend(labels[c.match] for c in rollout.conversations)
        advance(len(batch))
    return meetings


def _certain(game: Game, pairing: Pairing, known: dict[tuple[str, str], bool]) -> bool:
    """Two scripts that leave nothing to chance in a game without chance, in either seat order."""
    key = pairing.row.name, pairing.column.name
    if key not in known:
        pair = [one.player(pairing.seed) for one in (pairing.row, pairing.column)]
        scripts = [getattr(player, "strategy", None) for player in pair]
        known[key] = all(player.controller == "scripted" for player in pair) and all(
            is_deterministic(game, order) for order in (scripts, scripts[::-1])
        )
    return known[key]


def _matches(pairs: Sequence[Pairing], matches: int) -> Iterator[tuple[Pairing, int]]:
    for pairing in pairs:
        for k in range(matches):
            yield pairing, k


def _seated(pairing: Pairing, k: int) -> tuple[Player, Player]:
    """The pairing's players by seat: the row's on seat 0 in every other match."""
    row, column = pairing.row.player(pairing.seed), pairing.column.player(pairing.seed)
    return (row, column) if k % 2 == 0 else (column, row)
