"""A base model whose blocks are divided among ranks trains as one that is whole.

The ranks are processes on this machine that exchange by gloo, as torchrun starts them.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch

from comity.config.compose import compose
from comity.distributed.block_gathering import BlockGathering
from comity.distributed.process_group import ALONE
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model
from comity.engines.local.sharding import check_device, shard_blocks
from comity.errors import ComityError, ComityWarning
from comity.experiments.rules import check_ranks
from comity.rollout.play import play
from comity.runs.folder import stored_config
from comity.train import train
from tests.train.small import Stopped, decisions, metrics, overrides, small
from tests.train.test_rank_rules import Place
from tests.train.test_ranks import (
    COMMON,
    VARIANTS,
    WEIGHTS,
    assert_close,
    finished,
    numbers,
    start,
    told,
    weights,
)
from tests.worlds import tiny_folder

SHARDED = "model.sharding=fsdp2"
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain": ("llama", ()),
    "a rank without matches": ("qwen3", VARIANTS["fewer matches than ranks"]),
    "recorded, random seats": ("qwen2", VARIANTS["recorded, random seats"]),
    "messages": ("gemma2", VARIANTS["messages under a grammar"]),
    "recomputed": ("gemma3", ("model.activation_checkpointing=always", *VARIANTS["clipped"])),
    "the first rank's gradient": ("llama", VARIANTS["exact"]),
}


@cache
def folders(ranks: int) -> dict[str, Path]:
    """All runs with so many ranks, of which several divide the model."""
    output = Path(mkdtemp())
    sharding = [SHARDED] if ranks > 1 else []
    given = [
        overrides(output, *COMMON, *changes, *sharding, architecture=architecture)
        for architecture, changes in RUNS.values()
    ]
    if ranks == 1:
        found = [train(compose("ipd", changes), report=False) for changes in given]
    else:
        command = ("-m", "tests.train.rank_worker", json.dumps(given))
        ((printed, _), *_) = finished(start(ranks, *command))
        found = [Path(line) for line in printed.split()]
    return dict(zip(RUNS, found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_divided_model_trains_as_a_whole_one(name: str) -> None:
    one, several = folders(1)[name], folders(2)[name]
    assert list(map(told, decisions(several))) == list(map(told, decisions(one)))
    for row, wanted in zip(metrics(several), metrics(one), strict=True):
        assert row["ranks"]["gathers"] > 0
        assert_close(numbers(row), numbers(wanted))
    after, expected = weights(several), weights(one)
    assert after.keys() == expected.keys() and after
    for key, weight in expected.items():
        np.testing.assert_allclose(after[key], weight, atol=WEIGHTS, err_msg=key)


@pytest.mark.slow
def test_ranks_hold_parts_and_may_compute_unlike_numbers_of_passes() -> None:
    folder = tiny_folder("gemma2")
    found = finished(start(2, "-m", "tests.train.sharding_worker", str(folder)))
    seen = [json.loads(printed) for printed, _ in found]
    assert sum(one["part"] for one in seen) == seen[0]["whole"]
    for one in seen:
        assert one["gradients"] < 1e-4 and one["passes"] < 1e-5
        assert one["most_whole"] == 1
        assert one["kept"] < 1000, "bytes that dropped graphs keep: a block's are 30 times that"
        assert abs(one["part"] - one["whole"] / 2) < 0.05 * one["whole"]
        assert one["replicated"] == [one["vocabulary"]] * 2
        assert one["plain_adapters"]


MISHAP = """
import os, signal, sys
import comity.train
from comity.cli import main
from comity.distributed.block_gathering import BlockGathering
from comity.errors import WorkError

kind, plays = sys.argv[1], 0
original, need = comity.train.play, BlockGathering.need

def play(*arguments, **keywords):
    global plays
    plays += 1
    return original(*arguments, **keywords)

def failing_need(gathering, block, backward=False):
    if plays == 2 and block == 1:
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise WorkError("no more memory")
    need(gathering, block, backward)

if os.environ["RANK"] == "1":
    comity.train.play, BlockGathering.need = play, failing_need
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "codes", "said"),
    [
        ("killed", [1, -9], "another rank ended or cannot be reached, so this one ends, too"),
        ("fails", [1, 1], "rank 1: no more memory"),
    ],
)
def test_a_rank_that_ends_in_a_pass_ends_all_with_one_line(
    kind: str, codes: list[int], said: str, tmp_path: Path
) -> None:
    given = overrides(tmp_path, *COMMON, SHARDED)
    ranks = start(2, "-c", MISHAP, kind, "train", "ipd", *given)
    printed = [one.communicate(timeout=300)[1] for one in ranks]
    assert [one.returncode for one in ranks] == codes
    lines = [[s for s in text.splitlines() if s.startswith("comity")] for text in printed]
    assert len(lines[0]) == 1 and lines[1] == [] and said in lines[0][0], printed
    assert not any("Traceback" in text for text in printed)


BETWEEN = """
import os, signal, sys
import torch
import comity.train
from comity.runs.folder import stored_config
from comity.config.compose import compose

original, plays, killed = comity.train.play, 0, int(sys.argv[1])

def play(*arguments, **keywords):
    global plays
    plays += 1
    if plays == killed and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **keywords)

torch.set_num_threads(1)
comity.train.play = play
if sys.argv[2] == "--resume":
    run = comity.train.Path(sys.argv[3])
    comity.train.train(stored_config(run), run, report=False)
else:
    comity.train.train(compose("ipd", sys.argv[2:]), report=False)
"""


def once(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same the first time, and `Stopped` after it."""
    left = [call]

    def called(*arguments: Any, **keywords: Any) -> Any:
        if not left:
            raise Stopped
        return left.pop()(*arguments, **keywords)

    return called


def test_a_killed_divided_run_goes_on_with_any_number_of_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks, of which one is killed between two iterations; then one, then two again."""
    given = (*COMMON, "checkpoint.every=1")
    ranks = start(2, "-c", BETWEEN, "2", *overrides(tmp_path / "several", *given, SHARDED))
    for one in ranks:
        one.communicate(timeout=300)
    assert [one.returncode for one in ranks] == [1, -9]
    (run,) = (tmp_path / "several").iterdir()
    with monkeypatch.context() as patch, pytest.warns(ComityWarning, match="no effect"):
        patch.setattr("comity.train.play", once(play))
        with pytest.raises(Stopped):
            train(stored_config(run), run, report=False)
    finished(start(2, "-c", BETWEEN, "0", "--resume", str(run)))

    one = train(compose("ipd", overrides(tmp_path / "one", *given)), report=False)
    assert [row.get("ranks", {}).get("count", 1) for row in metrics(run)] == [2, 1, 2]
    assert list(map(told, decisions(run))) == list(map(told, decisions(one)))
    for row, wanted in zip(metrics(run), metrics(one), strict=True):
        assert_close(numbers(row), numbers(wanted))
    for key, weight in weights(one).items():
        np.testing.assert_allclose(weights(run)[key], weight, atol=WEIGHTS, err_msg=key)


def test_a_divided_engine_neither_records_graphs_nor_merges_adapters() -> None:
    engine = Engine(load_model(str(tiny_folder("llama")), "float32", "cpu"), BlockGathering())
    engine.adapters.add("main")
    with pytest.raises(ComityError, match="each must gather its weights"):
        engine.choose_decoding("graphs")
    with engine.adapters.merged("main"):
        assert engine.adapters.routes.merged is None


def test_models_that_cannot_be_divided_are_refused() -> None:
    model: Any = load_model(str(tiny_folder("llama")), "float32", "cpu")
    first, second = model.model.layers
    second.mlp.up_proj.weight = first.mlp.up_proj.weight
    with pytest.raises(ComityError, match="'llama': their blocks share weights"):
        shard_blocks(model, torch.device("cpu"), None)  # type: ignore[arg-type]
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(ComityError, match="'llama' have none"):
        shard_blocks(model, torch.device("cpu"), None)  # type: ignore[arg-type]


def test_builds_of_torch_that_divide_on_gpus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    check_device(torch.device("cpu"))
    monkeypatch.delattr(torch.cpu.Stream, "record_event")
    check_device(torch.device("cuda"))
    with pytest.raises(ComityError, match=r"fsdp2 does not run on CPUs with torch 2\..*newer"):
        check_device(torch.device("cpu"))


def test_quantized_weights_are_not_divided(tmp_path: Path) -> None:
    config = small(tmp_path, SHARDED, "model.quantization=nf4")
    with pytest.raises(ComityError, match="does not divide quantized weights"):
        check_ranks(config, Place(0, 2))


def test_one_process_is_told_that_it_has_the_whole_model(tmp_path: Path) -> None:
    with pytest.warns(ComityWarning, match="has no effect in one process.*torchrun"):
        check_ranks(small(tmp_path, SHARDED), ALONE)


def test_an_unknown_sharding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComityError, match="'fsdp3'; did you mean fsdp2"):
        small(tmp_path, "model.sharding=fsdp3")
