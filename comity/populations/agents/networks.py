"""Many independent networks of two layers, as batched matrix products.

B networks with I inputs, H hidden units with ReLU and O outputs are the rows of one array, so that
one elementwise step of Adam updates all of them, each with moments and a count of steps of its
own. Rows are padded to whole vectors of the processor: every number of a row is computed in the
same way, wherever the row lies, and a network alone equals the same network among others bit for
bit.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from comity.games.randomness import POPULATION, generator
from comity.populations.members import Members

VECTOR = 16
"""float32 numbers in a processor's widest vector."""

BETAS, SMALL = (0.9, 0.999), 1e-8
"""Adam's decay rates, and what it adds to the denominator."""


class Networks:
    """B networks `outputs(relu(hidden(x)))`, trained with Adam."""

    def __init__(
        self, batch: int, inputs: int, hidden: int, outputs: int, learning_rate: float
    ) -> None:
        self._sizes = (inputs * hidden, hidden, outputs * hidden, outputs)
        self._shape = (inputs, hidden, outputs)
        width = -(-sum(self._sizes) // VECTOR) * VECTOR
        self.learning_rate = learning_rate
        self.parameters, self.gradient, self.mean, self.square = (
            torch.zeros(batch, width) for _ in range(4)
        )
        self.steps = torch.zeros(batch)
        """Steps that every network has made."""
        self.first, self.first_bias, self.second, self.second_bias = self._views(self.parameters)
        (
            self.first_gradient,
            self.first_bias_gradient,
            self.second_gradient,
            self.second_bias_gradient,
        ) = self._views(self.gradient)
        self._common_steps: float | None = 0.0

    def _views(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """`[B, I, H]`, `[B, 1, H]`, `[B, O, H]` and `[B, 1, O]` of a flat array."""
        inputs, hidden, outputs = self._shape
        shapes = ((inputs, hidden), (1, hidden), (outputs, hidden), (1, outputs))
        parts = flat.split([*self._sizes, flat.shape[1] - sum(self._sizes)], dim=1)
        return [part.view(len(flat), *s) for part, s in zip(parts, shapes, strict=False)]

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
            for view, weight in zip(self._views(self.parameters), weights, strict=True):
                view[row] = torch.from_numpy(weight)

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, K, H]` of inputs `[B, K, I]`."""
        return torch.baddbmm(self.first_bias, x, self.first).relu_()

    def outputs(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[B, K, O]` of hidden units `[B, K, H]`."""
        return torch.baddbmm(self.second_bias, hidden, self.second.transpose(1, 2))

    def step(self, which: np.ndarray | None = None) -> None:
        """One step of Adam with the gradients; `which`: bool `[B]`, the networks that make one."""
        if which is not None and which.all():
            which = None
        if which is None and self._common_steps is not None:
            self._common_steps += 1
            self.steps.fill_(self._common_steps)
            self._adam([[one] for one in (*self._arrays(), self.steps[0])])
            return
        self._common_steps = None
        rows = range(len(self.steps)) if which is None else np.flatnonzero(which).tolist()
        if not len(rows):
            return
        if which is None:
            self.steps += 1
        else:
            self.steps += torch.from_numpy(which)
        self._adam([[one[row] for row in rows] for one in (*self._arrays(), self.steps)])

    def _arrays(self) -> Sequence[torch.Tensor]:
        return self.parameters, self.gradient, self.mean, self.square

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
        return {name: getattr(self, name).numpy().copy() for name in names}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `save` returned."""
        for name in ("parameters", "mean", "square", "steps"):
            getattr(self, name).copy_(torch.from_numpy(np.array(state[name])))
        steps = self.steps.unique()
        self._common_steps = float(steps[0]) if len(steps) == 1 else None
        self.gradient.zero_()


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
