"""Bench lines of published model shapes with random weights, for a machine with a GPU.

    python -m benchmarks.gpu                                  # all shapes, workloads A and C
    python -m benchmarks.gpu gemma-2-2b --workloads C --matches 128

Speed depends on a model's shape, not on what its weights say, so nothing is downloaded: the model
is made on the device, and the default model's tokenizer (`comity models fetch smollm2-135m`)
gives the token ids. Random weights sample nearly uniform tokens, so free text runs to its limit:
the worst case for sampling, and for shared prefixes too.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Qwen2Config

from comity.commands.bench import WORKLOADS, measure
from comity.engines.local.devices import choose_device, choose_dtype
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_tokenizer, quiet
from comity.errors import ComityError, lookup
from comity.experiments import backends
from comity.experiments.build import Experiment

TOKENIZER = "smollm2-135m"


@dataclass(frozen=True)
class Shape:
    """A published model's shape (from its config on Hugging Face)."""

    config: type
    sizes: dict[str, Any]


_GQA = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")


def _sizes(layers: int, hidden: int, inner: int, heads: int, kv_heads: int) -> dict[str, Any]:
    return dict(zip(_GQA, (layers, hidden, inner, heads), strict=True)) | {
        "num_key_value_heads": kv_heads
    }


SHAPES: dict[str, Shape] = {
    "smollm2-135m": Shape(
        LlamaConfig,
        {**_sizes(30, 576, 1536, 9, 3), "vocab_size": 49_152, "tie_word_embeddings": True},
    ),
    "gemma-2-2b": Shape(
        Gemma2Config,
        {**_sizes(26, 2304, 9216, 8, 4), "head_dim": 256, "vocab_size": 256_000},
    ),
    "qwen2.5-7b": Shape(
        Qwen2Config,
        {**_sizes(28, 3584, 18_944, 28, 4), "vocab_size": 152_064, "tie_word_embeddings": False},
    ),
}


@torch.no_grad()
def random_engine(name: str, dtype: str, device: str) -> Engine:
    """The engine on a model of a shape, with small random weights made on the device."""
    place = choose_device(device)
    shape = lookup("shape", name, SHAPES)
    config = shape.config(**shape.sizes, max_position_embeddings=32_768)
    loader: Any = AutoModelForCausalLM
    with quiet(), torch.device(place):
        model = loader.from_config(config, dtype=choose_dtype(dtype, place))
    generator = torch.Generator(place).manual_seed(0)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(0, 0.02, generator=generator)
    return Engine(model)


def bench_line(
    shape: str,
    workload: str,
    overrides: Sequence[str] = (),
    dtype: str = "auto",
    device: str = "auto",
    quick: bool = False,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """`comity bench`'s line of one workload on one shape."""
    config = WORKLOADS[workload].config(quick, shape, dtype, device, overrides)
    engine = engine or random_engine(shape, dtype, device)
    with ExitStack() as stack:
        for name, made in (
            ("shared_engine", lambda *_: engine),
            ("shared_tokenizer", lambda *_: load_tokenizer(TOKENIZER)),
        ):
            stack.enter_context(patch.object(backends, name, made))
        experiment = stack.enter_context(Experiment(config))
        _, line = measure(workload, experiment, quick)
    return line


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("shapes", nargs="*", default=list(SHAPES), help=", ".join(SHAPES))
    parser.add_argument("--workloads", nargs="+", default=["A", "C"])
    parser.add_argument("--matches", type=int, nargs="*", default=[])
    parser.add_argument("--set", action="append", default=[], help="a further override")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    try:
        for shape in chosen.shapes:
            engine = random_engine(shape, chosen.dtype, chosen.device)
            for workload in chosen.workloads:
                for matches in chosen.matches or [None]:
                    more = [*chosen.set, *([f"matches={matches}"] if matches else [])]
                    line = bench_line(
                        shape, workload, more, chosen.dtype, chosen.device, chosen.quick, engine
                    )
                    print(json.dumps({"changes": more, **line}), flush=True)
    except ComityError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
