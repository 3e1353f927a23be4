"""Trained populations and what is in their folders, for the tests of `comity population`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from comity.commands.population import run_population
from comity.config.population import compose_population

ROOT = Path(__file__).parents[2]
SMALL = ("iterations=12", "runs=2", "checkpoint.every=4", "record.metrics_every=3")
FEW = ("deep_q.hidden=4", "record.statistics_every=5")


def trained(*words: str) -> Path:
    return run_population(compose_population([*words]))


def games(folder: Path) -> dict[str, pa.Table]:
    """All games by their folder, whatever parts they are in."""
    places = sorted({path.parent for path in folder.rglob("games/*/part-*.parquet")})
    return {
        place.relative_to(folder).as_posix(): pa.concat_tables(
            [pq.read_table(path) for path in sorted(place.glob("part-*.parquet"))]
        )
        for place in places
    }


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def final_state(folder: Path) -> dict[str, np.ndarray]:
    newest = max((folder / "checkpoints").iterdir())
    found = {}
    for path in sorted(newest.rglob("*.npz")):
        with np.load(path) as arrays:
            for name in arrays:
                found[f"{path.relative_to(newest)}/{name}"] = arrays[name]
    return found


def assert_same(one: Path, other: Path) -> None:
    """Games, metrics and the newest checkpoint are equal to the last bit."""
    assert games(one).keys() == games(other).keys()
    for name, table in games(one).items():
        assert table.equals(games(other)[name]), name
    assert metrics(one) == metrics(other)
    left, right = final_state(one), final_state(other)
    assert left.keys() == right.keys() and left
    for name, array in left.items():
        assert np.array_equal(array, right[name], equal_nan=True), name
