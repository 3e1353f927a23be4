"""Random streams that are derived from names, never stored.

`generator(seed, TREMBLE, round, seat)` returns the same stream wherever it is called, and streams
with different names are independent. A state therefore holds only its seed, and one draw more or
less never changes another.

A name begins with the owner: the run's seed; the environment seed of a match; the run's seed,
iteration and match; or the like for a cross-play or a counterfactual. Then follow the purpose (a
key of `STREAMS`) and the place: seat, round, attempt. No two random decisions share a name. Some
streams are read repeatedly and give the same values every time (instances, prompt variants);
those in `DRAWN_ONCE` are used at one point of the run only.

`recorded_streams` lists the streams that a piece of code used.
"""

import hashlib
import operator
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, SupportsIndex

import numpy as np

PRIOR: Final = "prior"
TREMBLE: Final = "tremble"
CONTINUE: Final = "continue"
DEAL: Final = "deal"
STARTER: Final = "starter"
PAYOFFS: Final = "payoffs"
ANSWER: Final = "answer"
STRATEGY: Final = "strategy"
BRANCH: Final = "branch"
FOLLOWUP: Final = "followup"
EXPLORATION: Final = "exploration"
PROMPT: Final = "prompt"
ENVIRONMENT: Final = "environment"
SEAT_ASSIGNMENT: Final = "seating"
LENGTH: Final = "length"
PAST: Final = "past"
CROSSPLAY: Final = "crossplay"
TOURNAMENT: Final = "tournament"
TORCH: Final = "torch"
ADAPTER: Final = "adapter"
CRITIC: Final = "critic"
VALUE_HEAD: Final = "value head"
MINIBATCHES: Final = "minibatches"
CHECK: Final = "check"
GENERALIZATION: Final = "generalization"
COMPOSITION: Final = "composition"
METAGAME: Final = "metagame"
COMPARISON: Final = "comparison"
POPULATION: Final = "population"

STREAMS: Final[dict[str, str]] = {
    # Owner: the match's environment seed, shared by all matches of a group.
    PRIOR: "the fictitious joint move before round 0: one draw per seat, in seat order",
    TREMBLE: "round, seat: whether the move is replaced by noise, then by which other move",
    CONTINUE: "round: whether another round follows",
    DEAL: "round (or none, for what is constant over the match), stock or values or neither: the "
    "items to split and each seat's values",
    STARTER: "the seat that moves first in round 0",
    PAYOFFS: "the match's payoff table",
    # Owner: the match, that is (run's seed, iteration, match), or a cross-play's match.
    ANSWER: "seat, round, step, attempt, part: the tokens of an answer in order; a fallback is the "
    "attempt after the last free one, the part is a thinking block",
    STRATEGY: "seat: the seed of a strategy of the axelrod package, which draws all its random "
    "numbers of the match from it",
    BRANCH: "step, seat, alternative: prefix of all streams of a counterfactual branch",
    FOLLOWUP: "seat, question: the answer to a follow-up question",
    EXPLORATION: "seat, round: the exploration instruction in a learner's prompt",
    PROMPT: "the variant shuffled (labels, swap, layout; mention or answer with seat and round; "
    "candidates, candidate labels)",
    # Owner: the run's seed.
    ENVIRONMENT: "iteration, group of matches: the environment seed",
    SEAT_ASSIGNMENT: "iteration, group: the assignment of players to seats",
    LENGTH: "iteration (or none): a length shared by all matches of a batch or run",
    PAST: "iteration, group, match (or none): the live seat's opponent; available, learner, "
    "iteration: the snapshots in the opponent pool",
    CROSSPLAY: "prefix of a cross-play's streams: its environment seeds, and pairing and match",
    TOURNAMENT: "prefix of a tournament's streams: its environment seeds, and pair and repetition",
    TORCH: "iteration, rank (but the first of several): the seed of torch's global generator, for "
    "dropout",
    ADAPTER: "learner: an adapter's initial weights",
    CRITIC: "learner: the initial weights of its critic's adapter",
    VALUE_HEAD: "learner: the initial weights of its value head",
    MINIBATCHES: "learner (a number derived from run and learner), then update, epoch: the order "
    "of PPO's minibatches",
    CHECK: "seat: test states for a scripted player, before a run",
    GENERALIZATION: "orders or answer, game, episode, round: questions of `comity evaluate`; all "
    "compared policies use the same random numbers",
    COMPOSITION: "repetition (or none): the seats of a composition of agents, and which "
    "compositions are played",
    METAGAME: "analysis, number of agents: starts of the replicator dynamics, draws of the Moran "
    "process",
    COMPARISON: "number of pairs: the sign flips of a permutation test",
    # Owner: the population's seed and the run's number.
    POPULATION: "type, number among its type (or environment), purpose, block: an agent's moves, "
    "selections and initial weights; the environment's first moves and orders of play",
}
"""Every purpose of a stream, with its place and what is drawn from it."""

PREFIXES: Final = frozenset({BRANCH, CROSSPLAY, TOURNAMENT})
"""Words that belong to the owner of a stream."""

DRAWN_ONCE: Final = frozenset({ANSWER, FOLLOWUP, TORCH, ADAPTER, CRITIC, VALUE_HEAD, MINIBATCHES})
"""Purposes whose streams are used once in a run; all others may be read again."""


@dataclass(frozen=True)
class Stream:
    """One use of a stream."""

    identity: tuple[int | str, ...]
    where: str
    """Module and function that opened it."""

    @property
    def purpose(self) -> str:
        """The purpose in its name; "" if there is none."""
        words = (part for part in self.identity if part in STREAMS and part not in PREFIXES)
        return str(next(words, ""))

    def __str__(self) -> str:
        return f"{' '.join(map(str, self.identity))} ({self.where})"


_listeners: list[list[Stream]] = []


def generator(*identity: SupportsIndex | str) -> np.random.Generator:
    """A new NumPy generator for the stream with this name.

    The name is hashed (BLAKE2b, 128 bits) into one `SeedSequence`, because a sequence given word
    by word confuses `(1, 2)` with `(1 + 2 * 2**32,)`. Stable over processes, platforms and Python
    versions; integers may be negative or of any size.
    """
    words = [part if isinstance(part, str) else operator.index(part) for part in identity]
    if _listeners:
        _note(tuple(words))
    digest = hashlib.blake2b(repr(words).encode(), digest_size=16).digest()
    return np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest, "big")))


@contextmanager
def recorded_streams() -> Iterator[list[Stream]]:
    """Record every stream that is used inside the block, in order."""
    found: list[Stream] = []
    _listeners.append(found)
    try:
        yield found
    finally:
        _listeners.remove(found)


def _note(identity: tuple[int | str, ...]) -> None:
    """Record a stream and its caller for every open block."""
    caller = sys._getframe(2)
    where = f"{caller.f_globals.get('__name__', '')}.{caller.f_code.co_qualname}"
    for found in _listeners:
        found.append(Stream(identity, where))
