"""Several ranks train with one vLLM server: the same as one process, whatever ends meanwhile.

The server is the twin in this process, behind one that rank 0 starts. How ranks share a server is
in test_shared_server.py.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from comity.config.compose import compose
from comity.engines.vllm.check import PROMPTS
from comity.experiments import text_engines
from comity.train import train
from tests.engines.test_vllm_server import ended
from tests.train.small import decisions, metrics, overrides
from tests.train.test_ranks import WEIGHTS, assert_close, numbers, start, told, weights
from tests.vllm_twin import make_twin, server_program, serving

FREE = (
    *("answer=free", "answer.max_tokens=2", "engine=vllm", "iterations=2", "matches=4"),
    *(
        "algorithm.entropy=0.1",
        "checkpoint.every=1",
        "optimizer.learning_rate=0.002",
        "temperature=3",
    ),
)
KILLED = """
import os, signal, sys
import comity.train
from comity.cli import main

original = comity.train.play

def play(game, matches, iteration, *arguments, **keywords):
    if iteration == 1 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return original(game, matches, iteration, *arguments, **keywords)

comity.train.play = play
sys.exit(main(sys.argv[1:]))
"""
"""Rank 1 is killed in the second iteration."""


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """No server of other tests, and none left behind."""
    text_engines.disconnect()
    yield
    text_engines.disconnect()


@pytest.mark.slow
def test_ranks_with_a_server_train_what_one_process_trains_whatever_ends_meanwhile(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """The server in the first iteration, a rank in the second; one process resumes the run."""
    twin = make_twin(tiny_model("llama"))
    with serving(twin) as url:
        program = server_program(tmp_path, url)
        served = overrides(tmp_path / "ranks", *FREE, f"engine.python={program}")
        twin.crash_at = PROMPTS + 9
        ranks = start(2, "-c", KILLED, "train", "ipd", *served)
        printed = [one.communicate(timeout=300)[1] for one in ranks]
        assert [one.returncode for one in ranks] == [1, -9], printed
        (run,) = (tmp_path / "ranks").iterdir()
        lines = printed[0].splitlines()
        assert lines[-1].endswith(f"continue with: comity train --resume {run}")
        assert sum("starting vLLM" in line for line in lines) == twin.starts == 2
        pids = [int(one) for one in (tmp_path / "pids").read_text().split()]
        assert len(pids) == 2 and ended(pids, 20)
        # A server is checked with an adapter; then one rank loads the learner's for both.
        names = [name.split("-")[1:] for name in twin.loaded]
        first, again, second = (weights for adapter, weights in names if adapter == "main")
        assert first == again != second

        train(compose("ipd", served), resume=run, report=False)
        text_engines.disconnect()
        assert twin.starts == 3

        plain = overrides(tmp_path / "one", *FREE, f"engine.url={url}")
        one = train(compose("ipd", plain), report=False)
        text_engines.disconnect()
    assert list(map(told, decisions(run))) == list(map(told, decisions(one)))
    for row, wanted in zip(metrics(run), metrics(one), strict=True):
        assert row["importance_mean"] == pytest.approx(1, abs=1e-3)
        if row["iteration"] == 0:  # What was asked twice counts twice.
            assert row.pop("served")["answers"] >= wanted.pop("served")["answers"]
        assert_close(numbers(row), numbers(wanted))
    assert ["ranks" in row for row in metrics(run)] == [True, False]
    after = weights(run, "000002")
    for key, weight in weights(one, "000002").items():
        np.testing.assert_allclose(after[key], weight, atol=WEIGHTS, err_msg=key)
