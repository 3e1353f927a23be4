"""States come back bit for bit, and training goes on as if it had never stopped."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from comity.errors import ComityError
from comity.learning.state.exact_state import (
    FORMAT,
    load_optimizer,
    load_state,
    random_state,
    restore_random_state,
    save_optimizer,
    save_state,
)

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adam": lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1, amsgrad=True),
    "fused": lambda weights: torch.optim.AdamW(weights, lr=0.01, fused=True),
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True),
    "groups": lambda weights: torch.optim.Adam(
        [{"params": weights[:1], "lr": 1e-3}, {"params": weights[1:], "betas": (0.5, 0.7)}]
    ),
}


def weights(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
        for shape in ((3, 4), (5,))
    ]


def train(weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Steps down noisy slopes; the noise is torch's own."""
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum(((w + torch.randn(w.shape)) ** 2).sum() for w in weights)
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_continues_identically(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    straight = weights(dtype)
    optimizer = OPTIMIZERS[kind](straight)
    train(straight, optimizer, 5)
    save_optimizer(tmp_path / "optimizer.safetensors", optimizer)
    save_state(tmp_path / "rest.safetensors", (straight, random_state()))
    train(straight, optimizer, 5)

    torch.manual_seed(99)
    resumed = weights(dtype)
    other = OPTIMIZERS[kind](resumed)
    saved, states = load_state(tmp_path / "rest.safetensors")
    for weight, value in zip(resumed, saved, strict=True):
        weight.data.copy_(value)
    load_optimizer(tmp_path / "optimizer.safetensors", other)
    restore_random_state(states)
    train(resumed, other, 5)

    for one, two in zip(straight, resumed, strict=True):
        assert torch.equal(one, two)
    assert str(optimizer.state_dict()) == str(other.state_dict())


def test_state_finer_than_its_weight_stays_fine(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    optimizer = torch.optim.Adam([weight])
    master = torch.tensor([1 / 3, 1e-9, 7.0])
    optimizer.state[weight] = {"step": torch.tensor(3.0), "master": master}
    save_optimizer(tmp_path / "o", optimizer)
    other_weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    other = torch.optim.Adam([other_weight])
    load_optimizer(tmp_path / "o", other)
    assert torch.equal(other.state[other_weight]["master"], master)


def test_trees_come_back_with_their_kinds(tmp_path: Path) -> None:
    view = torch.arange(6).reshape(2, 3).T
    tree = {
        "none": None,
        1: (True, 2**80, -0.0, 5e-324, "ümlaut", []),
        "nested": {"list": [1, (2, {"deep": torch.tensor(3.0)})], "empty": {}},
        "tensors": [view, view, torch.zeros(0), torch.ones(2, dtype=torch.bfloat16)],
        "dict": {"tensor": "not a tensor"},
    }
    save_state(tmp_path / "s", tree)
    again = load_state(tmp_path / "s")
    assert str(again) == str(tree)
    assert [t.dtype for t in again["tensors"]] == [t.dtype for t in tree["tensors"]]
    save_state(tmp_path / "s", [math.inf, -math.inf, math.nan])
    assert str(load_state(tmp_path / "s")) == "[inf, -inf, nan]"


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    tree = {"b": torch.ones(3), "a": (1, torch.zeros(2))}
    save_state(tmp_path / "one", tree)
    save_state(tmp_path / "two", tree)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_is_no_plain_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a state cannot hold PosixPath"):
        save_state(tmp_path / "s", {"path": tmp_path})


def test_generators_continue_where_they_were(tmp_path: Path) -> None:
    def draw() -> tuple[float, ...]:
        return (
            torch.rand(()).item(),
            np.random.rand(),
            np.random.normal(),
            random.random(),
            random.gauss(0, 1),
        )

    draw()
    save_state(tmp_path / "r", random_state())
    first = draw()
    draw()
    restore_random_state(load_state(tmp_path / "r"))
    assert draw() == first


def test_the_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    mine = weights()
    optimizer = torch.optim.Adam(mine)
    train(mine, optimizer, 1)
    save_optimizer(tmp_path / "o", optimizer)
    fewer = torch.optim.Adam(weights()[:1])
    with pytest.raises(ComityError, match="the state of another optimizer"):
        load_optimizer(tmp_path / "o", fewer)
    other_shapes = torch.optim.Adam([torch.nn.Parameter(torch.zeros(4, 3)), *weights()[1:]])
    with pytest.raises(ComityError, match="shapes differ"):
        load_optimizer(tmp_path / "o", other_shapes)


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(ComityError, match="cannot be read"):
        load_state(tmp_path / "nowhere")
    (tmp_path / "s").write_bytes(b"half a header")
    with pytest.raises(ComityError, match="cannot be read"):
        load_state(tmp_path / "s")
    save_file({"a": torch.ones(1)}, tmp_path / "s")
    with pytest.raises(ComityError, match="holds no state"):
        load_state(tmp_path / "s")
    save_file({"a": torch.ones(1)}, tmp_path / "s", {FORMAT: "[" * 10**5})
    with pytest.raises(ComityError, match="cannot be read"):
        load_state(tmp_path / "s")
