"""Randomness that is derived, never held.

A chance is identified by integers and words: `generator(seed, TREMBLE, round, seat)` is
the same stream wherever and whenever it is asked for, and streams with different names
are independent. So a state needs to hold nothing but its seed, and drawing one chance more
or less never moves another.

Streams of the games, each `generator(seed, STREAM, ...)` with the match's environment seed:

- `PRIOR`: the fictitious joint move before round 0; one draw per seat, in seat order.
- `TREMBLE`, round, seat: whether the hand trembles, then which other move it plays.
- `CONTINUE`, round: whether another round follows this one.
- `DEAL`, round (or none, for what holds all match long), "stock", "values" or none for both:
  what there is to split, and what it is worth to whom.
- `STARTER`: the seat that begins round 0.
"""

import hashlib
import operator
from typing import Final, SupportsIndex

import numpy as np

PRIOR: Final = "prior"
TREMBLE: Final = "tremble"
CONTINUE: Final = "continue"
DEAL: Final = "deal"
STARTER: Final = "starter"


def generator(*identity: SupportsIndex | str) -> np.random.Generator:
    """The NumPy generator of the stream that these integers and strings name, at its start.

    The whole identity is hashed (BLAKE2b, 128 bits) into one `SeedSequence`, because a
    sequence given word by word confuses `(1, 2)` with `(1 + 2 * 2**32,)`. Stable over
    processes, platforms and Python versions; integers may be negative or of any size.
    """
    words = [part if isinstance(part, str) else operator.index(part) for part in identity]
    digest = hashlib.blake2b(repr(words).encode(), digest_size=16).digest()
    return np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest, "big")))
