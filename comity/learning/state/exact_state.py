"""Exact states of optimizers and random number generators on disk, without pickle.

A state is a tree of dictionaries, lists, tuples, numbers, strings and tensors. It is saved as
one safetensors file: the tensors bit for bit, and the tree as JSON in the file's metadata, with
numbered placeholders for the tensors.
"""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from comity.errors import ComityError
from comity.files import writing

FORMAT = "comity.state/1"
"""Version of the layout."""


def save_state(path: Path, state: Any) -> None:
    """Writes a tree; `load_state` returns an equal one (tensors on the CPU).

    Not atomic: checkpoints write into a folder that is renamed as a whole. Raises
    `WorkError` on a full disk and `TypeError` for unsupported values.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_pack(state, tensors))
    with writing(path):
        try:
            # One key only: safetensors writes several in an arbitrary order.
            save_file(tensors, path, metadata={FORMAT: tree})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_state(path: Path) -> Any:
    """The tree of a file that `save_state` wrote; `ComityError` if it is not one."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise ComityError(f"{path} holds no state of format {FORMAT}")
            return _unpack(json.loads(metadata[FORMAT]), file.get_tensor)
    except (OSError, SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise ComityError(f"{path} cannot be read: {error}") from error


def to_arrays(state: Any) -> dict[str, np.ndarray]:
    """A tree as arrays by name, for formats of arrays; `from_arrays` returns an equal one.

    The arrays share no memory with the tree. Raises `TypeError` for unsupported values and for
    types that NumPy lacks (bfloat16).
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_pack(state, tensors)).encode()
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    return {"tree": np.frombuffer(tree, dtype=np.uint8), **arrays}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Any:
    """The tree of arrays that `to_arrays` returned; `ComityError` if they are others."""
    try:
        tree = json.loads(np.asarray(arrays["tree"], dtype=np.uint8).tobytes())
        return _unpack(tree, lambda name: torch.from_numpy(np.array(arrays[name])))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ComityError(f"the saved state cannot be read: {error}") from error


def save_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Writes the optimizer's state without the weights themselves."""
    save_state(path, optimizer.state_dict())


def load_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Restores the saved state of an optimizer over the same weights, bit for bit.

    Raises `ComityError` if the file belongs to an optimizer of other weights.
    """
    state = load_state(path)
    try:
        optimizer.load_state_dict(state)
    except (KeyError, TypeError, ValueError) as error:
        raise ComityError(f"{path} is the state of another optimizer: {error}") from error
    # torch casts loaded state to each weight's type; state of higher precision (float32 moments
    # of bfloat16 weights) is restored as saved.
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    for number, weight in zip(numbers, weights, strict=True):
        for key, saved in state["state"].get(number, {}).items():
            held = optimizer.state[weight][key]
            if isinstance(saved, torch.Tensor):
                if saved.dim() and saved.shape != weight.shape:
                    raise ComityError(f"{path} is the state of another optimizer: shapes differ")
                if held.dtype != saved.dtype:
                    optimizer.state[weight][key] = saved.to(held.device)


def random_state() -> dict[str, Any]:
    """The states of torch's, numpy's and Python's global generators."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (
            name,
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            position,
            has_gauss,
            gauss,
        ),
        "python": random.getstate(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Restores the generators to a state from `random_state`."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    random.setstate(state["python"])


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """`value` as JSON with the type of every container."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        # A copy: safetensors refuses tensors that share memory or are views.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, list):
        return {"list": [_pack(item, tensors) for item in value]}
    if isinstance(value, tuple):
        return {"tuple": [_pack(item, tensors) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_pack(k, tensors), _pack(v, tensors)] for k, v in value.items()]}
    raise TypeError(f"a state cannot hold {type(value).__name__}")


def _unpack(value: Any, tensor: Any) -> Any:
    """The inverse of `_pack`; `tensor(name)` returns the tensors."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensor(content)
    if kind == "dict":
        return {_unpack(k, tensor): _unpack(v, tensor) for k, v in content}
    items = [_unpack(item, tensor) for item in content]
    return tuple(items) if kind == "tuple" else items
