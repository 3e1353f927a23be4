"""Frozen policies of other runs on a seat: `seats=[learner,run:FOLDER@ITERATION:LEARNER]`."""

from pathlib import Path

import pytest

from comity.commands.run import run as run_experiment
from comity.config.compose import load_config
from comity.errors import ComityError
from comity.train import train
from tests.train.small import decisions, metrics, only_folder, small
from tests.worlds import tiny_folder


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other labels and temperature than the runs below."""
    output = tmp_path_factory.mktemp("victims")
    changes = ("iterations=2", "checkpoint.every=1", "prompt.labels=[P,Q]", "temperature=0.5")
    train(small(output, *changes), report=False)
    return only_folder(output)


def test_a_run_plays_as_it_was_trained_and_is_pinned(tmp_path: Path, victim: Path) -> None:
    run = train(small(tmp_path, "iterations=2", f"seats=[learner,run:{victim}]"), report=False)
    assert load_config(run / "config.yaml").seats == ["learner", f"run:{victim}@2"]
    by_seat = [{d.seat: d for d in decisions(run)}[seat] for seat in (0, 1)]
    assert by_seat[0].legal == ["A", "B"] and by_seat[0].controller == "live"
    assert by_seat[1].legal == ["P", "Q"] and by_seat[1].controller == "frozen"
    assert (by_seat[1].player, by_seat[1].version) == (f"run:{victim}@2", 2)
    assert not any(d.trained for d in decisions(run) if d.seat == 1)
    assert metrics(run)[-1]["by_opponent"]["frozen"]["matches"] == 2


def test_a_checkpoint_equals_its_adapter_on_the_seat(tmp_path: Path) -> None:
    """With the prompt of its training it plays exactly as `adapter:` does."""
    train(small(tmp_path / "a", "iterations=1"), report=False)
    found = only_folder(tmp_path / "a")
    runs = [
        train(small(tmp_path / str(i), "iterations=2", f"seats=[learner,'{seat}']"), report=False)
        for i, seat in enumerate(
            (f"run:{found}@1", f"adapter:{found / 'checkpoints' / '000001' / 'main'}")
        )
    ]
    moves = [[(d.move, d.logprob) for d in decisions(run)] for run in runs]
    assert moves[0] == moves[1]
    # A resumed run plays against what it began with, or not at all.
    adapter = found / "checkpoints" / "000001" / "main" / "adapter_config.json"
    adapter.write_text(adapter.read_text().replace('"lora_alpha": ', '"lora_alpha": 1'))
    with pytest.raises(ComityError, match=r"adapter:.* has another adapter than before"):
        train(load_config(runs[1] / "config.yaml"), resume=runs[1], report=False)


def test_another_base_model_on_a_seat(tmp_path: Path) -> None:
    seats = f"seats=[learner,'model:{tiny_folder('gemma2')}']"
    run = train(small(tmp_path, "iterations=1", seats), report=False)
    assert {d.player for d in decisions(run) if d.seat == 1} == {f"model:{tiny_folder('gemma2')}"}


def test_the_arms_of_a_study_are_pinned(tmp_path: Path, victim: Path) -> None:
    study = "+study={seeds: [0], arms: {x: ['seats=[learner,run:%s]']}}" % victim  # noqa: UP031
    folder = run_experiment(small(tmp_path, "iterations=1", study))
    assert load_config(folder / "x/seed-0/config.yaml").seats == ["learner", f"run:{victim}@2"]


def test_what_is_not_there_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ComityError, match="there is no run folder nowhere"):
        train(small(tmp_path, "seats=[learner,'run:nowhere']"), report=False)
    (tmp_path / "adapter_config.json").write_text("[" * 10**5)
    with pytest.raises(ComityError, match=r"adapter_config.json is damaged"):
        train(small(tmp_path, f"seats=[learner,'adapter:{tmp_path}']"), report=False)
    with pytest.raises(ComityError, match="something must follow run:"):
        train(small(tmp_path, "seats=[learner,'run:']"), report=False)
