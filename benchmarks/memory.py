"""Predicted memory (`comity doctor`) beside what is seen, for tiny models of three families.

    python -m benchmarks.memory                              # all shapes and cases
    python -m benchmarks.memory --shapes llama --cases scored deal

Runs one iteration of each case with each algorithm, each shape and case in a process of its own,
and counts the bytes of all tensors that are alive at a time. Prints a line of JSON for each:
predicted megabytes of play and of an update beside weights, adapters and Adam's moments, and
their ratio to what was seen. The conversations are what a prediction assumes: no two alike, and
texts as long as they may be.
"""

import argparse
import json
import subprocess
import sys

from tests.train.test_memory import SHAPES, config, measured

TEXTS = (
    *("prompt=negotiation", "answer.message_tokens=24", "game.length.rounds=2", "matches=6"),
    "algorithm.microbatch_tokens=4096",
)
CASES: dict[str, tuple[str, ...]] = {
    "scored": ("matches=128",),
    "free": ("matches=6", "answer=free", "answer.max_tokens=4"),
    "deal": ("game=deal_or_no_deal", *TEXTS),
    "trust": ("game=trust_and_split_rps", *TEXTS),
}
"""Short scored prompts, short texts, and the texts of two negotiations."""
ALGORITHMS: dict[str, tuple[str, ...]] = {
    "reinforce": (),
    "alignment": ("algorithm=advantage_alignment",),
    "ppo": ("algorithm=ppo", "algorithm.epochs=2"),
}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--here", action="store_true", help="in this process")
    given = parser.parse_args()
    for shape in given.shapes:
        for case in given.cases:
            if given.here:
                compare(shape, case)
            else:
                command = ["-m", "benchmarks.memory", "--here", "--shapes", shape, "--cases", case]
                subprocess.run([sys.executable, *command], check=True)


def compare(shape: str, case: str) -> None:
    """Print a line for each algorithm."""
    from comity.experiments.memory import predict_memory

    for algorithm, changes in ALGORITHMS.items():
        asked = config(shape, *changes, *CASES[case])
        seen, told = measured(asked), predict_memory(asked)
        row: dict[str, object] = {"shape": shape, "case": case, "algorithm": algorithm}
        for part, predicted in (
            ("playing", told.cache + told.play_pass + told.merged),
            ("learning", told.gradients + told.activations),
        ):
            row[part] = round(predicted / 1e6, 1)
            row[f"{part} ratio"] = round(predicted / seen[part], 3)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
