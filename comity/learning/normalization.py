"""What the loss of a batch is divided by.

Of a whole batch, never of a micro-batch, so that accumulated gradients equal the gradient of
everything at once, however it is cut; only `minibatch` is not so. A scored answer of several
tokens is one term that counts for that many tokens.
"""

from collections.abc import Sequence

from comity.errors import lookup
from comity.learning.training_batch import Lesson, TrainedDecision

NORMALIZATIONS = {
    "decisions": "divide by the number of trained decisions of the batch",
    "tokens": "divide by the number of trained tokens of the batch",
    "trajectory": "the mean over trajectories (a seat of a match) of their mean over tokens",
    "minibatch": "divide each micro-batch by its own tokens and add up (legacy: the cut matters)",
    "sum": "divide by nothing (legacy: long matches weigh more)",
}
"""What Z is."""


class Denominators:
    """Z of every decision of a batch."""

    def __init__(self, lessons: Sequence[Lesson], normalization: str) -> None:
        lookup("normalization", normalization, NORMALIZATIONS)
        self._kind = normalization
        found = [d for lesson in lessons for d in lesson.decisions]
        self._decisions = float(len(found))
        self._tokens = float(sum(len(d.tokens) for d in found))
        self._lengths: dict[tuple[int, int], int] = {}
        """Tokens of every trajectory."""
        for d in found:
            self._lengths[d.trajectory] = self._lengths.get(d.trajectory, 0) + len(d.tokens)

    def of(self, decisions: Sequence[TrainedDecision]) -> list[float]:
        """What each decision of a micro-batch is divided by."""
        if self._kind == "trajectory":
            return [float(len(self._lengths) * self._lengths[d.trajectory]) for d in decisions]
        z = {
            "decisions": self._decisions,
            "tokens": self._tokens,
            "minibatch": float(sum(len(d.tokens) for d in decisions)),
            "sum": 1.0,
        }[self._kind]
        return [z] * len(decisions)
