"""The bench lines of published shapes, printed: one command on a GPU machine tells all.

    python -m pytest tests/cuda -s

What is asserted is only what must hold on any GPU.
"""

import json

import pytest
import torch

from benchmarks.gpu import SHAPES, bench_line, random_engine
from comity.engines.local.engine import Engine

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("smollm2_tokenizer")]


@pytest.fixture(scope="module")
def smollm2_tokenizer(smollm2: object) -> None:
    """The token ids of the bench are the default model's."""


@pytest.fixture(scope="module", params=SHAPES)
def shape(request: pytest.FixtureRequest, device: str) -> tuple[str, Engine]:
    return request.param, random_engine(request.param, "auto", device)


@pytest.mark.parametrize("workload", ["A", "C"])
def test_bench(workload: str, shape: tuple[str, Engine], device: str) -> None:
    name, engine = shape
    line = bench_line(name, workload, quick=device == "cpu", device=device, engine=engine)
    print("\n" + json.dumps(line))
    assert line["device"].startswith(device) and line["decisions"] > 0
    if device == "cuda":
        assert line["peak_memory_mb"] < torch.cuda.get_device_properties(0).total_memory / 1e6
