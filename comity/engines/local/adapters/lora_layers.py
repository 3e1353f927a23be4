"""LoRA forward passes of linear layers, with rows of several adapters in one batch."""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from comity.errors import ComityError

FEW_ROWS = 48
"""Most rows for which bfloat16 models on the CPU compute low-rank products in float32."""


class RowRouting:
    """Which adapter computes which rows in the running forward pass."""

    def __init__(self) -> None:
        self.modules: dict[str | None, str | None] = {None: None}
        """PEFT name of each adapter. PEFT matches adapter names against module names, where "0" or
        "mlp" occur already."""
        self.current: tuple[tuple[str | None, int, int], ...] = ()
        self.merged: str | None = None
        """The adapter that is merged into the layers' `comity_merged` weights."""
        self.dropout_adapters: Collection[str | None] = ()
        """The adapters whose dropout is applied."""

    @contextmanager
    def active(
        self,
        routes: tuple[tuple[str | None, int, int], ...],
        dropout_adapters: Collection[str | None] = (),
    ) -> Iterator[None]:
        if unknown := [name for name, _, _ in routes if name not in self.modules]:
            raise ComityError(f"no adapter named {unknown[0]!r} is loaded")
        self.current = tuple((self.modules[name], first, end) for name, first, end in routes)
        self.dropout_adapters = {
            self.modules[name] for name in dropout_adapters if name in self.modules
        }
        try:
            yield
        finally:
            self.current, self.dropout_adapters = (), ()

    def recomputation(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts for a part of the running pass: now, and when it is computed again later."""
        return nullcontext(), self._again(self.current, self.dropout_adapters, self.merged)

    @contextmanager
    def _again(self, *state: Any) -> Iterator[None]:
        """Inside the block, the routes of an earlier pass."""
        before = self.current, self.dropout_adapters, self.merged
        self.current, self.dropout_adapters, self.merged = state
        try:
            yield
        finally:
            self.current, self.dropout_adapters, self.merged = before


def packed_forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """`x [1, N, in]` or `[N, in]` -> the same with `out`: the base layer, plus each adapter on
    its own rows.
    """
    routes: RowRouting = self.comity_routes
    if routes.merged is not None and (merged := routes.modules[routes.merged]) in self.lora_A:
        (adapter, _, _), *others = routes.current
        if adapter == merged and not others and adapter not in routes.dropout_adapters:
            return F.linear(x, self.comity_merged, self.base_layer.bias)
    result: torch.Tensor = self.base_layer(x, *args, **kwargs)
    # Flattened, not indexed: the backward pass of a view is free, that of an index copies.
    inputs, outputs = x.flatten(0, -2), result.flatten(0, -2)
    if routes.current and len(inputs) != routes.current[-1][2]:
        raise ComityError("an adapter's layer does not see one row for each token")
    for adapter, first, end in routes.current:
        if adapter is None or adapter not in self.lora_A:
            continue
        rows = inputs[first:end] if end - first < len(inputs) else inputs
        if adapter in routes.dropout_adapters:
            rows = F.dropout(
                rows, self.lora_dropout[adapter].p if _has_dropout(self, adapter) else 0.0
            )
        up, down = self.lora_B[adapter].weight, self.lora_A[adapter].weight
        scale = self.scaling[adapter]
        if len(rows) <= FEW_ROWS and rows.device.type == "cpu" and rows.dtype != up.dtype:
            # The activations are smaller than the adapter, so they are cast.
            update = torch.mm(F.linear(rows.to(up.dtype), down) * scale, up.t()).to(rows.dtype)
            if end - first == len(inputs):
                return torch.add(outputs, update).view(result.shape)
            outputs[first:end] += update
            continue
        low = F.linear(rows, down.to(rows.dtype))
        # The scale multiplies the smaller matrix, forward and backward.
        up = (up * scale).to(rows.dtype).t()
        if end - first == len(inputs):
            return torch.addmm(outputs, low, up).view(result.shape)
        outputs[first:end] += torch.mm(low, up)
    return result


def _has_dropout(layer: Any, adapter: str) -> bool:
    return isinstance(layer.lora_dropout[adapter], torch.nn.Dropout)


def model_body(model: PreTrainedModel) -> torch.nn.Module:
    """The model without its output layer."""
    body: torch.nn.Module = getattr(model, model.base_model_prefix, None) or model.model
    return body


def linear_layers(model: PreTrainedModel) -> frozenset[str]:
    """Names of the linear layers of a model's body.

    Without those of MLPs beside experts, whose names PEFT confuses with the experts'
    parameters.
    """
    experts = any(name.endswith(_EXPERTS) for name, _ in model.named_parameters())
    inside = set(model_body(model).modules())
    return frozenset(
        name
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D))
        and module in inside
        and not (experts and name.rpartition(".")[2] in _MLP)
    )


_EXPERTS = (".experts.gate_up_proj", ".experts.down_proj")
_MLP = ("gate_proj", "up_proj", "down_proj", "gate_up_proj")
