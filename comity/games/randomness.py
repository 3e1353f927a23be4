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
BRANCH: Final = "branch"
FOLLOWUP: Final = "followup"
EXPLORATION: Final = "exploration"
PROMPT: Final = "prompt"
ENVIRONMENT: Final = "environment"
SEAT_ASSIGNMENT: Final = "seating"
LENGTH: Final = "length"
PAST: Final = "past"
CROSSPLAY: Final = "crossplay"
TORCH: Final = "torch"
ADAPTER: Final = "adapter"
CRITIC: Final = "critic"
VALUE_HEAD: Final = "value head"
MINIBATCHES: Final = "minibatches"
CHECK: Final = "check"
GENERALIZATION: Final = "generalization"

STREAMS: Final[dict[str, str]] = {
    # Of the match's environment seed, which all matches of a group share.
    PRIOR: "the fictitious joint move before round 0: one draw per seat, in seat order",
    TREMBLE: "round, seat: whether the hand trembles, then which other move it plays",
    CONTINUE: "round: whether another round follows this one",
    DEAL: "round (or none, for what holds all match long), stock or values or neither: what there "
    "is to split, and what it is worth to whom",
    STARTER: "the seat that begins round 0",
    PAYOFFS: "the match's payoff table",
    # Of the match: (run's seed, iteration, match), or of a cross-play's match.
    ANSWER: "seat, round, step, attempt, part: an answer, all of its tokens in order; a fallback "
    "is the attempt after the last free one, the part is a thinking block",
    BRANCH: "step, seat, alternative: prefix of everything that is drawn in an alternative",
    FOLLOWUP: "seat, question: the answer to a follow-up question",
    EXPLORATION: "seat, round: the instruction that a learner is told",
    PROMPT: "what is shuffled (labels, swap, layout; mention or answer with seat and round)",
    # Of the run's seed.
    ENVIRONMENT: "iteration, group of matches: the environment seed",
    SEAT_ASSIGNMENT: "iteration, group: who sits where",
    LENGTH: "iteration (or none): a length that all matches of a batch or run share",
    PAST: "iteration, group, match (or none): whom the live seat faces; available, learner, "
    "iteration: which snapshots may be drawn",
    CROSSPLAY: "prefix of a cross-play's streams: its environment seeds, and pairing and match",
    TORCH: "iteration: torch's own generator, for dropout",
    ADAPTER: "learner: an adapter's first weights",
    CRITIC: "learner: the first weights of its critic's adapter",
    VALUE_HEAD: "learner: the first weights of its value head",
    MINIBATCHES: "learner (a number that stands for a run and learner), then update, epoch: the "
    "order of PPO's minibatches",
    CHECK: "seat: what a script is tried with before a run",
    GENERALIZATION: "orders or answer, game, episode, round: questions of `comity evaluate`; the "
    "policies that are compared answer with the same numbers",
}
"""Every purpose of a stream, with its place and what is drawn from it."""

PREFIXES: Final = frozenset({BRANCH, CROSSPLAY})
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
