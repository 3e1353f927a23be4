"""Cross-play: a round-robin between players, in both seat orders.

A `Participant` is a name with one player per training seed, or one player for all seeds. Each
pair of participants, and each participant with itself, plays `matches` matches under every seed.
So do untrained players, so that averages over seeds have the same opponents in every seed. Matches
come in pairs on one environment seed with the seats swapped, and all pairings of a seed share
their environment seeds (common random numbers).
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
"""Matches that are played in lock-step; bounds the memory of the cache."""


@dataclass(frozen=True)
class Participant:
    """A participant of the cross-play."""

    name: str
    players: Mapping[int | None, Player]
    """By training seed; `{None: player}`: the same under every seed."""

    def player(self, seed: int) -> Player:
        return self.players[None] if None in self.players else self.players[seed]


@dataclass(frozen=True)
class Pairing:
    """Two participants under one seed."""

    row: Participant
    column: Participant
    seed: int

    @property
    def label(self) -> str:
        return f"{self.row.name}|{self.column.name}|{self.seed}"


def pairings(participants: Sequence[Participant], seeds: Sequence[int]) -> list[Pairing]:
    """Every unordered pair under every seed, in the participants' order."""
    return [
        Pairing(row, column, seed)
        for i, row in enumerate(participants)
        for column in participants[i:]
        for seed in seeds
    ]


@dataclass(frozen=True)
class CrossplayRecords:
    """The records of a cross-play; match numbers are unique within it.

    A group consists of all matches on one environment seed, in all pairings.
    """

    decisions: list[Decision]
    conversations: list[Conversation]
    pairing_of_decision: list[str]
    pairing_of_conversation: list[str]
    deterministic: list[bool]
    """By decision: whether its match has no randomness, so that a repetition would be equal."""


def check_matches(matches: int) -> None:
    """Raises `ComityError` unless `matches` is even, so that seats can be balanced."""
    if matches < 2 or matches % 2:
        raise ComityError(
            f"crossplay.matches must be even, not {matches}: each environment seed is played "
            "twice, with the seats swapped"
        )


def crossplay(
    game: Game,
    participants: Sequence[Participant],
    seeds: Sequence[int],
    matches: int,
    advance: Callable[[int], None] = lambda done: None,
) -> CrossplayRecords:
    """Play all pairings of a two-seat game, an even number of `matches` each.

    `advance` is called with the number of newly finished matches.
    """
    check_matches(matches)
    numbered = list(enumerate(_matches(pairings(participants, seeds), matches)))
    twos = matches // 2
    records = CrossplayRecords([], [], [], [], [])
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
        fixed = {
            number: _is_deterministic(game, pairing, deterministic)
            for number, (pairing, _) in batch
        }
        offset = len(records.conversations)
        for decision in rollout.decisions:
            if decision.conversation >= 0:
                decision.conversation += offset
            decision.trained = False
        for conversation in rollout.conversations:
            conversation.conversation += offset
        records.decisions.extend(rollout.decisions)
        records.conversations.extend(rollout.conversations)
        records.pairing_of_decision.extend(labels[d.match] for d in rollout.decisions)
        records.deterministic.extend(fixed[d.match] for d in rollout.decisions)
        records.pairing_of_conversation.extend(labels[c.match] for c in rollout.conversations)
        advance(len(batch))
    return records


def _is_deterministic(game: Game, pairing: Pairing, known: dict[tuple[str, str], bool]) -> bool:
    """Whether two deterministic scripted players play a deterministic game, in both seat orders."""
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
