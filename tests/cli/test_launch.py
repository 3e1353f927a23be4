"""Launching through Hydra: what the training gets, multiruns, and no litter."""

import json
import os
from pathlib import Path

import pytest

from comity.cli import main
from comity.commands.launch import launch
from comity.config.compose import arm_configs, compose
from comity.config.schema import Config
from comity.errors import ComityError, WorkError
from tests.train.small import overrides


class FakeTraining:
    """Stands in for `comity.train.train`."""

    def __init__(self) -> None:
        self.configs: list[Config] = []

    def __call__(self, config: Config) -> Path:
        self.configs.append(config)
        return Path(f"run-{len(self.configs)}")


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTraining:
    monkeypatch.chdir(tmp_path)
    return FakeTraining()


def test_the_training_gets_what_compose_gives(training: FakeTraining, tmp_path: Path) -> None:
    overrides = ["reward=utilitarian", "seats=[learner,{name: random, p: 0.3}]"]
    assert launch(training, "ipd", overrides) == [Path("run-1")]
    assert training.configs == [compose("ipd", overrides)]
    assert list(tmp_path.iterdir()) == [], "Hydra left something behind"


def test_the_folder_and_the_process_stay_as_they_were(training: FakeTraining) -> None:
    before = (os.getcwd(), dict(os.environ))
    launch(training, "ipd")
    assert (os.getcwd(), dict(os.environ)) == before


def test_a_multirun_trains_every_combination(training: FakeTraining, tmp_path: Path) -> None:
    overrides = ["seed=0,1", "reward=own,utilitarian", "iterations=3"]
    folders = launch(training, "ipd", overrides, multirun=True)
    assert len(folders) == 4
    assert [(c.seed, c.reward["name"]) for c in training.configs] == [
        (0, "own"),
        (0, "utilitarian"),
        (1, "own"),
        (1, "utilitarian"),
    ]
    for config in training.configs:
        assert config.iterations == 3
        origin = config.composition
        assert compose(origin.name, origin.overrides, origin.config_dir) == config
    (left,) = tmp_path.rglob("*.yaml")
    assert left.relative_to(tmp_path).parts[:2] == ("runs", ".multirun")
    assert left.name == "multirun.yaml"


def test_experiments_are_swept_too(training: FakeTraining) -> None:
    launch(training, overrides=["experiment=ipd,smoke"], multirun=True)
    assert [config.name for config in training.configs] == ["ipd", "smoke"]
    for config in training.configs:
        assert compose("", config.composition.overrides) == config


def test_the_arms_of_a_study_compose_inside_a_launch(training: FakeTraining) -> None:
    arms: list[set[str]] = []

    def train(config: Config) -> Path:
        arms.append(set(arm_configs(config)))
        return training(config)

    launch(train, "demo", ["seed=3"])
    assert arms == [{"own", "utilitarian"}]
    assert launch(training, "ipd"), "Hydra can be used again afterwards"


def test_a_users_folder(training: FakeTraining, tmp_path: Path) -> None:
    mine = tmp_path / "my configs"
    mine.mkdir()
    (mine / "mine.yaml").write_text(
        "defaults: [config, override game: stag_hunt, _self_]\nname: mine\n"
    )
    launch(training, overrides=["seed=2"], config_dir="my configs", config_name="mine")
    launch(training, "mine", ["seed=2"], config_dir="my configs")
    launch(training, "smoke", ["seed=2"], config_dir="my configs", config_name="mine")
    one, two, three = training.configs
    assert one == two == compose("mine", ["seed=2"], str(mine))
    assert one.game["name"] == "stag_hunt"
    assert three.iterations == 2
    assert compose("mine", three.composition.overrides, str(mine)) == three


@pytest.mark.parametrize("defaults", ["", "defaults: [override /model: smollm2-135m, _self_]"])
def test_a_users_file_that_builds_on_nothing(
    training: FakeTraining, tmp_path: Path, defaults: str
) -> None:
    (tmp_path / "copy.yaml").write_text(f"{defaults}\nmatches: 4\n")
    with pytest.raises(ComityError, match=r"copy.yaml has no base config: begin .* with config"):
        launch(training, overrides=[], config_dir=str(tmp_path), config_name="copy")
    assert not training.configs


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"name": "ipdd"}, "unknown experiment 'ipdd'; did you mean ipd"),
        ({"name": "ipd", "overrides": ["iteratons=3"]}, "unknown config key 'iteratons'"),
        ({"name": "ipd", "overrides": ["iterations=x"]}, "iterations: 'x' is not a whole number"),
        ({"name": "ipd", "overrides": ["game=stag_hnt"]}, "did you mean stag_hunt"),
        ({"name": "ipd", "overrides": ["+extra=1"]}, "unknown config key 'extra'"),
        ({"name": "ipd", "overrides": ["seed=1,2"]}, "--multirun"),
        ({"name": "ipd", "overrides": ["seed"]}, "cannot parse the override 'seed'"),
        ({"name": "ipd", "config_name": "mine"}, "--config-name needs --config-path"),
        ({"config_dir": "."}, "--config-path needs --config-name"),
        ({"config_dir": "nowhere", "config_name": "mine"}, "there is no folder"),
        ({"config_dir": ".", "config_name": "mine"}, "there is no config 'mine'"),
    ],
)
def test_mistakes_are_one_line_and_train_nothing(
    training: FakeTraining,
    capfd: pytest.CaptureFixture[str],
    arguments: dict[str, object],
    text: str,
) -> None:
    with pytest.raises(ComityError) as caught:
        launch(training, **arguments)  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert training.configs == []


def test_a_failing_training_raises_its_own_error(
    training: FakeTraining, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(config: Config) -> Path:
        raise WorkError("the disk is full")

    with pytest.raises(WorkError, match=r"^the disk is full$"):
        launch(fail, "ipd")
    assert capfd.readouterr() == ("", "")


def test_one_failure_does_not_stop_a_multirun(training: FakeTraining) -> None:
    def fail_once(config: Config) -> Path:
        if config.seed == 0:
            raise WorkError("NaN in the loss")
        return training(config)

    complaint = "^1 of 3 runs failed; experiment=ipd seed=0: NaN in the loss$"
    with pytest.raises(WorkError, match=complaint):
        launch(fail_once, "ipd", ["seed=0,1,2"], multirun=True)
    assert [config.seed for config in training.configs] == [1, 2]


def test_an_interrupt_stops_a_multirun(training: FakeTraining) -> None:
    def interrupt(config: Config) -> Path:
        training(config)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(interrupt, "ipd", ["seed=0,1,2"], multirun=True)
    assert len(training.configs) == 1


def test_a_multirun_ends_with_a_page_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = overrides(tmp_path / "runs", "iterations=1")
    assert main(["train", "ipd", "--multirun", *small, "seed=0,1,2"]) == 0
    out = capsys.readouterr().out
    pages = [line.partition(": ")[2] for line in out.splitlines() if line.startswith("page")]
    assert "page of all 3 runs: " in out and len(pages) == 4 == len(set(pages))
    summary = json.loads((Path(pages[-1]).parent / "summary.json").read_text())
    assert summary["policies"]
    assert main(["train", "ipd", *small]) == 0
    assert "page of all" not in capsys.readouterr().out
