"""What a run needs of its device's memory, in bytes, by what it is for."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from comity.experiments.conversation_sizes import Sizes

SPARE = 0.05
"""Part of the memory that a prediction leaves free."""
PEAKS = ("activations", "playing", "learning", "peak")


def size(number: int | None) -> str:
    """Bytes in words: "1.2 GB"."""
    if number is None:
        return "unknown"
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.0f} MB"


@dataclass(frozen=True, kw_only=True)
class Resident:
    """Predicted bytes that stay in memory all the time, by what they are for."""

    device: str
    dtype: str
    weights: int
    """The base model's weights."""
    other_models: int
    """Weights of other base models on seats (`model:ID`)."""
    adapters: int
    """All adapters that are loaded at a time: of learners, critics, past and frozen policies."""
    optimizer: int
    """Adam's two moments of each trained weight."""
    gradients: int
    """Gradients of the trained adapters, in updates; learners are updated one after another."""
    shards: int = 1
    """Ranks among which the base model is divided; `weights` are those of one."""
    gathered: int = 0
    """A divided block while it is whole."""

    @property
    def resident(self) -> int:
        """What stays in memory all the time."""
        return self.weights + self.other_models + self.adapters + self.optimizer


@dataclass(frozen=True, kw_only=True)
class Memory(Resident):
    """Predicted bytes of one run, by what they are for."""

    sizes: Sizes
    cache: int
    """Keys and values of all conversations of an iteration, at its end."""
    play_pass: int
    """The largest forward pass of play."""
    merged: int
    """Copies of weights with a merged adapter, while text is sampled."""
    stored: int
    """What one micro-batch of an update needs beside gradients, if all activations are kept."""
    recomputed: int
    """The same with activation checkpointing."""
    microbatch_tokens: int
    """Distinct tokens in that micro-batch."""
    microbatch_limit: int | None
    """Most tokens of a micro-batch, as set or chosen; None: no limit."""
    sequence_tokens: int
    """Of these, tokens of one whole conversation, which cannot be divided."""
    checkpointing: bool = False
    """Whether the update uses activation checkpointing (see `fitting`)."""

    @property
    def activations(self) -> int:
        """What one micro-batch of an update needs beside gradients."""
        return self.recomputed if self.checkpointing else self.stored

    @property
    def playing(self) -> int:
        """Most bytes while matches are played."""
        return self.resident + self.gathered + self.cache + self.play_pass + self.merged

    @property
    def learning(self) -> int:
        """Most bytes while a learner is updated; as in play if nothing is trained."""
        return self.resident + self.gathered + self.gradients + self.activations

    @property
    def peak(self) -> int:
        """Most bytes at a time."""
        return max(self.playing, self.learning)

    def megabytes(self) -> dict[str, Any]:
        """All fields as plain values, bytes in megabytes (10^6 bytes)."""
        counts = ("shards", "microbatch_tokens", "microbatch_limit", "sequence_tokens")
        row = {
            key: value / 1e6 if type(value) is int and key not in counts else value
            for key, value in vars(self).items()
            if key != "sizes"
        }
        peaks = {key: getattr(self, key) / 1e6 for key in PEAKS}
        return {**row, **peaks, "sizes": asdict(self.sizes)}


def fitting(
    update: Callable[[int | None], Memory],
    limits: Sequence[int | None],
    setting: str,
    room: float,
) -> Memory:
    """The first of a run's possible updates that fits into so many bytes; if none does, the last.

    All sizes of micro-batches without activation checkpointing come before those with it, because
    it computes every block twice.

    `update`: the memory with micro-batches of at most so many tokens; `limits`: the largest first;
    `setting`: one of `comity.config.schema.ACTIVATION_CHECKPOINTING`.
    """
    modes = {"never": (False,), "always": (True,), "auto": (False, True)}[setting]
    for checkpointing in modes:

        def needs(limit: int | None, checkpointing: bool = checkpointing) -> Memory:
            return replace(update(limit), checkpointing=checkpointing)

        def fits(limit: int | None, needs: Callable[[int | None], Memory] = needs) -> bool:
            return needs(limit).learning <= room

        # A prediction takes seconds, and the largest mostly fit.
        first = 0 if fits(limits[0]) else bisect_left(limits, True, lo=1, key=fits)
        if first < len(limits):
            return needs(limits[first])
    return needs(limits[-1])
