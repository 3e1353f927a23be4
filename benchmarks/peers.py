"""The workloads of `comity bench` on what a user would pick otherwise.

    python -m benchmarks.peers [generate] [padded] [trl] [--quick] [--model NAME] ...

In one process, on the same model, adapter and matches, after Comity's own lines:

- `generate`: transformers' `generate` over whole conversations, asked anew every round;
- `padded`: PEFT training on padded conversations, once with the logits of all positions (as
  most code has it) and once with those of decisions only;
- `trl`: TRL's GRPOTrainer on the one-shot workload (`pip install 'comity[peers]'`).

One JSON line each with the keys of `comity bench` (null where a peer does only half of the
work) and `peer`; last, a line of ratios: how many times as long as Comity the peer takes. A
peer's work does not depend on what was answered, so the ratios of A-distinct use the peers'
times on A. Where a peer may choose a batch size, several are tried and the quickest is
measured; trying them is its warm-up.
"""

import gc
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import generate, padded
from benchmarks.common import Task
from comity.bench import WORKLOADS, measure, rounded, tell
from comity.errors import ComityError, lookup
from comity.experiment import Experiment, shared_engine

PEERS = {
    "generate": "transformers generate, whole conversations each round",
    "padded": "padded PEFT training",
    "trl": "TRL GRPOTrainer",
}
"""Every peer in a few words."""

Line = dict[str, Any]


def main(
    peers: Annotated[
        list[str] | None,
        typer.Argument(help="generate, padded, trl; all if left out.", show_default=False),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, to see it work.")] = False,
    model: Annotated[str, typer.Option(help="A model's name.")] = "smollm2-135m",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")] = "auto",
    output: Annotated[Path | None, typer.Option(help="Append the lines to this file too.")] = None,
) -> None:
    """Comity and its peers on the same work, one JSON line each, then their ratios."""
    chosen = peers or list(PEERS)
    for name in chosen:
        lookup("peer", name, PEERS)
    if "trl" in chosen and importlib.util.find_spec("trl") is None:
        raise ComityError("TRL is not installed; pip install trl datasets, or leave out trl")

    ours: dict[str, Line] = {}
    theirs: dict[str, Line] = {}
    with tempfile.TemporaryDirectory() as folder:
        tasks: dict[str, Task] = {}
        conversations = ["A", "A-distinct"] if {"generate", "padded"} & set(chosen) else []
        for name in [*conversations, *(["B"] if "trl" in chosen else [])]:
            with Experiment(WORKLOADS[name].config(quick, model, dtype, device)) as experiment:
                measured, ours[name] = measure(name, experiment, quick)
                tasks[name] = Task.of(experiment, measured[-1].rollout, Path(folder) / name)
            tell(ours[name], output)
        # Our own copy of the model shall not count as memory of theirs.
        del experiment, measured
        shared_engine.cache_clear()
        gc.collect()

        if "generate" in chosen:
            theirs["generate"] = generate.run(tasks["A"], ours["A"])
            tell(theirs["generate"], output)
        if "padded" in chosen:
            for name, everywhere in (("padded", True), ("padded, decisions only", False)):
                theirs[name] = padded.run(tasks["A"], ours["A"], everywhere)
                tell(theirs[name], output)
        if "trl" in chosen:
            from benchmarks import grpo

            theirs["trl"] = grpo.run(tasks["B"], ours["B"])
            tell(theirs["trl"], output)
    tell({"ratios": ratios(ours, theirs)}, output)


def ratios(ours: dict[str, Line], theirs: dict[str, Line]) -> dict[str, float]:
    """How many times as long as Comity each peer takes for the same work."""
    found: dict[str, float] = {}
    for work in ("A", "A-distinct"):
        for name in theirs:
            key = {"generate": "playing", "trl": None}.get(name, "learning")
            if key is not None:
                seconds = f"seconds_{key}"
                found[f"{work} {key}: {name}"] = theirs[name][seconds] / ours[work][seconds]
    if "trl" in theirs:
        rate = "decisions_per_second_playing_and_learning"
        found["B playing and learning: trl"] = ours["B"][rate] / theirs["trl"][rate]
    return {name: rounded(ratio) for name, ratio in found.items()}


if __name__ == "__main__":
    try:
        typer.run(main)
    except ComityError as error:
        print(f"peers: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
