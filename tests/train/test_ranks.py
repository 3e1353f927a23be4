"""Several ranks train what one trains: the same matches, metrics and weights up to rounding.

The ranks are processes on this machine that exchange by gloo, as torchrun starts them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from comity.config.compose import compose
from comity.rollout.records import Decision
from comity.train import train
from tests.forked import Forked
from tests.train.small import decisions, metrics, overrides
from tests.train.srun import ROOT, free_port

Processes = Sequence[Forked | subprocess.Popen[str]]
WEIGHTS = 2e-5
"""Largest difference of an adapter's weight after 3 updates, whose steps are 2e-3 each."""
AFTER_RESET = 5e-4
"""Right after Adam's moments were reset: its first step divides every gradient by its own size, so
the rounding of tiny ones counts in full (a step is 2e-3)."""
NUMBERS = 5e-4
"""Largest relative or absolute difference of a metric."""

COMMON = (
    *("iterations=3", "matches=4", "checkpoint.every=3", "optimizer.learning_rate=0.002"),
    "temperature=3",
)
VARIANTS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "fewer matches than ranks": ("matches=2", "seats=[learner,tit_for_tat]"),
    "no baseline": ("algorithm.baseline=none", "algorithm.whiten=false", "algorithm.kl=0.1"),
    "leave one out": (
        *("algorithm.baseline=leave_one_out", "group_size=2", "algorithm.normalization=tokens"),
        *("algorithm.entropy=0.01", "game/length=geometric", "game.length.cap=4"),
    ),
    "baseline of both seats": ("algorithm.baseline=shared", "algorithm.whiten=round"),
    "pooled baseline": ("algorithm.baseline=batch_pooled", "algorithm.whiten=center"),
    "mean baseline": ("algorithm.baseline=batch_mean", "algorithm.visitation_discount=true"),
    "free answers": (
        *("answer=free", "answer.max_tokens=2", "algorithm.normalization=trajectory"),
        *("algorithm.entropy=0.1", "algorithm.kl=0.1"),
    ),
    "clipped": ("algorithm.ratio_clip=0.02", "algorithm.epochs=2", "algorithm.entropy=0.1"),
    "messages under a grammar": (
        *("game=trust_and_split_rps", "prompt=negotiation", "game.length.rounds=1"),
        *("answer.message_tokens=4", "algorithm.importance_level=per_step"),
    ),
    "recorded, random seats": ("prompt=memory_one", "seat_assignment=random", "game.noise=0.2"),
    "two learners, phases": (
        "seats=[learner:a,learner:b]",
        "phases=[{iterations: 2, reward: {name: own}}, "
        "{iterations: 1, reward: {name: deontological}, reset: [optimizer]}]",
    ),
    "alignment": (
        *("algorithm=advantage_alignment", "algorithm.baseline=leave_one_out", "group_size=2"),
        *("algorithm.form=present", "algorithm.anneal_matches=8"),
    ),
    "alternatives": ("algorithm.estimator=branches", "algorithm.alternatives=2"),
    "critic": (
        *("algorithm.estimator=gae", "algorithm.lambda_anneal=2", "seats=[learner,random]"),
        "algorithm.critic_optimizer={learning_rate: 0.002}",
    ),
    "critics, alignment": (
        *("algorithm=advantage_alignment", "algorithm.estimator=gae"),
        "seats=[learner:a,learner:b]",
    ),
    "ppo": (
        *("prompt=structured", "algorithm=ppo", "algorithm.epochs=2", "algorithm.minibatches=2"),
        *("seats=[learner,tit_for_tat]", "algorithm.value_dropout=0"),
    ),
    "ppo, one pass": (
        *("prompt=structured", "algorithm=ppo", "algorithm.epochs=1", "matches=2"),
        *("seats=[learner,tit_for_tat]", "algorithm.value_dropout=0"),
    ),
    "ppo, rounds": (
        *("algorithm=ppo", "algorithm.horizon=rounds", "algorithm.accumulation=2"),
        *("algorithm.value_dropout=0", "algorithm.epochs=2", "algorithm.microbatch_tokens=40"),
    ),
    "exact": ("prompt=memory_one", "algorithm=exact", "seats=[learner,tit_for_tat]"),
    "past": (
        *("opponent_pool=buffer", "opponent_pool.every=1", "opponent_pool.probability=0.9"),
        "prompt=memory_one",
    ),
}


OF_THREE = (*("fewer matches than ranks", "leave one out", "alignment", "ppo", "past"),)
"""Trained by three ranks too, of which one has fewer matches."""


def environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """As torchrun sets it."""
    return {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def start(ranks: int, *command: str) -> Processes:
    """The command on every rank."""
    port = free_port()
    return [Forked(command, environment(rank, ranks, port), ROOT) for rank in range(ranks)]


def start_with_a_fresh_one(ranks: int, *command: str) -> Processes:
    """The same with rank 0 in a process that imports Comity as a rank."""
    port = free_port()
    others = [Forked(command, environment(rank, ranks, port), ROOT) for rank in range(1, ranks)]
    first = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment(0, ranks, port),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return [first, *others]


def finished(processes: Processes, seconds: float = 300) -> list[tuple[str, str]]:
    """Standard output and error of processes that must all succeed."""
    outputs = [one.communicate(timeout=seconds) for one in processes]
    assert [one.returncode for one in processes] == [0] * len(processes), outputs
    return outputs


@cache
def folders(ranks: int) -> dict[str, Path]:
    """All variants trained with so many ranks; one call of each process trains all of them."""
    output, names = Path(mkdtemp()), list(OF_THREE if ranks == 3 else VARIANTS)
    given = [overrides(output, *COMMON, *VARIANTS[name]) for name in names]
    if ranks == 1:
        return {
            name: train(compose("ipd", changes), report=False)
            for name, changes in zip(names, given, strict=True)
        }
    ((printed, _), *_) = finished(start(ranks, "-m", "tests.train.rank_worker", json.dumps(given)))
    return dict(zip(names, map(Path, printed.split()), strict=True))


def weights(run: Path, number: str = "000003") -> dict[str, Any]:
    """All weights of a run's last checkpoint."""
    return {
        f"{file.parent.name}: {name}": tensor.numpy()
        for file in sorted(run.glob(f"checkpoints/{number}/*/adapter_model.safetensors"))
        for name, tensor in load_file(file).items()
    }


def numbers(row: Any) -> Any:
    """A tree of metrics without what depends on the number of ranks."""
    if not isinstance(row, dict):
        return row
    others = ("ranks", "tokens_played", "tokens_learned")
    return {key: numbers(value) for key, value in row.items() if key not in others}


def told(d: Decision) -> tuple[Any, ...]:
    """What was decided where."""
    return (d.match, d.seat, d.round, d.step, d.conversation, tuple(d.tokens), d.move, d.payoff)


def assert_close(found: Any, wanted: Any, where: str = "") -> None:
    """Equal trees, with numbers within `NUMBERS`."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            assert_close(found[key], wanted[key], f"{where}/{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other, where)
    elif isinstance(wanted, float):
        np.testing.assert_allclose(found, wanted, rtol=NUMBERS, atol=NUMBERS, err_msg=where)
    else:
        assert found == wanted, where


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "name"),
    [*((2, name) for name in VARIANTS), *((3, name) for name in OF_THREE)],
)
def test_the_number_of_ranks_changes_nothing_but_rounding(ranks: int, name: str) -> None:
    one, several = folders(1)[name], folders(ranks)[name]
    assert list(map(told, decisions(several))) == list(map(told, decisions(one)))
    for got, expected in zip(decisions(several), decisions(one), strict=True):
        np.testing.assert_allclose(got.advantage, expected.advantage, rtol=NUMBERS, atol=NUMBERS)
    for row, wanted in zip(metrics(several), metrics(one), strict=True):
        assert row["ranks"]["count"] == ranks and row["ranks"]["gradient_bytes"] >= 0
        assert_close(numbers(row), numbers(wanted))
    after, expected_after = weights(several), weights(one)
    assert after.keys() == expected_after.keys() and after
    most = AFTER_RESET if "reset" in str(VARIANTS[name]) else WEIGHTS
    for key, weight in expected_after.items():
        np.testing.assert_allclose(after[key], weight, atol=most, err_msg=key)
    norms = [row["gradient_norm"] for row in metrics(one) if "gradient_norm" in row]
    assert not norms or max(norms) > 1e-3, "a run that learns nothing shows nothing"


MISHAP = """
import os, signal, sys
import torch
import comity.train
from comity.cli import main
from comity.errors import WorkError

kind = sys.argv[1]
original, calls = comity.train.play, 0

def play(*arguments, **keywords):
    global calls
    calls += 1
    if calls == 3 and os.environ["RANK"] == "1":
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise WorkError("no more memory")
    return original(*arguments, **keywords)

def seed_libraries(*arguments):
    if kind == "differs" and os.environ["RANK"] == "1":
        learner = next(iter(learners.values()))
        next(iter(learner.parameters.values())).data += 1e-6
    return seed(*arguments)

def restore(given, ranks):
    learners.update(given)
    return broadcast(given, ranks)

if kind == "differs":
    import comity.experiments.run_writer as writer
    learners, broadcast, seed = {}, writer.broadcast_learners, comity.train.seed_libraries
    writer.broadcast_learners, comity.train.seed_libraries = restore, seed_libraries
else:
    comity.train.play = play
sys.exit(main(sys.argv[2:]))
"""


def mishap(kind: str, output: Path) -> tuple[list[int], list[list[str]]]:
    """Exit codes and the lines of `comity:` of two ranks of which the second has a mishap."""
    given = overrides(output, *COMMON, "iterations=4", "checkpoint.every=2")
    ranks = start(2, "-c", MISHAP, kind, "train", "ipd", *given)
    printed = [one.communicate(timeout=300)[1] for one in ranks]
    lines = [[s for s in text.splitlines() if s.startswith("comity")] for text in printed]
    assert not any("Traceback" in text for text in printed)
    return [one.returncode for one in ranks], lines


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_which_resumes_with_another_number_of_ranks(
    tmp_path: Path,
) -> None:
    codes, lines = mishap("killed", tmp_path)
    (run,) = tmp_path.iterdir()
    assert codes == [1, -9] and lines[1] == []
    (line,) = lines[0]
    assert "another rank ended" in line
    assert line.endswith(f"continue with: comity train --resume {run}")

    finished(start_with_a_fresh_one(3, "-m", "comity", "train", "--resume", str(run)))
    changes = overrides(tmp_path / "one", *COMMON, "iterations=4", "checkpoint.every=2")
    one = train(compose("ipd", changes), report=False)
    assert list(map(told, decisions(run))) == list(map(told, decisions(one)))
    for row, wanted in zip(metrics(run), metrics(one), strict=True):
        assert_close(numbers(row), numbers(wanted))
    assert [row["ranks"]["count"] for row in metrics(run)] == [2, 2, 3, 3]
    for key, weight in weights(one, "000004").items():
        np.testing.assert_allclose(weights(run, "000004")[key], weight, atol=WEIGHTS)
    assert (run / "report.html").exists()


@pytest.mark.slow
def test_an_error_on_one_rank_is_one_line_of_the_machine(tmp_path: Path) -> None:
    codes, lines = mishap("fails", tmp_path)
    assert codes == [1, 1]
    assert lines == [["comity: rank 1: no more memory"], []]


@pytest.mark.slow
def test_ranks_that_learned_something_else_write_no_checkpoint(tmp_path: Path) -> None:
    codes, lines = mishap("differs", tmp_path)
    assert codes == [1, 1] and lines[1] == []
    assert "learner 'main' on rank 1 differs from that on rank 0" in lines[0][0]
    assert len(lines[0]) == 1 and not list(tmp_path.glob("*/checkpoints/0*"))
