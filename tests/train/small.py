"""Runs of a tiny model that take half a second."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comity.config.compose import compose
from comity.config.schema import Config
from comity.prompts.negotiation import wording as negotiation_words
from comity.rollout.records import Decision
from comity.runs.folder import read_decisions
from tests.worlds import DEVICE, tiny_folder


class Stopped(BaseException):
    """Stands in for whatever ends a process."""


def overrides(output: Path, *changes: str, architecture: str = "llama") -> list[str]:
    """4 iterations of 2 matches of 2 rounds, a checkpoint after every other one."""
    rounds = [] if any("game/length" in change for change in changes) else ["game.length.rounds=2"]
    return [
        f"model.name={tiny_folder(architecture)}",
        "model.dtype=float32",
        f"model.device={DEVICE}",
        f"model.deterministic={DEVICE != 'cpu'}".lower(),
        "iterations=4",
        "matches=2",
        "checkpoint.every=2",
        "adapter.rank=4",
        "optimizer.learning_rate=0.01",
        f"output={output}",
        *rounds,
        *changes,
    ]


def small(output: Path, *changes: str, architecture: str = "llama") -> Config:
    return compose("ipd", overrides(output, *changes, architecture=architecture))


def metrics(run: Path) -> list[dict[str, Any]]:
    """A run's metrics but for the seconds."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert set(row.pop("seconds")) == {"play", "learn", "total"}
    return rows


def decisions(run: Path) -> list[Decision]:
    """All of a run's, in order."""
    return [d for file in sorted((run / "decisions").iterdir()) for d in read_decisions(file)]


def short_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt negotiation tells no rules, so that tiny models have little to read."""
    monkeypatch.setattr(negotiation_words, "rules", lambda *_: "Split.")


def only_folder(output: Path) -> Path:
    (folder,) = output.iterdir()
    return folder


def failing(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, error: BaseException
) -> None:
    """From now on `owner.name` works, but raises instead of its call with this number (from 1)."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, wrapped)
