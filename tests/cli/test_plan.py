"""`comity config` and `--dry-run`: what would run, with the time that was measured."""

import re
from pathlib import Path

import pytest

from comity.cli import main
from comity.commands.plan import plan
from comity.config.compose import load_config
from tests.train.small import small


def test_the_plan_of_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "demo", "--no-time"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "6 runs (2 arms, seeds 0 1 2), 12 iterations of 8 matches each",
        "arm utilitarian",
        "504 matches",
    ):
        assert part in shown
    assert "message_tokens" not in shown, "what has no say is left out"
    arms = 'study.arms={long: ["iterations=3"], short: []}'
    assert main(["config", "smoke", "--no-time", "study.seeds=[0]", arms]) == 0
    assert "2 runs (2 arms, seeds 0), 3 / 2 iterations of 2 matches" in capsys.readouterr().out


def test_the_whole_config_can_be_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "ipd", "--yaml", "iterations=3"]) == 0
    path = tmp_path / "config.yaml"
    path.write_text(capsys.readouterr().out)
    assert load_config(path).iterations == 3


def test_a_dry_run_measures_and_leaves_nothing(tmp_path: Path) -> None:
    config = small(tmp_path / "runs", "iterations=50", "matches=64")
    found = plan(config)[-1]
    assert re.fullmatch(
        r"time +about .+ on this machine: [\d.]+ s per iteration, measured in the first two", found
    )
    assert not (tmp_path / "runs").exists()


def test_a_model_that_is_not_here_is_not_fetched_for_it(tmp_path: Path) -> None:
    config = small(tmp_path)
    config.model.name = "somebody/some-model"
    assert "is not on this machine" in plan(config)[-1]


def test_what_cannot_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ipd", "game=public_goods", "--dry-run"]) == 2
    assert "seats" in capsys.readouterr().err
