"""What several ranks refuse, and how they divide the matches."""

import os
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from comity.cli import main
from comity.distributed.environment import rank, without_launcher, world_size
from comity.distributed.joining import bind_device, joined
from comity.distributed.process_group import ALONE, ProcessGroup, TorchProcessGroup
from comity.errors import ComityError, ComityWarning, WorkError
from comity.experiments.rules import check_ranks
from comity.rollout.sharing import share_matches, stack_matches
from tests.train.small import small


class Place(ProcessGroup):
    """A place in a group, without the others."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def torchrun(monkeypatch: pytest.MonkeyPatch, rank: int, size: int = 2) -> None:
    """The environment of one rank."""
    given = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": 1}
    for name, value in {**given, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(("matches", "group_size"), [(8, 1), (8, 2), (12, 4), (5, 5), (2, 1)])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_ranks_share_the_matches_by_whole_groups(matches: int, group_size: int, size: int) -> None:
    parts = [share_matches(matches, group_size, Place(rank, size)) for rank in range(size)]
    assert [m for part in parts for m in part] == list(range(matches))
    whole = matches // group_size >= size
    sizes = [len(part) / (group_size if whole else 1) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert all(float(one).is_integer() for one in sizes)


def test_arrays_of_matches_are_filled_up_to_the_longest() -> None:
    parts = [np.ones((1, 2, 1)), np.zeros((0, 0, 0)), np.full((2, 2, 3), 2.0)]
    expected = [[[1, -1, -1]] * 2, [[2, 2, 2]] * 2, [[2, 2, 2]] * 2]
    np.testing.assert_array_equal(stack_matches(parts, -1), expected)


def test_a_variable_alone_is_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "3")
    assert (world_size(), rank()) == (1, 0)
    torchrun(monkeypatch, rank=3, size=8)
    assert (world_size(), rank()) == (8, 3)


def test_other_programs_do_not_take_themselves_for_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    torchrun(monkeypatch, rank=1)
    for name in ("TORCHELASTIC_USE_AGENT_STORE", "ROLE_RANK", "GROUP_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    assert without_launcher(os.environ) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "games"], "only `comity train` runs with several ranks"),
        (["train", "ipd", "--dry-run"], "--dry-run needs one process, not 2 ranks"),
        (["train", "ipd", "--multirun"], "--multirun needs one process"),
        (["train", "ipd", "+study.seeds=[0]"], "study of several runs, and ranks train one run"),
    ],
)
def test_what_is_for_one_process_is_refused_in_one_line(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    torchrun(monkeypatch, rank=0)
    assert main(arguments) == 2
    line = [one for one in capfd.readouterr().err.splitlines() if one.startswith("comity: ")]
    assert len(line) == 1 and said in line[0]
    torchrun(monkeypatch, rank=1)
    assert main(arguments) == 2
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seats=[learner,'api:m@http://127.0.0.1:1/v1']", "answer one process"),
        ("algorithm.normalization=minibatch", "depends on how a batch is divided"),
    ],
)
def test_what_needs_one_process_is_refused(change: str, said: str, tmp_path: Path) -> None:
    config = small(tmp_path, change)
    check_ranks(config, ALONE)
    with pytest.raises(ComityError, match=said):
        check_ranks(config, Place(0, 2))


@pytest.mark.parametrize(
    ("device", "gpus", "nccl", "said"),
    [
        (
            "cuda",
            2,
            False,
            "need NCCL, which this build of torch lacks; install torch for CUDA",
        ),
        ("auto", 1, True, "2 or more ranks on a machine with 1 GPUs; start at most --nproc-per"),
        ("cuda:1", 2, True, "model.device=cuda:1 is one GPU, and each of the 2 ranks needs its"),
        ("cpu", 2, False, ""),
    ],
)
def test_ranks_on_gpus_need_one_each_and_nccl(
    device: str, gpus: int, nccl: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchrun(monkeypatch, rank=1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: nccl)
    if not said:
        bind_device(device, Place(1, 2))
        return
    with pytest.raises(ComityError, match=re.escape(said)):
        bind_device(device, Place(1, 2))


def test_a_port_in_use_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun(monkeypatch, rank=0)
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    dual = family == socket.AF_INET6
    with socket.create_server(("", 0), family=family, dualstack_ipv6=dual) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(WorkError, match=f":{port}: .*choose another port: torchrun --master-"):
            joined().__enter__()


class Answering(TorchProcessGroup):
    """Rank 0 of two; the other one has no failure. Counts what is gathered."""

    def __init__(self) -> None:
        self.rank, self.size, self.gathered = 0, 2, 0

    def gather(self, value: Any) -> list[Any]:
        self.gathered += 1
        return [value, None]


def test_a_failure_that_all_ranks_have_is_exchanged_once() -> None:
    ranks = Answering()
    with pytest.raises(ComityError, match="no model"), ranks.together(), ranks.together():
        raise ComityError("no model")
    assert ranks.gathered == 1


def test_ranks_without_work_are_told(tmp_path: Path) -> None:
    with pytest.warns(ComityWarning, match="2 matches leave 1 of 3 ranks without work"):
        check_ranks(small(tmp_path, "matches=2"), Place(0, 3))
