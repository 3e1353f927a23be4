"""What a run needs of its device's memory, in bytes, by what it is for."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from comity.experiments.conversation_sizes import Sizes

SPARE = 0.05
"""Part of the memory that a prediction leaves free."""
PEAKS = ("activations", "playing", "learning", "peak")


@dataclass(frozen=True)
class Memory:
    """Predicted bytes of one run, by what they are for."""

    device: str
    dtype: str
    sizes: Sizes
    weights: int
    """The base model's weights."""
    other_models: int
    """Weights of other base models on seats (`model:ID`)."""
    adapters: int
    """All adapters that are loaded at a time: of learners, critics, past and frozen policies."""
    optimizer: int
    """Adam's two moments of each trained weight."""
    cache: int
    """Keys and values of all conversations of an iteration, at its end."""
    play_pass: int
    """The largest forward pass of play."""
    merged: int
    """Copies of weights with a merged adapter, while text is sampled."""
    gradients: int
    """Gradients of the trained adapters; learners are updated one after another."""
    stored: int
    """What one micro-batch of an update needs beside gradients, if all activations are kept."""
    recomputed: int
    """The same with activation checkpointing."""
    microbatch_tokens: int
    """Distinct tokens in that micro-batch."""
    sequence_tokens: int
    """Of these, tokens of one whole conversation, which cannot be divided."""
    shards: int = 1
    """Ranks among which the base model is divided; `weights` are those of one."""
    gathered: int = 0
    """A divided block while it is whole."""
    checkpointing: bool = False
    """Whether the update uses activation checkpointing (see `fitted`)."""

    def fitted(self, setting: str, room: float) -> "Memory":
        """With or without activation checkpointing, as in a run that has so many bytes.

        `setting`: one of `comity.config.schema.ACTIVATION_CHECKPOINTING`.
        """
        large = replace(self, checkpointing=False).learning > room
        return replace(self, checkpointing=setting == "always" or (setting == "auto" and large))

    @property
    def activations(self) -> int:
        """What one micro-batch of an update needs beside gradients."""
        return self.recomputed if self.checkpointing else self.stored

    @property
    def resident(self) -> int:
        """What stays in memory all the time."""
        return self.weights + self.other_models + self.adapters + self.optimizer

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
        counts = ("shards", "microbatch_tokens", "sequence_tokens")
        row = {
            key: value / 1e6 if type(value) is int and key not in counts else value
            for key, value in vars(self).items()
            if key != "sizes"
        }
        peaks = {key: getattr(self, key) / 1e6 for key in PEAKS}
        return {**row, **peaks, "sizes": asdict(self.sizes)}
