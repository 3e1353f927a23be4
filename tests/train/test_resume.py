"""A run that was stopped anywhere ends with the numbers of one that never was."""

import errno
import os
import random
import signal
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch

import comity.experiments.resume
import comity.train
from comity.cli import main
from comity.errors import ComityError, WorkError
from comity.learning.learner import Learner
from comity.learning.state.checkpoints import Checkpoints
from comity.runs.folder import RunFolder, read_decisions, stored_config
from comity.train import train
from tests.forked import Forked
from tests.train.small import Stopped, failing, metrics, only_folder, overrides, small

VARIANTS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "dropout": ("adapter.dropout=0.3",),
    "two learners": ("seats=[learner:a,learner:b]", "algorithm.kl=0.1"),
    "learners called as layers are": ("seats=['learner:0','learner:self_attn']",),
    "geometric": ("game/length=geometric", "game.length.cap=3", "game.noise=0.2"),
    "one length a batch": ("game/length=geometric", "game.length.cap=4", "game.length.draw=batch"),
    "free": ("answer=free", "answer.max_tokens=2"),
    "groups": ("matches=4", "group_size=2", "algorithm.baseline=leave_one_out"),
    "alignment": (
        *("matches=4", "group_size=2", "algorithm=advantage_alignment"),
        *("algorithm.baseline=leave_one_out", "algorithm.form=present"),
        *("algorithm.anneal_matches=8", "algorithm.normalization=trajectory"),
    ),
    "clipped": (
        *("algorithm=advantage_alignment", "algorithm.ratio_clip=0.05", "algorithm.epochs=2"),
        *("adapter.dropout=0.1", "algorithm.importance_level=per_step", "answer=free"),
    ),
    "critic": (
        *("algorithm.estimator=gae", "algorithm.lambda_anneal=2", "answer=free"),
        *("answer.max_tokens=2", "seats=[learner,random]", "optimizer.schedule=linear"),
        "algorithm.critic_optimizer={learning_rate: 0.02}",
    ),
    "two critics": (
        *("algorithm=advantage_alignment", "algorithm.estimator=gae", "adapter.dropout=0.1"),
        *("seats=[learner:a,learner:b]", "algorithm.critic_loss=squared"),
    ),
    "exact": ("prompt=memory_one", "algorithm=exact", "seats=[learner,tit_for_tat]"),
    "ppo": (
        *("prompt=structured", "algorithm=ppo", "algorithm.epochs=2", "algorithm.minibatches=2"),
        *("seats=[learner,tit_for_tat]", "seat_assignment=random", "answer=free"),
    ),
    "as executed": (
        *("prompt=structured", "algorithm=ppo", "algorithm.epochs=1", "algorithm.kl=0.2"),
        *("seats=[learner,tit_for_tat]", "answer=free", "answer.max_tokens=2", "matches=1"),
        *("game.initial_state=uniform", "game.illegal=carry"),
    ),
    "past": (
        "opponent_pool=buffer",
        "opponent_pool.every=1",
        "opponent_pool.probability=0.9",
        "prompt=memory_one",
    ),
    "phases": (
        "phases=[{iterations: 2, reward: {name: own}}, "
        "{iterations: 2, reward: {name: deontological}, reset: [optimizer]}]",
    ),
    "scheduled": ("optimizer.schedule=cosine", "optimizer.warmup=1", "algorithm.entropy=0.01"),
}


@cache
def uninterrupted(*changes: str) -> Path:
    """The run with these overrides, made once."""
    return train(small(Path(mkdtemp()), *changes), report=False)


def stop_and_resume(
    monkeypatch: pytest.MonkeyPatch, output: Path, changes: tuple[str, ...], *failure: Any
) -> Path:
    """A run that was stopped once and then finished."""
    with monkeypatch.context() as patch:
        failing(patch, *failure, Stopped())
        with pytest.raises(Stopped):
            train(small(output, *changes), report=False)
    folder = only_folder(output)
    assert len(list((folder / "checkpoints").glob("0*"))) < 2, "it was not stopped at all"
    assert train(stored_config(folder), resume=folder, report=False) == folder
    return folder


PLACES: dict[str, tuple[Any, str, int]] = {
    "playing the first iteration": (comity.train, "play", 1),
    "playing": (comity.train, "play", 3),
    "learning": (Learner, "step", 4),
    "writing decisions": (RunFolder, "write_decisions", 4),
    "writing conversations": (RunFolder, "write_conversations", 3),
    "writing metrics": (RunFolder, "append_metrics", 4),
    "saving the first checkpoint": (comity.experiments.resume, "save_state", 1),
    "saving a later checkpoint": (comity.experiments.resume, "save_optimizer", 2),
}


@pytest.mark.parametrize("place", PLACES)
def test_stopped_while(place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = stop_and_resume(monkeypatch, tmp_path, (), *PLACES[place])
    whole = uninterrupted()
    assert metrics(folder) == metrics(whole)
    for iteration in range(4):
        table = f"decisions/{iteration:06d}.parquet"
        one, other = (read_decisions(run / table) for run in (folder, whole))
        assert [d.tokens for d in one] == [d.tokens for d in other]
        assert [d.logprob for d in one] == [d.logprob for d in other]
    adapters = [
        (run / "checkpoints/000004/main/adapter_model.safetensors").read_bytes()
        for run in (folder, whole)
    ]
    assert adapters[0] == adapters[1]


@pytest.mark.parametrize("variant", list(VARIANTS)[1:])
def test_any_kind_of_run_resumes(
    variant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    changes = VARIANTS[variant]
    # In the fourth iteration, after the checkpoint of the second.
    call = {"two learners": 8, "learners called as layers are": 8, "two critics": 8, "ppo": 13}.get(
        variant, 4
    )
    step = "optimizer_step" if variant in ("ppo", "as executed") else "step"
    folder = stop_and_resume(monkeypatch, tmp_path, changes, Learner, step, call)
    assert metrics(folder) == metrics(uninterrupted(*changes))
    if "critic" in variant:
        assert all(row["critic_loss"] > 0 for row in metrics(folder))


def test_the_variants_are_runs_of_their_own() -> None:
    """So that a resumed run that forgot its overrides would be found out."""
    runs = [metrics(uninterrupted(*changes)) for changes in VARIANTS.values()]
    assert all(one != other for i, one in enumerate(runs) for other in runs[:i])


KILLED = """
import os, signal, sys
import comity.experiments.resume
import comity.train
from comity.config.compose import (compose)

save, calls = comity.experiments.resume.save_optimizer, 0

def killed(*arguments):
    global calls
    calls += 1
    save(*arguments)
    if calls == 2:
        os.kill(os.getpid(), signal.SIGKILL)

comity.experiments.resume.save_optimizer = killed
comity.train.train(compose("ipd", sys.argv[1:]), report=False)
"""


def test_killed_with_half_a_checkpoint_on_the_disk(tmp_path: Path) -> None:
    """Another process, ended by the system without a chance to tidy up."""
    root = Path(__file__).parents[2]
    killed = Forked(("-c", KILLED, *overrides(tmp_path)), os.environ, root)
    _, errors = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, errors
    folder = only_folder(tmp_path)
    assert list((folder / "checkpoints").glob(".tmp-*")), "nothing was half-written"
    assert train(stored_config(folder), resume=folder, report=False) == folder
    assert metrics(folder) == metrics(uninterrupted())
    assert not list((folder / "checkpoints").glob(".tmp-*"))


def test_a_damaged_checkpoint_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ("checkpoint.every=1",)
    with monkeypatch.context() as patch:
        failing(patch, comity.train, "play", 4, Stopped())
        with pytest.raises(Stopped):
            train(small(tmp_path, *changes), report=False)
    folder = only_folder(tmp_path)
    newest = folder / "checkpoints/000003/main/adapter_model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"\x7f")
    train(stored_config(folder), resume=folder, report=False)
    told = " ".join(capsys.readouterr().err.split())
    assert "000003 is damaged" in told and "trying the one before it" in told
    assert metrics(folder) == metrics(uninterrupted())
    assert Checkpoints(folder / "checkpoints").latest() == (4, folder / "checkpoints/000004")


def test_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    folder = train(small(tmp_path, "iterations=1"), report=False)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    train(stored_config(folder), resume=folder, report=False)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_not_a_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    credit = comity.train.credit

    def spoiled(rollout: Any, *given: Any) -> None:
        credit(rollout, *given)
        if rollout.decisions[0].iteration == 3:
            rollout.decisions[0].advantage = float("nan")

    with monkeypatch.context() as patch:
        patch.setattr(comity.train, "credit", spoiled)
        assert main(["train", "ipd", *overrides(tmp_path)]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("comity: the loss of adapter 'main' is nan in iteration 3")
    folder = only_folder(tmp_path)
    assert Checkpoints(folder / "checkpoints").latest() == (2, folder / "checkpoints/000002")
    assert len(metrics(folder)) == 3
    train(stored_config(folder), resume=folder, report=False)
    assert metrics(folder) == metrics(uninterrupted())


@pytest.mark.parametrize(
    ("changes", "whose"),
    [
        (("optimizer.learning_rate=3e38",), "'main'"),
        (("algorithm=ppo", "optimizer.learning_rate=3e38", "algorithm.epochs=1"), "'main'"),
        (
            ("algorithm.estimator=gae", "algorithm.critic_optimizer={learning_rate: 3e38}"),
            "'main:critic'",
        ),
    ],
)
def test_weights_that_a_step_makes_infinite_are_never_a_checkpoint(
    changes: tuple[str, ...], whose: str, tmp_path: Path
) -> None:
    """Also in the last iteration, after which nothing plays and so nothing would notice."""
    with pytest.raises(WorkError, match=f"weights of adapter {whose} are not finite.*lower"):
        train(small(tmp_path, *changes, "iterations=1"), report=False)
    assert not Checkpoints(only_folder(tmp_path) / "checkpoints").numbers()


@pytest.mark.parametrize(
    "place",
    [
        (comity.experiments.resume, "save_optimizer", 2),
        ("comity.engines.local.adapters.lora", "save_file", 2),
    ],
)
def test_a_full_disk_is_told_in_one_line_and_loses_nothing(
    place: tuple[Any, str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    owner = sys.modules[place[0]] if isinstance(place[0], str) else place[0]
    with monkeypatch.context() as patch:
        failing(patch, owner, *place[1:], OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(WorkError, match=r"checkpoints/000004: No space left .* free there"):
            train(small(tmp_path), report=False)
    folder = only_folder(tmp_path)
    assert Checkpoints(folder / "checkpoints").latest() == (2, folder / "checkpoints/000002")
    train(stored_config(folder), resume=folder, report=False)
    assert metrics(folder) == metrics(uninterrupted())


def test_a_run_of_another_model_is_not_continued(tmp_path: Path) -> None:
    """Adapters of other weights are refused, and nothing is overwritten."""
    folder = train(small(tmp_path, "iterations=2"), report=False)
    config = folder / "config.yaml"
    other = small(tmp_path, "iterations=3", architecture="gpt2").model.name
    changed = config.read_text().replace("iterations: 2", "iterations: 3")
    ours = stored_config(folder).model.name
    config.write_text(changed.replace(ours, other))
    with pytest.raises(ComityError, match="is of the base model"):
        train(small(tmp_path), resume=folder, report=False)
    assert len(metrics(folder)) == 2


def test_the_random_generators_go_on_where_the_checkpoint_left_them(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float]:
        return float(torch.rand(1)), float(np.random.random()), random.random()

    folder = train(small(tmp_path), report=False)
    expected = draw()
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    train(stored_config(folder), resume=folder, report=False)
    assert draw() == expected
