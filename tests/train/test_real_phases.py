"""The moral-alignment study on the default model, in small."""

import json
from pathlib import Path

import pytest

from comity.config.compose import compose
from comity.train import train


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")
def test_a_switch_from_the_own_payoff_to_the_sum_brings_cooperation_back(tmp_path: Path) -> None:
    """PPO against tit-for-tat; fixed orders of the labels and large steps to be quick."""
    config = compose(
        "moral/small/game-then-utilitarian-vs-tit-for-tat",
        [
            "iterations=10",
            "optimizer.learning_rate=2e-3",
            "prompt.mention_order=given",
            "prompt.answer_order=given",
            f"output={tmp_path}",
        ],
    )
    run = train(config, report=False)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in rows] == [0] * 5 + [1] * 5
    assert all(row["ratio_min"] == row["ratio_max"] == 1.0 for row in rows)
    assert all(row["tokens_learned"] == 0 for row in rows), "playing's passes are reused"
    assert rows[4]["cooperation"] <= 0.1
    for state in ("CC", "CD", "DC", "DD"):
        cooperated, decisions = rows[-1]["conditional"][state]
        assert cooperated >= 0.9 * decisions
