"""The workloads of `comity bench` with other libraries.

    python -m benchmarks.peers [generate] [padded] [trl] [--workload A] [--quick] ...

In one process, on the same model, adapter and matches, after Comity's own lines:

- `generate`: transformers' `generate`, which recomputes the whole conversation for every answer;
- `padded`: PEFT training on padded conversations, once with the logits of all positions (the
  usual code) and once with those of decisions only;
- `trl`: TRL's GRPOTrainer on the one-shot workload (`pip install 'comity[peers]'`).

Each peer reports one JSON line with the keys of `comity bench` (null where it does not do that
part of the work) and `peer`. The last line has the ratios, the peer's time over Comity's. A peer's
work does not depend on the answers, so the ratios of A-distinct use the peers' times on A. If a
peer has a batch size, several are tried, which is the warm-up, and the fastest is measured.
"""

import gc
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import generate, padded, replay
from benchmarks.common import Task
from comity.commands.bench import WORKLOADS, measure, report
from comity.commands.bench_field import rounded
from comity.errors import ComityError, lookup
from comity.experiments.backends import shared_engine
from comity.experiments.build import Experiment

PEERS = {"generate": ("A", "C"), "padded": ("A", "C"), "trl": ("B",)}
"""The workloads of every peer."""
ALIKE = {"A-distinct": "A"}
"""Workloads that are the same work for a peer as another one, on which it is measured."""

Line = dict[str, Any]
Run = Callable[[Task, Line], Line]


def main(
    peers: Annotated[
        list[str] | None,
        typer.Argument(help="generate, padded, trl; all if left out.", show_default=False),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, to see it work.")] = False,
    model: Annotated[str, typer.Option(help="A model's name.")] = "smollm2-135m",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")] = "auto",
    workload: Annotated[
        list[str] | None,
        typer.Option(help="A, B or C; repeat for several; all if left out.", show_default=False),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Append the lines to this file too.")] = None,
) -> None:
    """Measure Comity and its peers on the same work: one JSON line each, then the ratios."""
    work = plan(peers, workload)
    ours: dict[str, Line] = {}
    theirs: dict[str, dict[str, Line]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tasks: dict[str, Task] = {}
        for name in [one for one in WORKLOADS if ALIKE.get(one, one) in work]:
            with Experiment(WORKLOADS[name].config(quick, model, dtype, device)) as experiment:
                measured, ours[name] = measure(name, experiment, quick)
                tasks[name] = Task.of(experiment, measured[-1].rollout, Path(folder) / name)
            report(ours[name], output)
        # Our own copy of the model shall not count as memory of theirs.
        del experiment, measured
        shared_engine.cache_clear()
        gc.collect()

        for name, chosen in work.items():
            theirs[name] = {}
            for peer, run in runs(name, chosen):
                theirs[name][peer] = run(tasks[name], ours[name])
                report(theirs[name][peer], output)
    report({"ratios": ratios(ours, theirs)}, output)


def plan(peers: list[str] | None, workloads: list[str] | None) -> dict[str, list[str]]:
    """The peers to run on each workload; `ComityError` for names that do not go together."""
    for name in peers or ():
        lookup("peer", name, PEERS)
    known = sorted({name for own in PEERS.values() for name in own})
    for name in workloads or ():
        lookup("workload of the peers", name, dict.fromkeys(known))
    work = {
        name: [peer for peer, own in PEERS.items() if name in own and peer in (peers or PEERS)]
        for name in workloads or known
    }
    for peer in peers or ():
        if not any(peer in chosen for chosen in work.values()):
            raise ComityError(f"{peer} is measured on {' and '.join(PEERS[peer])} only")
    if "trl" in work.get("B", ()) and importlib.util.find_spec("trl") is None:
        raise ComityError("TRL is not installed; pip install trl datasets, or leave out trl")
    return {name: chosen for name, chosen in work.items() if chosen}


def runs(workload: str, peers: Sequence[str]) -> Iterator[tuple[str, Run]]:
    """The function of each peer, with its name in the ratios."""
    if "generate" in peers:
        yield "generate", replay.run if workload == "C" else generate.run
    if "padded" in peers:
        yield "padded", partial(padded.run, everywhere=True)
        yield "padded, decisions only", partial(padded.run, everywhere=False)
    if "trl" in peers:
        from benchmarks import grpo

        yield "trl", grpo.run


def ratios(ours: dict[str, Line], theirs: dict[str, dict[str, Line]]) -> dict[str, float]:
    """Time of each peer over Comity's for the same work."""
    found: dict[str, float] = {}
    for name, own in ours.items():
        for peer, line in theirs[ALIKE.get(name, name)].items():
            if peer == "trl":
                rate = "decisions_per_second_playing_and_learning"
                found[f"{name} playing and learning: trl"] = own[rate] / line[rate]
                continue
            half = "playing" if peer == "generate" else "learning"
            seconds = f"seconds_{half}"
            found[f"{name} {half}: {peer}"] = line[seconds] / own[seconds]
    return {name: rounded(ratio) for name, ratio in found.items()}


if __name__ == "__main__":
    try:
        typer.run(main)
    except ComityError as error:
        print(f"peers: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
