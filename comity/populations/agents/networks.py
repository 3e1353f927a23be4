"""Many independent networks of two layers, as batched matrix products.

B networks with I inputs, H hidden units with ReLU and O outputs are the rows of one array, so that
one elementwise step of Adam updates all of them, each with moments and a count of steps of its
own. Rows are padded to whole vectors of the processor: every number of a row is computed in the
same way, wherever the row lies, and a network alone equals the same network among others bit for
bit.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from comity.games.randomness import POPULATION, generator
from comity.populations.members import Members

VECTOR = 16
"""float32 numbers in a processor's widest vector."""

BETAS, SMALL = (0.9, 0.999), 1e-8
"""Adam's decay rates, and what it adds to the denominator."""


def layer_sizes(inputs: int, hidden: int, outputs: int) -> tuple[int, int, int, int]:
    """Weights and biases of both layers, in the order of `Layers`."""
    return inputs * hidden, hidden, outputs * hidden, outputs


def row_width(inputs: int, hidden: int, outputs: int) -> int:
    """Numbers in a network's row, padded to whole vectors."""
    return -(-sum(layer_sizes(inputs, hidden, outputs)) // VECTOR) * VECTOR


class Layers(NamedTuple):
    """The weights of B networks, or their gradients, float32."""

    first: np.ndarray
    """`[B, I, H]`."""
    first_bias: np.ndarray
    """`[B, 1, H]`."""
    second: np.ndarray
    """`[B, O, H]`."""
    second_bias: np.ndarray
    """`[B, 1, O]`."""


class Networks:
    """B networks `outputs(relu(hidden(x)))`, trained with Adam."""

    def __init__(
        self, batch: int, inputs: int, hidden: int, outputs: int, learning_rate: float
    ) -> None:
        self._sizes = layer_sizes(inputs, hidden, outputs)
        self._shape = (inputs, hidden, outputs)
        width = row_width(inputs, hidden, outputs)
        self.learning_rate = learning_rate
        self.parameters, self.gradient, self.mean, self.square = (
            np.zeros((batch, width), dtype=np.float32) for _ in range(4)
        )
        self.steps = np.zeros(batch, dtype=np.float32)
        """Steps that every network has made."""
        self.weights = self._views(self.parameters)
        self.gradients = self._views(self.gradient)
        self._common_steps: float | None = 0.0
        arrays = (self.parameters, self.gradient, self.mean, self.square, self.steps)
        self._tensors = [torch.from_numpy(one) for one in arrays]

    def _views(self, flat: np.ndarray) -> Layers:
        """The layers in a flat array."""
        inputs, hidden, outputs = self._shape
        shapes = ((inputs, hidden), (1, hidden), (outputs, hidden), (1, outputs))
        parts = np.split(flat, np.cumsum(self._sizes), axis=1)
        batch = len(flat)
        return Layers(*(part.reshape(batch, *s) for part, s in zip(parts, shapes, strict=False)))

    def initialize(self, members: Members, purpose: str) -> None:
        """Initial weights, uniform within 1 / sqrt(inputs of the layer), from named streams.

        The distribution of `torch.nn.Linear`.
        """
        inputs, hidden, outputs = self._shape
        names = [
            (members.settings.seed, run, POPULATION, *owner, purpose)
            for run in members.settings.numbers
            for owner in members.owners
        ]
        for row, name in enumerate(names):
            weights = initial_weights(name, inputs, hidden, outputs)
            for layer, weight in zip(self.weights, weights, strict=True):
                layer[row] = weight

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """`[B, K, H]` of inputs `[B, K, I]`."""
        # One input needs no sum; many small matrix products cost three times as much.
        one = self._shape[0] == 1
        found = x * self.weights.first if one else np.matmul(x, self.weights.first)
        found += self.weights.first_bias
        return np.maximum(found, 0, out=found)

    def outputs(self, hidden: np.ndarray) -> np.ndarray:
        """`[B, K, O]` of hidden units `[B, K, H]`."""
        found = np.matmul(hidden, self.weights.second.transpose(0, 2, 1))
        found += self.weights.second_bias
        return found

    def step(self, which: np.ndarray | None = None) -> None:
        """One step of Adam with the gradients; `which`: bool `[B]`, the networks that make one."""
        if which is not None and which.all():
            which = None
        if which is None and self._common_steps is not None:
            self._common_steps += 1
            self.steps.fill(self._common_steps)
            *arrays, steps = self._tensors
            self._adam([[one] for one in (*arrays, steps[0])])
            return
        self._common_steps = None
        which = np.ones(len(self.steps), dtype=bool) if which is None else which
        rows = np.flatnonzero(which).tolist()
        if rows:
            self.steps += which
            self._adam([[one[row] for row in rows] for one in self._tensors])

    def _adam(self, arrays: Sequence[list[torch.Tensor]]) -> None:
        """`torch.optim.Adam(fused=True)` in one pass over memory.

        `arrays`: parameters, gradients, first and second moments, and steps, a list of each.
        """
        parameters, gradients, means, squares, steps = arrays
        torch._fused_adam_(
            parameters,
            gradients,
            means,
            squares,
            [],
            steps,
            lr=self.learning_rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=SMALL,
            amsgrad=False,
            maximize=False,
        )

    def save(self) -> dict[str, np.ndarray]:
        """Weights, moments and steps."""
        names = ("parameters", "mean", "square", "steps")
        return {name: getattr(self, name).copy() for name in names}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `save` returned."""
        for name in ("parameters", "mean", "square", "steps"):
            getattr(self, name)[:] = state[name]
        alike = bool((self.steps == self.steps[0]).all())
        self._common_steps = float(self.steps[0]) if alike else None
        self.gradient.fill(0)


def initial_weights(
    stream: tuple[int | str, ...], inputs: int, hidden: int, outputs: int
) -> list[np.ndarray]:
    """float32 weights of a stream: `[I, H]`, `[1, H]`, `[O, H]` and `[1, O]`."""
    rng = generator(*stream, 0)
    shapes = ((inputs, hidden), (1, hidden), (outputs, hidden), (1, outputs))
    bounds = (inputs, inputs, hidden, hidden)
    return [
        (rng.random(shape, dtype=np.float32) * 2 - 1) / np.float32(np.sqrt(fan_in))
        for shape, fan_in in zip(shapes, bounds, strict=True)
    ]
