"""The optimizer's settings and the schedules of its learning rate."""

import math
from dataclasses import dataclass

from comity.errors import lookup

SCHEDULES = {
    "constant": "stays at the learning rate",
    "linear": "falls in a line to 0 at the end of the run",
    "cosine": "falls along half a cosine to 0 at the end of the run",
}
"""Schedules of the learning rate after warmup."""


@dataclass(frozen=True)
class OptimizerSettings:
    """Adam's settings."""

    learning_rate: float = 3e-4
    schedule: str = "constant"
    """A name in `SCHEDULES`."""
    warmup: int = 0
    """Updates over which the learning rate rises from 0."""
    gradient_clip: float | None = 1.0
    """Largest norm of the gradient; null: never scaled down."""
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        lookup("schedule", self.schedule, SCHEDULES)

    def rate(self, update: int, updates: int) -> float:
        """Learning rate of update number `update` (from 0) of `updates`."""
        if update < self.warmup:
            return self.learning_rate * (update + 1) / self.warmup
        done = (update - self.warmup) / max(1, updates - self.warmup)
        factor = {
            "constant": 1.0,
            "linear": 1.0 - done,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
        }[self.schedule]
        return self.learning_rate * max(0.0, factor)
