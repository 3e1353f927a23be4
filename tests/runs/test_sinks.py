"""Sinks get flat numbers; a missing library is named with the extra that brings it."""

import importlib.util
import sys
import types
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from comity.commands.run import run as train
from comity.config.compose import compose
from comity.config.schema import Config
from comity.errors import ComityError, ComityWarning
from comity.runs.sinks import Sinks, flatten, label
from tests.train.small import small

METRICS = {
    "iteration": 3,
    "payoff": 2.5,
    "kl": None,
    "loss": float("nan"),
    "outcomes": {"CC": 0.25, "DD": 0.75},
    "conditional": {"start": [3, 4], "CC": [0, 0]},
    "seconds": {"play": 1.5},
}
FLAT = {
    "iteration": 3.0,
    "payoff": 2.5,
    "outcomes/CC": 0.25,
    "outcomes/DD": 0.75,
    "conditional/start": 0.75,
    "seconds/play": 1.5,
}


class FakeRun:
    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.logged: list[tuple[dict[str, float], int]] = []
        self.finished = False

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((metrics, step))

    def finish(self) -> None:
        self.finished = True


def fake(monkeypatch: pytest.MonkeyPatch, name: str) -> list[FakeRun]:
    runs: list[FakeRun] = []

    def init(**settings: Any) -> FakeRun:
        runs.append(FakeRun(**settings))
        return runs[-1]

    module = types.ModuleType(name)
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    return runs


def test_nested_metrics_become_flat_numbers() -> None:
    assert flatten(METRICS) == FLAT


def test_wandb_gets_the_config_and_every_iteration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = fake(monkeypatch, "wandb")
    folder = tmp_path / "ipd-seed-0"
    with Sinks([{"name": "wandb", "mode": "offline"}], folder, asdict(Config(seed=5))) as sinks:
        sinks.log(3, METRICS)
    (run,) = runs
    assert run.logged == [(FLAT, 3)]
    assert run.finished
    assert run.settings["mode"] == "offline"
    assert run.settings["id"] == run.settings["name"] == "ipd-seed-0"
    assert run.settings["dir"] == str(folder)
    assert run.settings["config"]["seed"] == 5


def test_trackio_gets_every_iteration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = fake(monkeypatch, "trackio")
    with Sinks(["trackio"], tmp_path / "a", {}) as sinks:
        sinks.log(0, METRICS)
    assert runs[0].logged == [(FLAT, 0)]
    assert runs[0].settings["project"] == "comity"
    assert runs[0].finished


def test_runs_of_one_study_have_names_of_their_own(tmp_path: Path) -> None:
    run = tmp_path / "demo-1" / "own" / "seed-0"
    run.mkdir(parents=True)
    assert label(run) == "seed-0"
    (tmp_path / "demo-1" / "config.yaml").touch()
    assert label(run) == "demo-1-own-seed-0"


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # Its import fails from here on.
    with pytest.raises(ComityError, match=rf"pip install 'comity\[{name}\]'$"):
        Sinks([name], tmp_path, {})


def test_a_library_that_does_not_start_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def init(**settings: Any) -> None:
        raise RuntimeError("no API key;\nlog in first")

    fake(monkeypatch, "wandb")
    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    with pytest.raises(ComityError, match=r"did not start: no API key; log in first$"):
        Sinks(["wandb"], tmp_path, {})


def test_what_cannot_start_is_refused_before_a_model_and_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from comity.experiments import backends as experiment

    def load(*_: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(experiment, "load_model", load)
    monkeypatch.setattr(experiment, "load_tokenizer", load)
    monkeypatch.setitem(sys.modules, "trackio", None)
    study = 'study={seeds: [0], arms: {a: ["iterations=1"]}}'
    for block, more in (("trackio", ()), ("wandbb", ()), ("{name: wandb, projct: x}", ()),
                        ("trackio", (study,))):  # fmt: skip
        config = small(tmp_path / "runs", f"sinks=[{block}]", *more)
        with pytest.raises(ComityError, match="sink"):
            train(config)
    assert not (tmp_path / "runs").exists()


def test_a_library_that_does_not_start_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def init(**settings: Any) -> None:
        raise RuntimeError("no API key")

    fake(monkeypatch, "wandb")
    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    with pytest.raises(ComityError, match="no API key"):
        train(small(tmp_path, "sinks=[wandb]", "iterations=1"))
    assert not list(tmp_path.iterdir())


def test_unknown_sinks_and_parameters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ComityError, match="unknown sink 'wandbb'; did you mean wandb"):
        Sinks(["wandbb"], tmp_path, {})
    with pytest.raises(ComityError, match="unknown parameter 'projct'; did you mean project"):
        Sinks([{"name": "wandb", "projct": "x"}], tmp_path, {})


def test_no_sinks_cost_nothing(tmp_path: Path) -> None:
    with Sinks([], tmp_path, {}) as sinks:
        sinks.log(0, {"never": object()})


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None,
    reason="tensorboard is not installed (the extra comity[tensorboard])",
)
def test_tensorboard_writes_what_tensorboard_reads(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Sinks(["tensorboard"], tmp_path, {}) as sinks:
        sinks.log(0, METRICS)
        sinks.log(1, {"payoff": 4.0})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("payoff")] == [(0, 2.5), (1, 4.0)]
    assert set(events.Tags()["scalars"]) == set(FLAT)


def test_a_sink_that_fails_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __init__(self) -> None:
            self.calls = 0

        def log(self, iteration: int, metrics: object) -> None:
            self.calls += 1
            raise ConnectionError("the server is gone")

        def close(self) -> None:
            raise ConnectionError("still gone")

    with Sinks([], tmp_path, asdict(compose("smoke"))) as sinks:
        failing = Failing()
        sinks.sinks.append(failing)
        with pytest.warns(ComityWarning, match="gets nothing more .*the server is gone"):
            sinks.log(0, {"payoff": 1.0})
        sinks.log(1, {"payoff": 1.0})
    assert failing.calls == 1
    with (
        pytest.warns(ComityWarning, match="could not be closed"),
        Sinks([], tmp_path, asdict(compose("smoke"))) as sinks,
    ):
        sinks.sinks.append(Failing())
