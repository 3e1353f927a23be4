"""An engine without weights, and a count of tensors' bytes: how much memory a pass would need.

`WeightlessEngine` is the engine on fake tensors (`torch._subclasses.fake_tensor`): they have a
shape, a type and a device but no values, so the engine's own code runs, with all its branches, in
no memory. `TensorMemory` counts the bytes of all tensors that are alive, of fake and real ones
alike; the count of a fake pass is that of the real one.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from comity.engines.local import attention
from comity.engines.local.activation_checkpointing import make_checkpointable, transformer_blocks
from comity.engines.local.adapters.lora import Adapters
from comity.engines.local.adapters.lora_layers import model_body
from comity.engines.local.context_limit import context_limit
from comity.engines.local.decoding import Routes
from comity.engines.local.engine import Engine
from comity.engines.local.models import quiet
from comity.engines.local.scoring import LMHead
from comity.errors import ComityError, one_line

NF4_BYTES = 0.5 + 4 / 64
"""Bytes of a weight in NF4: 4 bits, and a float32 scale for each block of 64."""


class TensorMemory(TorchDispatchMode):
    """Counts the bytes of the tensors that appear inside the block, as long as they live.

    Views share their tensor's bytes. Memory that an operation uses and frees inside itself is not
    seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        """Bytes of all tensors that are alive now."""
        self.peak = 0
        """Most bytes at a time since the last `reset_peak`."""
        self._known: set[int] = set()

    def reset_peak(self) -> None:
        self.peak = self.live

    def ignore(self, tensors: Iterable[torch.Tensor]) -> None:
        """Do not count these tensors, which were made before; views would make them seen."""
        self._known.update(tensor.untyped_storage()._cdata for tensor in tensors)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.prim.device.default and _is_fake(args[0]):
            return args[0].fake_device  # More than half of all calls, which have nothing to count.
        if func is torch.ops.aten._local_scalar_dense.default and _is_fake(args[0]):
            # A number that decides a branch: "everything is finite", or a size.
            return True if args[0].dtype == torch.bool else 1
        result = func(*args, **(kwargs or {}))
        for one in (result,) if isinstance(result, torch.Tensor) else tree_leaves(result):
            if isinstance(one, torch.Tensor):
                self._count(one)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)

        def forget() -> None:
            self._known.discard(key)
            self.live -= size

        weakref.finalize(storage, forget).atexit = False


@cache
def planned_weight_bytes(folder: Path, dtype: torch.dtype) -> int:
    """Bytes of the weights and buffers of the model in a folder, of which only the config is read.

    Takes some milliseconds. Raises `ComityError` for models that need more than their config.
    """
    model = _without_values(folder, dtype)
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def _without_values(folder: Path, dtype: torch.dtype) -> Any:
    """The model of a folder on torch's device "meta"."""
    try:
        with quiet(), torch.device("meta"):
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            loader: Any = AutoModelForCausalLM
            return loader.from_config(config, dtype=dtype, trust_remote_code=False)
    except Exception as error:  # transformers' models raise anything
        raise ComityError(
            f"cannot predict the memory of the model in {folder}: {one_line(error)}"
        ) from error


def _is_fake(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, torch._subclasses.fake_tensor.FakeTensor)


class WeightlessAdapters(Adapters):
    """Adapters of a model without weights: there is nothing that an insertion could change."""

    def check_weights(self) -> None:
        self._weight_checksums = {"": (0, 0)}


class WeightlessEngine(Engine):
    """The engine of a model of which only the config is read. Use it inside `memory()`."""

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype,
        device: torch.device,
        adapters: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """`adapters`: shapes by name, as `Adapters.add` takes them.

        Raises `ComityError` for models that need more than their config.
        """
        self._fake = FakeTensorMode()
        try:
            model = _without_values(folder, dtype).eval()
            with torch.device("meta"):
                model.requires_grad_(False).set_attn_implementation(attention.NAME)
                self.adapters = WeightlessAdapters(model)
                for name, shape in adapters.items():
                    self.adapters.add(name, **shape)
            with self._fake:
                _make_fake(model, device)
        except ComityError:
            raise
        except Exception as error:  # transformers' models raise anything
            raise ComityError(
                f"cannot predict the memory of the model in {folder}: {one_line(error)}"
            ) from error
        self.model = model
        self.head = LMHead(model)
        self.context_limit = context_limit(model)
        self._body = model_body(model)
        make_checkpointable(self._body, self.adapters.routes, random=False)
        self.tokens_computed = self.tokens_reused = 0

    @contextmanager
    def memory(self) -> Iterator[TensorMemory]:
        """Inside the block all tensors are fake, and their bytes are counted."""
        with self._fake, TensorMemory() as memory:
            memory.ignore((*self.model.parameters(), *self.model.buffers()))
            yield memory

    def weight_bytes(self, quantized: bool = False, shards: int = 1) -> int:
        """Bytes of the base model's weights and buffers; `quantized`: linear layers in NF4.

        `shards`: ranks among which the blocks are divided; the bytes are those of one rank.
        """
        if shards > 1:
            divided = sum(self._block_bytes())
            return self.weight_bytes() - divided + -(-divided // shards)
        linear = {
            id(module.weight)
            for module in self._body.modules()
            if isinstance(module, torch.nn.Linear | Conv1D)
        }
        named = [*self.model.named_parameters(), *self.model.named_buffers()]
        return sum(
            int(tensor.numel() * NF4_BYTES) if quantized and id(tensor) in linear else tensor.nbytes
            for name, tensor in named
            if ".lora_" not in name
        )

    def gathered_bytes(self) -> int:
        """Most bytes of a divided block: one that is whole, and again while it is gathered."""
        return 2 * max(self._block_bytes(), default=0)

    def _block_bytes(self) -> list[int]:
        """Bytes of each block's weights, without adapters."""
        return [
            sum(w.nbytes for name, w in block.named_parameters() if ".lora_" not in name)
            for block in transformer_blocks(self._body)
        ]

    def adapter_bytes(self, name: str) -> int:
        """Bytes of an adapter's weights."""
        return sum(weights.nbytes for weights in self.adapters.parameters(name).values())

    def refuse_infinite(self, hidden: torch.Tensor, routes: Routes) -> None:
        """Nothing is known of values."""


def _make_fake(model: torch.nn.Module, device: torch.device) -> None:
    """Replace all tensors of a model by fake ones on the device; tied weights stay tied."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is None:
                continue
            if id(weight) not in made:
                empty = torch.empty(weight.shape, dtype=weight.dtype, device=device)
                made[id(weight)] = torch.nn.Parameter(empty, requires_grad=weight.requires_grad)
            module._parameters[name] = made[id(weight)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)
