"""The story of the demo on the default model, in small: five rounds and one seed."""

import json
from pathlib import Path

import pytest

from comity.config import compose
from comity.train import train


def last_cooperation(folder: Path, iterations: int, reward: str) -> float:
    """Cooperation in the last iteration of a self-play training."""
    config = compose(
        "ipd",
        [
            f"iterations={iterations}",
            f"reward={reward}",
            f"output={folder}",
            "game/length=five",
            "optimizer.learning_rate=5e-4",
            "algorithm.entropy=0.02",
        ],
    )
    run = train(config, report=False)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return float(json.loads(lines[-1])["cooperation"])


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")
def test_the_sum_of_payoffs_teaches_cooperation(tmp_path: Path) -> None:
    assert last_cooperation(tmp_path, 4, "utilitarian") >= 0.9


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")
def test_the_own_payoff_teaches_defection(tmp_path: Path) -> None:
    assert last_cooperation(tmp_path, 12, "own") <= 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")
def test_a_switch_from_the_own_payoff_to_the_sum_brings_cooperation_back(tmp_path: Path) -> None:
    """The moral-alignment study in small: PPO against tit-for-tat, with fixed orders of labels."""
    config = compose(
        "moral/small/game-then-utilitarian-vs-tit-for-tat",
        [
            "iterations=14",
            "prompt.mention_order=given",
            "prompt.answer_order=given",
            f"output={tmp_path}",
        ],
    )
    run = train(config, report=False)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in rows] == [0] * 7 + [1] * 7
    assert all(row["ratio_min"] == row["ratio_max"] == 1.0 for row in rows)
    assert all(row["tokens_learned"] == 0 for row in rows), "playing's passes are reused"
    assert rows[6]["cooperation"] <= 0.1
    for state in ("CC", "CD", "DC", "DD"):
        cooperated, decisions = rows[-1]["conditional"][state]
        assert cooperated >= 0.9 * decisions
