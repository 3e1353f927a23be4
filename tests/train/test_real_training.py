"""The story of the demo on the default model, in small: five rounds and one seed."""

import json
from pathlib import Path

import pytest

from comity.config.compose import compose
from comity.train import train


def last_cooperation(folder: Path, iterations: int, reward: str) -> float:
    """Cooperation in the last iteration of a self-play training."""
    config = compose(
        "ipd",
        [
            f"iterations={iterations}",
            f"reward={reward}",
            f"output={folder}",
            "matches=4",
            "game/length=five",
            "optimizer.learning_rate=1e-3",
            "algorithm.entropy=0.02",
        ],
    )
    run = train(config, report=False)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return float(json.loads(lines[-1])["cooperation"])


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")
def test_the_sum_of_payoffs_teaches_cooperation(tmp_path: Path) -> None:
    assert last_cooperation(tmp_path, 3, "utilitarian") >= 0.9


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")
def test_the_own_payoff_teaches_defection(tmp_path: Path) -> None:
    assert last_cooperation(tmp_path, 6, "own") <= 0.1
