"""Labels of moves: named sets and random labels."""

from collections.abc import Sequence

import numpy as np

from comity.errors import ComityError, lookup
from comity.games.randomness import PROMPT, generator
from comity.prompts.base import check_labels

LABEL_SETS: dict[str, tuple[str, str]] = {
    "action12": ("action1", "action2"),
    "action21": ("action2", "action1"),
    "action34": ("action3", "action4"),
    "AB": ("A", "B"),
    "BA": ("B", "A"),
    "XY": ("X", "Y"),
    "01": ("0", "1"),
    "10": ("1", "0"),
    "XY_YX": ("XY", "YX"),
    "reserved": ("⟦7⟧", "⟦8⟧"),
}
"""By name the labels of the first and the second move (published sets; training: action12).

`⟦id⟧` is the token with that id in the model's vocabulary (`comity.engines.chat`).
"""

RANDOM = "random"
"""Instead of the name of a set: random labels."""

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
LENGTHS = (2, 3, 7)
SCOPES = {
    "run": "the same labels in all matches of a run",
    "match": "new labels for every match",
}


def fixed_labels(labels: str | Sequence[str]) -> tuple[str, ...]:
    """The labels of a named set or a list of texts, by move."""
    if isinstance(labels, str):
        return lookup("set of labels", labels, {**LABEL_SETS, RANDOM: ()})
    check_labels(labels)
    return tuple(labels)


def random_labels(stream: Sequence[int | str], length: int, scope: str) -> tuple[str, str]:
    """Two distinct strings of capital letters and digits, of one length.

    `stream`: name of the match's random streams, which begins with the run's seed. Distinct labels
    of equal length are no prefixes of each other.
    """
    identity = stream[:1] if scope == "run" else stream
    rng = generator(*identity, PROMPT, "labels")

    def draw() -> str:
        return "".join(rng.choice(list(ALPHABET), size=length))

    first = draw()
    for _ in range(100):
        second = draw()
        if second != first:
            return first, second
    raise ComityError("no two distinct labels were drawn")  # chance below 1e-300


def shuffled(names: Sequence[str], order: str, rng: np.random.Generator | None) -> list[str]:
    """`names` in an order of `ORDERS`; "random" needs `rng`."""
    if order == "random":
        assert rng is not None
        return [names[i] for i in rng.permutation(len(names))]
    return list(names) if order == "given" else list(reversed(names))


ORDERS = {
    "given": "the first move's label first",
    "reversed": "the last move's label first",
    "random": "shuffled in every prompt",
}
"""The order of labels in a text."""
