"""`engine=vllm` in an experiment: where the server comes from, and what is refused before."""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comity.config.compose import compose
from comity.config.schema import Config
from comity.engines.vllm import server
from comity.engines.vllm.check import PROMPTS
from comity.engines.vllm.options import check_options
from comity.engines.vllm.sampler import VllmSampler
from comity.engines.vllm.server import VllmServer
from comity.errors import ComityError
from comity.experiments import backends, text_engines
from comity.experiments.build import Experiment
from comity.experiments.server_beside import largest_rank
from comity.train import train
from tests.train.small import decisions, metrics, short_rules
from tests.vllm_twin import make_twin, server_program, serving


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["engine=vllm"], "engine.url"),
        (["engine=vllm", "engine.url=http://127.0.0.1:1", "engine.python=python"], "not both"),
        (
            [
                "engine=vllm",
                "engine.url=http://x",
                "adapter.dropout=0.1",
                "adapter.dropout_in=both",
            ],
            "dropout",
        ),
        (["engine=vllm", "engine.url=http://x", "model.quantization=nf4"], "plain weights"),
        (["engine.scored=vllm"], "engine.scored=vllm needs engine=vllm"),
        (["engine=vllm", "engine.url=http://x", "engine.scored=remote"], "engine.scored"),
        (["engine=vllm", "engine.url=[]"], "nor a list of addresses"),
        (["engine=vllm", "engine.url=8000"], "8000 is neither the address of a server"),
        (["engine=vlm"], "engine"),
    ],
)
def test_settings_that_cannot_work_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ComityError, match=message):
        compose("smoke", overrides)


@pytest.mark.parametrize(
    ("option", "name", "instead"),
    [
        ("--max-lora-rank", "max-lora-rank", "set adapter.rank"),
        ("--max_lora_rank=64", "max-lora-rank", "set adapter.rank"),
        ("--max-lora-ra", "max-lora-rank", "set adapter.rank"),  # argparse takes beginnings.
        ("--port", "port", "engine.url"),
        ("--model=other", "model", "model.name"),
        ("--dtype", "dtype", "set model.dtype"),
        ("--seed", "seed", "each request"),
        ("--structured_outputs_config.backend=xgrammar", "structured-outputs-config", "grammars"),
        ("--config", "config", "engine.options"),
    ],
)
def test_options_that_comity_sets_are_refused_by_name(option: str, name: str, instead: str) -> None:
    given = ["--max-model-len", "4096", option]
    with pytest.raises(ComityError, match=f"leave out --{name}; .*{instead}"):
        compose("smoke", ["engine=vllm", "engine.python=python", f"engine.options={given}"])


def test_every_option_of_the_command_line_is_one_that_comity_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def popen(command: list[str], **_: Any) -> None:
        commands.append(command)
        raise ComityError("not started")

    monkeypatch.setattr(server, "check_server_program", lambda *_: "python")
    monkeypatch.setattr(server.subprocess, "Popen", popen)
    with pytest.raises(ComityError, match="not started"):
        VllmServer("python", tmp_path, dtype="float32", log=tmp_path / "log", rank=4, adapters=1)
    (command,) = commands
    options = [one for one in command if one.startswith("--")]
    assert len(options) > 9
    for option in options:
        with pytest.raises(ComityError, match="leave out"):
            check_options([option])


def test_other_options_go_through() -> None:
    given = ["--max-model-len", "4096", "--model-impl=vllm", "-O0", "--enable_prefix_caching"]
    check_options(given)
    with pytest.raises(ComityError, match="'max_model_len' is no option"):
        check_options(["max_model_len", "4096"])


def test_everything_is_computed_here_by_default() -> None:
    assert compose("smoke").engine.name == "local"


def negotiation(folder: Path, output: Path, *changes: str) -> Config:
    """Two updates of a negotiation with messages of four tokens."""
    return compose(
        "",
        [
            f"model.name={folder}",
            "model.dtype=float32",
            *("game=trust_and_split_rps", "prompt=negotiation", "game.length.rounds=1"),
            *("answer.message_tokens=4", "matches=2", "model.system=null"),
            "iterations=2",
            f"output={output}",
            "engine=vllm",
            *changes,
        ],
    )


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No server of other tests, short rules, and none left behind."""
    text_engines.disconnect()
    short_rules(monkeypatch)
    yield
    text_engines.disconnect()


def test_a_training_run_with_messages_on_a_server(
    tiny_model: Callable[[str], Path], tmp_path: Path, alone: None
) -> None:
    """Two updates: the second is played with the first one's weights."""
    folder = tiny_model("llama")
    twin = make_twin(folder)
    with serving(twin) as url:
        given = [f"engine.url={url}", f"engine.adapters={tmp_path / 'served'}"]
        run = train(negotiation(folder, tmp_path / "runs", *given), report=False)
        check, *updates = twin.loaded
        assert "check" in check and len(set(updates)) == 2
        # After the questions of the check of the base.
        assert {body["model"] for body in twin.bodies[PROMPTS:]} == set(updates)
        assert any(d.kind == "message" for d in decisions(run))
        for iteration, row in enumerate(metrics(run)):
            mine = [d for d in decisions(run) if d.iteration == iteration]
            assert row["served"]["answers"] == len(mine)
            assert row["served"]["tokens"] >= sum(len(d.tokens) for d in mine) > 0
        assert [row["importance_mean"] for row in metrics(run)] == pytest.approx([1, 1], abs=1e-3)
        text_engines.disconnect()
        assert twin.engine.adapters.names == []


def test_a_training_run_whose_answers_a_server_scores(
    tiny_model: Callable[[str], Path], tmp_path: Path, alone: None
) -> None:
    """The same probabilities as with the local engine, whose base does not play."""
    folder, found = tiny_model("llama"), {}
    twin = make_twin(folder)
    with serving(twin) as url:
        for scored in ("local", "vllm"):
            config = compose(
                "smoke",
                [
                    f"model.name={folder}",
                    "model.dtype=float32",
                    "iterations=2",
                    f"output={tmp_path / scored}",
                    "engine=vllm",
                    f"engine.url={url}",
                    f"engine.scored={scored}",
                ],
            )
            run = train(config, report=False)
            assert [row["importance_mean"] for row in metrics(run)] == pytest.approx(
                [1, 1], abs=1e-3
            )
            found[scored] = decisions(run)
            assert all(row["tokens_played"] > 0 for row in metrics(run)) == (scored == "local")
            asked = [body for body in twin.bodies if "logprob_token_ids" in body]
            assert bool(asked) == (scored == "vllm")
            if asked:
                assert {body["model"] for body in asked} == {"base", *twin.loaded[1:]}
                assert len(twin.loaded) == 3  # one for the check
        text_engines.disconnect()
    assert [d.tokens for d in found["vllm"]] == [d.tokens for d in found["local"]]
    np.testing.assert_allclose(
        [d.logprob for d in found["vllm"]], [d.logprob for d in found["local"]], atol=1e-3
    )


@pytest.mark.slow
def test_a_server_that_is_killed_is_started_again(
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    alone: None,
) -> None:
    """By Comity, which had started it; the run has the numbers of an undisturbed one."""
    folder = tiny_model("llama")
    twin = make_twin(folder)
    real, servers, rows = VllmServer.__init__, [], []

    def noted(self: VllmServer, *args: Any, **more: Any) -> None:
        real(self, *args, **more)
        servers.append(self)

    monkeypatch.setattr(VllmServer, "__init__", noted)
    ask = VllmSampler.sample
    calls = count()

    def sample(self: VllmSampler, *args: Any) -> Any:
        if killing and next(calls) == 3:
            os.killpg(servers[0]._process.pid, signal.SIGKILL)
        return ask(self, *args)

    monkeypatch.setattr(VllmSampler, "sample", sample)
    with serving(twin) as url:
        program = server_program(tmp_path, url)
        for killing in (True, False):
            output = tmp_path / f"runs-{killing}"
            run = train(negotiation(folder, output, f"engine.python={program}"), report=False)
            rows.append([(d.tokens, d.reward) for d in decisions(run)])
            assert len(metrics(run)) == 2
        assert len(servers) == 2
        # Another arm, whose adapter needs another server; there is one at a time.
        other = negotiation(folder, tmp_path, f"engine.python={program}", "adapter.rank=8")
        Experiment(other).close()
        assert [one._process.poll() is None for one in servers] == [False, False, True]
    assert "starting it again" in capsys.readouterr().err
    assert rows[0] == rows[1]
    folders = [server.log.parent for server in servers]
    text_engines.disconnect()
    assert servers[-1]._process.poll() is not None
    assert not any(one.exists() for one in folders)


def test_a_server_takes_the_largest_adapter_that_plays(tmp_path: Path) -> None:
    """Not only learners': before, one of larger rank on a seat was refused at its first answer."""
    one = tmp_path / "earlier" / "one"
    one.mkdir(parents=True)
    (one / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 4, "rank_pattern": {"q_proj": 24}})
    )
    given = [tmp_path, tmp_path / "runs", "engine.url=http://127.0.0.1:9", "adapter.rank=8"]
    assert largest_rank(negotiation(*given)) == 8
    assert largest_rank(negotiation(*given, f"seats=[learner,'adapter:{one}']")) == 24
    pool = ["opponent_pool=buffer", f"opponent_pool.initial_snapshots={one.parent}"]
    assert largest_rank(negotiation(*given, *pool)) == 24


def test_an_absent_server_is_told_before_anything_is_loaded(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(backends, "shared_engine", load)
    monkeypatch.setattr(backends, "shared_tokenizer", load)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for given, said in (
        ("engine.url=http://127.0.0.1:9", "cannot be reached"),
        (f"engine.python={tmp_path / 'env'}", r"no Python at .*vllm-env/bin/pip install vllm"),
        (f"engine.python={sys.executable}", r"has no vLLM; make .*vllm-env/bin/pip install vllm"),
    ):
        model = f"model.name={tiny_model('llama')}"
        config = compose("smoke", [model, f"output={tmp_path}", "engine=vllm", given])
        with pytest.raises(ComityError, match=said):
            train(config)
    assert not list(tmp_path.iterdir())
