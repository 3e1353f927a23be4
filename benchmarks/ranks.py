"""Several ranks against one on the same cores: decisions per second, and what the ranks exchange.

Runs `torchrun --nproc-per-node N -m comity train ...` with one thread per rank, and one process
with N threads, on a workload of `comity bench`. The first iteration warms up. Run
`python -m benchmarks.ranks`; it prints one line of JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from comity.commands.bench import WORKLOADS


def trained(ranks: int, threads: int, overrides: list[str]) -> list[dict[str, Any]]:
    """The metrics of a run with so many ranks, without its first iteration."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                sys.executable,
                *(start if ranks > 1 else []),
                *("-m", "comity", "train", *overrides, f"output={folder}"),
            ],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (run,) = Path(folder).iterdir()
        lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines][1:]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over iterations; fractions are of the time of playing and learning."""
    seconds = {key: sum(row["seconds"][key] for row in rows) for key in ("play", "learn")}
    whole = sum(seconds.values())
    found = {
        "decisions_per_second": round(sum(row["decisions"] for row in rows) / whole, 2),
        "seconds_playing": round(seconds["play"] / len(rows), 3),
        "seconds_learning": round(seconds["learn"] / len(rows), 3),
        "tokens_computed": sum(r["tokens_played"] + r["tokens_learned"] for r in rows) // len(rows),
    }
    if "ranks" in rows[0]:
        exchanged = {
            key: sum(row["ranks"][key] for row in rows)
            for key in ("waiting", "exchanging", "gradient_bytes")
        }
        found["gradient_bytes"] = exchanged["gradient_bytes"] // len(rows)
        found["fraction_waiting"] = round(exchanged["waiting"] / whole, 4)
        found["fraction_exchanging"] = round(exchanged["exchanging"] / whole, 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", default="A", choices=sorted(WORKLOADS))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--turns", type=int, default=2, help="repetitions, in turns")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    workload = WORKLOADS[options.workload]
    overrides = [
        workload.experiment,
        *workload.overrides,
        *("optimizer.learning_rate=0", "seed=0", f"model.name={options.model}"),
        f"iterations={1 + workload.updates}",
        *(workload.quick if options.quick else ()),
    ]
    one: list[dict[str, Any]] = []
    several: list[dict[str, Any]] = []
    for _ in range(options.turns):
        one += trained(1, options.ranks, overrides)
        several += trained(options.ranks, 1, overrides)
    line: dict[str, Any] = {
        "workload": options.workload,
        "ranks": options.ranks,
        "quick": options.quick,
        "model": options.model,
        "turns": options.turns,
        "one_rank": summary(one),
        "several_ranks": summary(several),
    }
    rates = [line[key]["decisions_per_second"] for key in ("several_ranks", "one_rank")]
    print(json.dumps({**line, "speedup": round(rates[0] / rates[1], 3)}))


if __name__ == "__main__":
    main()
