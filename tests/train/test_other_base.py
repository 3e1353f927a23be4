"""An adapter belongs to its base's weights: another base of one name and shape is refused.

Wherever an adapter is used: as a seat, in a cross-play, from the past, played with, evaluated, and
when its own run goes on with other weights in the model's folder.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from comity.cli import main
from comity.commands.play import play_game
from comity.commands.run import run
from comity.errors import ComityError
from comity.runs.folder import stored_config
from comity.train import train
from tests.players.screens import FakeScreen
from tests.tiny import make_tiny
from tests.train.small import metrics, only_folder, overrides, small

REFUSAL = r"is of the base model 'llama' with weights sha256:\w+, not of 'llama'|holds others"
PAST = ("opponent_pool=buffer", "opponent_pool.every=1", "seats=[learner,learner]")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models called llama of equal shapes."""
    root = tmp_path_factory.mktemp("bases")
    return {
        name: make_tiny("llama", root / name / "llama", seed=seed)
        for seed, name in enumerate(("ours", "others"))
    }


@pytest.fixture(scope="module")
def foreign(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the others' base, with snapshots."""
    output = tmp_path_factory.mktemp("foreign")
    model = f"model.name={folders['others']}"
    train(small(output, "iterations=2", model, *PAST), report=False)
    return only_folder(output)


def adapter(run: Path) -> Path:
    return max((run / "checkpoints").iterdir()) / "main"


USES: dict[str, Callable[[Path], list[str]]] = {
    "a seat": lambda run: [f"seats=[learner,'adapter:{adapter(run)}']"],
    "a cross-play": lambda run: [
        *("+study.seeds=[0]", "+study.arms.one=[]", "+crossplay.matches=2"),
        f"+crossplay.players=[one,'adapter:{adapter(run)}']",
    ],
    "checkpoints as the past": lambda run: [
        *PAST,
        f"opponent_pool.initial_snapshots={run / 'checkpoints'}",
    ],
    "snapshots as the past": lambda run: [
        *PAST,
        f"opponent_pool.initial_snapshots={run / 'opponent_pool'}",
    ],
}


@pytest.mark.parametrize("use", USES)
def test_in_a_run(use: str, folders: dict[str, Path], foreign: Path, tmp_path: Path) -> None:
    given = ["iterations=1", f"model.name={folders['ours']}", *USES[use](foreign)]
    with pytest.raises(ComityError, match=REFUSAL) as error:
        run(small(tmp_path / "ours", *given))
    assert "\n" not in str(error.value)
    # With its own base nothing is refused.
    given[1] = f"model.name={folders['others']}"
    run(small(tmp_path / "theirs", *given))


def test_in_a_persons_match(
    folders: dict[str, Path], foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def play(base: str) -> Path:
        return play_game(
            "prisoners_dilemma",
            f"human,adapter:{adapter(foreign)}",
            ["game.length.rounds=1", f"model.name={folders[base]}", "model.dtype=float32"],
            screen=FakeScreen(["cooperate"]),
        )

    with pytest.raises(ComityError, match=REFUSAL):
        play("ours")
    assert not (tmp_path / "plays").exists()
    play("others")


@pytest.fixture
def exchanged(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A run in whose model's folder other weights lie now."""
    model = shutil.copytree(folders["ours"], tmp_path / "llama")
    changes = ("iterations=2", "prompt=memory_one", f"model.name={model}")
    train(small(tmp_path / "runs", *changes), report=False)
    shutil.copyfile(folders["others"] / "model.safetensors", model / "model.safetensors")
    return only_folder(tmp_path / "runs")


def test_when_a_run_goes_on(exchanged: Path) -> None:
    config = exchanged / "config.yaml"
    config.write_text(config.read_text().replace("iterations: 2", "iterations: 3"))
    with pytest.raises(ComityError, match=REFUSAL):
        train(stored_config(exchanged), resume=exchanged, report=False)
    assert len(metrics(exchanged)) == 2


def test_when_a_run_is_played_with_or_evaluated(
    exchanged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        ["play", "prisoners_dilemma", "--seats", f"human,run:{exchanged}"],
        ["evaluate", "generalization", str(exchanged), "--quick"],
    ):
        assert main(arguments) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert "holds others" in told[-1] and sum("comity:" in line for line in told) == 1


def test_when_a_study_goes_on(folders: dict[str, Path], tmp_path: Path) -> None:
    """Its trained policies are not played on other weights, whatever is left to do."""
    model = shutil.copytree(folders["ours"], tmp_path / "llama")
    study = [
        *("+study.seeds=[0]", "+study.arms.one=[]", "+crossplay.players=[one,base]"),
        *("+crossplay.matches=2", "iterations=1", f"model.name={model}"),
    ]
    assert main(["train", "ipd", *overrides(tmp_path / "runs", *study)]) == 0
    folder = only_folder(tmp_path / "runs")
    shutil.rmtree(folder / "crossplay")
    shutil.copyfile(folders["others"] / "model.safetensors", model / "model.safetensors")
    with pytest.raises(ComityError, match=REFUSAL):
        run(stored_config(folder), resume=folder)
    assert not (folder / "crossplay").exists()
