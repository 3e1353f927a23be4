"""Micro-batches and activation checkpointing, as set or by the predicted memory."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from comity.cli import main
from comity.commands.doctor import LOADING, needs
from comity.commands.machine import process_bytes, this_machine
from comity.commands.run import run
from comity.config.schema import Config
from comity.engines.local import devices
from comity.errors import ComityError
from comity.experiments import fit_update as choice
from comity.experiments.build import Experiment
from comity.experiments.memory import predict_memory
from comity.experiments.memory_needs import Memory, fitting
from comity.experiments.rules import Rules
from comity.learning.microbatch_tokens import AUTO
from tests.train.small import overrides, small
from tests.train.test_memory import TEXTS, config

SIZES = ("temperature=20", "matches=16", "game.length.rounds=6", "algorithm.microbatch_tokens=4096")


def chosen(config: Config) -> bool:
    with Experiment(config) as experiment:
        return experiment.engine.checkpointing


def free(monkeypatch: pytest.MonkeyPatch, available: float) -> None:
    """From now on so many bytes are free."""
    monkeypatch.setattr(devices, "memory_bytes", lambda: (int(available), int(available)))


@pytest.mark.parametrize(("setting", "expected"), [("always", True), ("never", False)])
def test_it_is_what_it_is_set_to(
    setting: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is free; and the next run in this process has its own setting."""
    free(monkeypatch, 1e6)
    assert chosen(small(tmp_path, f"model.activation_checkpointing={setting}")) == expected
    free(monkeypatch, 1e12)
    assert chosen(small(tmp_path, f"model.activation_checkpointing={setting}")) == expected
    assert not chosen(small(tmp_path))


def test_auto_compares_the_prediction_with_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = small(tmp_path, *SIZES)
    told = predict_memory(asked)
    assert told.recomputed < 0.8 * told.stored
    beside = told.learning - told.weights  # The weights are loaded by then.
    for available, expected in ((1.1 * beside, False), (0.9 * beside, True), (1.0, True)):
        free(monkeypatch, available / 0.95)
        assert chosen(asked) == expected
        assert ("activation checkpointing is on" in capsys.readouterr().err) == expected


def test_nothing_is_predicted_where_a_rough_bound_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("predicted")

    monkeypatch.setattr(choice, "predict_memory", refuse)
    assert not chosen(small(tmp_path, *SIZES))
    free(monkeypatch, 1e5)
    with pytest.raises(AssertionError, match="predicted"):
        chosen(small(tmp_path, *SIZES))


def test_a_model_that_cannot_be_predicted_keeps_its_activations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ComityError("cannot predict")

    monkeypatch.setattr(choice, "predict_memory", refuse)
    free(monkeypatch, 1e5)
    assert not chosen(small(tmp_path, *SIZES))


@pytest.mark.parametrize(
    ("shape", "dropout"), [("llama", 0.0), ("qwen2", 0.1), ("gemma2", 0.0), ("gemma2", 0.1)]
)
def test_the_rough_bound_is_above_the_prediction(shape: str, dropout: float) -> None:
    changes = (*TEXTS, "algorithm.microbatch_tokens=300", f"adapter.dropout={dropout}")
    asked = config(shape, *changes)
    with Experiment(asked) as experiment:
        bound = choice.most_activations(experiment.models, experiment.rules, 300)
    told = predict_memory(asked)
    assert told.recomputed < told.stored < bound < 20 * told.stored


@pytest.mark.parametrize(
    "changes",
    [
        ("algorithm=ppo", "algorithm.minibatches=2", "adapter.dropout=0.1"),
        ("prompt=memory_one", "matches=64", "algorithm.microbatch_tokens=4096"),
        ("algorithm.estimator=gae", "answer=free"),
    ],
    ids=["ppo", "reused passes", "critic"],
)
def test_a_run_gives_the_same_numbers(changes: tuple[str, ...], tmp_path: Path) -> None:
    """Bit for bit: metrics and weights."""
    results = []
    for setting in ("never", "always"):
        more = ("iterations=2", f"model.activation_checkpointing={setting}")
        folder = run(small(tmp_path / setting, *changes, *more))
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for row in rows:
            row.pop("seconds")
        weights = [p.read_bytes() for p in sorted(folder.rglob("adapter_model.safetensors"))]
        assert rows[-1]["gradient_norm"] > 0 and weights
        results.append((rows, weights))
    assert results[0] == results[1]


LARGE = ("temperature=20", "matches=32", "game.length.rounds=6")
MICROBATCHES = "algorithm.microbatch_tokens={}"


def test_auto_takes_the_largest_micro_batches_that_fit(tmp_path: Path) -> None:
    """And recomputes activations only where the smallest ones do not fit without."""
    limits = AUTO["cpu"]
    told = {n: predict_memory(small(tmp_path, *LARGE, MICROBATCHES.format(n))) for n in limits}
    assert told[limits[0]].microbatch_tokens > 0.9 * limits[0], "the update has more than one"

    def fits(setting: str, room: float) -> Memory:
        return fitting(told.__getitem__, limits, setting, room)

    for one, smaller in pairwise(told.values()):
        assert fits("auto", one.learning) == one and not one.checkpointing
        assert fits("auto", one.learning - 1) == smaller
    least = told[limits[-1]]
    tight = fits("auto", least.learning - 1)
    assert tight.checkpointing and tight.learning < least.learning
    recomputed = [replace(one, checkpointing=True) for one in told.values()]
    for one, smaller in pairwise(recomputed):
        assert fits("always", one.learning) == one
        assert fits("always", one.learning - 1) == smaller
    assert fits("auto", 1.0) == recomputed[-1]
    assert fits("never", 1.0) == least
    asked, beside = small(tmp_path, *LARGE, MICROBATCHES.format("auto")), least.learning
    assert predict_memory(asked, beside - least.weights, loaded=True) == least


def test_a_run_learns_in_the_micro_batches_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("prompt=memory_one", "matches=32", MICROBATCHES.format("auto"))
    asked = small(tmp_path, *given, "model.activation_checkpointing=never")
    told = predict_memory(asked, room=0.0)
    free(monkeypatch, (told.learning - told.weights) / 0.95 + 1)
    with Experiment(asked) as experiment:
        (learner,) = experiment.learners.values()
        assert learner._microbatch_tokens == told.microbatch_limit == AUTO["cpu"][-1]
    assert f"micro-batches of {AUTO['cpu'][-1]} tokens" in capsys.readouterr().err
    free(monkeypatch, 1e12)
    with Experiment(asked) as experiment:
        (learner,) = experiment.learners.values()
        assert learner._microbatch_tokens == experiment.models.record == AUTO["cpu"][0]
    assert "micro-batches" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ((MICROBATCHES.format(0),), "at least 1"),
        ((MICROBATCHES.format("all"),), "microbatch_tokens"),
        ((MICROBATCHES.format("auto"), "algorithm.normalization=minibatch"), "set a number"),
    ],
)
def test_micro_batches_that_cannot_be_are_one_line(
    changes: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ComityError, match=told):
        Rules.of(small(tmp_path, *changes))


def test_doctor_shows_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = overrides(tmp_path, *SIZES)
    told = predict_memory(small(tmp_path, *SIZES))
    room = told.learning - told.stored / 8
    both = int(room / 0.95) + LOADING + process_bytes(), int(room / 0.95) + LOADING
    monkeypatch.setattr("comity.commands.machine.memory_bytes", lambda: both)
    (need,) = needs(small(tmp_path, *SIZES), this_machine(tmp_path))
    assert need.memory.checkpointing and need.fits
    assert main(["doctor", "ipd", *given]) == 0
    assert "with activation checkpointing (without: " in capsys.readouterr().out
    assert main(["doctor", "ipd", *given, "model.activation_checkpointing=never"]) == 1
    shown = capsys.readouterr().out
    assert "without activation checkpointing (with: " in shown
    assert "model.activation_checkpointing=auto: " in shown


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ComityError, match="did you mean always"):
        small(tmp_path, "model.activation_checkpointing=alway")
