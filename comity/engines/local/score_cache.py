"""Scored answers that are computed elsewhere: a session asks for each of them once."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from comity.engines.local.conversation import Conversation
from comity.engines.local.scoring import Answers, ScoreRequest

Scorer = Callable[[list[ScoreRequest]], list[np.ndarray]]
"""log-probability of each legal answer, float64 `[K]` per request, summing to one."""


class ScoreCache:
    """The distributions that a session has asked for. Weights must not change while it is used."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, Answers, float], np.ndarray] = {}

    def score(self, scorer: Scorer, requests: Sequence[ScoreRequest]) -> list[np.ndarray]:
        """What the scorer says of each request; it is asked for those that are new."""
        keys = [(_digest(one.conversation), one.answers, one.temperature) for one in requests]
        new = {key: one for key, one in zip(keys, requests, strict=True) if key not in self._known}
        if new:
            self._known.update(zip(new, scorer(list(new.values())), strict=True))
        return [self._known[key] for key in keys]


def _digest(conversation: Conversation) -> bytes:
    """A hash (BLAKE2b, 128 bits) of a conversation: it may have thousands of ids."""
    digest = hashlib.blake2b(repr(conversation.adapter).encode(), digest_size=16)
    digest.update(np.array(conversation.ids, dtype=np.int64).tobytes())
    return digest.digest()
