"""Normalization of a batch's loss.

Denominators are those of the whole batch, never of a micro-batch, so that accumulated gradients
equal the gradient of the whole batch, however it is split; except for `minibatch`. A scored
answer of several tokens is one term that counts for that many tokens.
"""

from collections.abc import Sequence

from comity.errors import lookup
from comity.learning.training_batch import TrainedDecision, TrainingSequence

NORMALIZATIONS = {
    "decisions": "divide by the number of trained decisions of the batch",
    "tokens": "divide by the number of trained tokens of the batch",
    "trajectory": "the mean over trajectories (a seat of a match) of their mean over tokens",
    "minibatch": "divide each micro-batch by its own tokens and add up (legacy)",
    "sum": "divide by nothing (legacy: long matches weigh more)",
}
"""Normalizations of the loss, by name."""


class Denominators:
    """The denominator Z of every decision of a batch."""

    def __init__(self, sequences: Sequence[TrainingSequence], normalization: str) -> None:
        lookup("normalization", normalization, NORMALIZATIONS)
        self._kind = normalization
        found = [d for sequence in sequences for d in sequence.decisions]
        self._decisions = float(len(found))
        self._tokens = float(sum(len(d.tokens) for d in found))
        self._lengths: dict[tuple[int, int], int] = {}
        """Number of tokens of every trajectory."""
        for d in found:
            self._lengths[d.trajectory] = self._lengths.get(d.trajectory, 0) + len(d.tokens)

    def of(self, decisions: Sequence[TrainedDecision]) -> list[float]:
        """Denominators of a micro-batch's decisions."""
        if self._kind == "trajectory":
            return [float(len(self._lengths) * self._lengths[d.trajectory]) for d in decisions]
        denominator = {
            "decisions": self._decisions,
            "tokens": self._tokens,
            "minibatch": float(sum(len(d.tokens) for d in decisions)),
            "sum": 1.0,
        }[self._kind]
        return [denominator] * len(decisions)
