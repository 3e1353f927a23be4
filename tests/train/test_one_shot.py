"""One-shot games from the command to the page: the simplest experiment there is."""

import json
from pathlib import Path

import pytest

from comity.cli import main
from tests.train.small import only_folder, overrides

GOODS = ["game=public_goods", "game.illegal=zero_all", "answer=free"]


@pytest.mark.parametrize(
    "changes",
    [
        ["seats=[learner,tit_for_tat]"],
        ["seats=[grim_trigger,learner]", "game.illegal=end_match", "answer=free"],
        ["seats=[learner,random]", "game=chicken", "game.illegal=carry", "prompt=memory_one"],
        ["seats=[learner,always_defect]", "game.initial_state=[uniform,defect]", "algorithm=exact",
         "prompt=memory_one"],
        ["seats=[learner,tit_for_tat]", "game=random_dilemma", "prompt=structured"],
        [*GOODS, "seats=[learner,tit_for_tat,grim_trigger,always_defect]"],
    ],
    ids=lambda changes: changes[0],
)  # fmt: skip
def test_a_run_and_its_page(changes: list[str], tmp_path: Path) -> None:
    """One iteration of matches of one round."""
    options = [*overrides(tmp_path, *changes), "iterations=1", "game.length.rounds=1"]
    assert main(["train", "ipd", *options]) == 0
    run = only_folder(tmp_path)
    json.loads((run / "reference_policies.json").read_text())
    assert (run / "report.html").read_text().startswith("<!doctype html>")
