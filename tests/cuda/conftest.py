"""What needs a CUDA device: `python -m pytest tests/cuda -s` on a machine with one.

`COMITY_TEST_DEVICE=cpu` runs it on the CPU instead, to try a test before there is a GPU.
`COMITY_TEST_DEVICE=cuda` lets the tiny models of all other tests run on the GPU too.
"""

import os

import pytest
import torch

DEVICE = os.environ.get("COMITY_TEST_DEVICE", "cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DEVICE == "cpu" or torch.cuda.is_available():
        return
    for item in items:
        if item.path.parent.name == "cuda":
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def device() -> str:
    """The device under test; float32 products are float32, not TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    return DEVICE
