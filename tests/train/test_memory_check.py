"""A model that cannot fit is refused before anything of it is loaded."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import Qwen2Config

from comity.cli import main
from comity.config.player_names import parse_player
from comity.config.schema import ModelConfig
from comity.engines.local import devices
from comity.errors import ComityError
from comity.experiments import backends, memory_check
from comity.experiments.agent_plans import plan_agent
from comity.experiments.agents import check_servers
from comity.experiments.build import Experiment
from comity.experiments.memory import predict_memory
from comity.experiments.memory_check import check_weights
from tests.tiny import make_tokenizer
from tests.train.small import overrides, small
from tests.train.test_rank_rules import Place, torchrun

HUGE = {"hidden_size": 2**16, "intermediate_size": 2**18, "num_hidden_layers": 2}
"""250 billion weights in two blocks."""


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of which there is not one weight."""
    folder: Path = tmp_path_factory.mktemp("huge")
    tokenizer = make_tokenizer()
    heads = {"num_attention_heads": 512, "num_key_value_heads": 64}
    Qwen2Config(vocab_size=len(tokenizer), **HUGE, **heads).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file({"nothing": torch.zeros(1)}, folder / "model.safetensors")
    return folder


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    if "huge" in request.fixturenames:
        monkeypatch.setattr(backends, "load_model", load)


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        ("bfloat16", " of weights in bfloat16, "),
        ("float32", "or set model.dtype=bfloat16; comity doctor"),
    ],
)
def test_training_is_refused_with_the_predicted_numbers(
    huge: Path, dtype: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    given = [*overrides(output), f"model.name={huge}", f"model.dtype={dtype}"]
    assert main(["train", "ipd", *given]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "comity: " in line]
    assert len(lines) == 1 and said in lines[0]
    assert " needs at least " in lines[0] and " of adapters, gradients and Adam's mom" in lines[0]
    assert not output.exists()


def test_so_are_other_commands(huge: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"model.name={huge}", "model.device=cpu", "model.dtype=float32"]
    assert main(["play", "prisoners_dilemma", "--seats", "human,base", *given]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"the weights of {huge} take " in last and " of main memory are available; " in last


def test_commands_that_make_a_folder_look_before_they_do(huge: Path, tmp_path: Path) -> None:
    """Tournaments and exploit runs; and a missing vLLM is found there too."""
    plan = plan_agent(parse_player(f"model:{huge}"), small(tmp_path))
    with pytest.raises(ComityError, match=f"the weights of {huge} take "):
        check_servers([plan])
    config = small(tmp_path, "engine=vllm", "engine.python=nowhere")
    with pytest.raises(ComityError, match="there is no Python at nowhere"):
        check_servers([plan_agent(parse_player("base"), config)])


def test_ranks_of_a_machine_share_its_memory(huge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelConfig(name=str(huge), dtype="bfloat16", device="cpu")
    monkeypatch.setattr(memory_check, "memory_bytes", lambda: (4 * 10**11, 4 * 10**11))
    check_weights(model)
    torchrun(monkeypatch, rank=0, size=2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ComityError, match=r"in bfloat16 on each of 2 ranks, and 400.0 GB of main"):
        check_weights(model, Place(0, 2))
    model.sharding = "fsdp2"
    check_weights(model, Place(0, 2))
    monkeypatch.setattr(memory_check, "memory_bytes", lambda: (3 * 10**11, 3 * 10**11))
    with pytest.raises(ComityError, match="every rank reads all of them before it keeps its part"):
        check_weights(model, Place(0, 2))


def test_a_gpu_needs_room_for_the_weights(huge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = ModelConfig(name=str(huge), dtype="bfloat16")
    monkeypatch.setattr(memory_check, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(memory_check, "memory_bytes", lambda: (10**12, 10**12))
    monkeypatch.setattr(memory_check, "free_bytes", lambda _: 8e10)
    with pytest.raises(ComityError, match=r"80.0 GB of cuda are free; .*nf4, or divide it among"):
        check_weights(model)
    monkeypatch.setattr(memory_check, "free_bytes", lambda _: 2e11)
    with pytest.raises(ComityError, match=r"200.0 GB of cuda are free"):
        check_weights(model)
    model.quantization = "nf4"
    check_weights(model)


def test_a_run_that_may_not_fit_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conversations may be shorter, and alike: the prediction is an upper bound."""
    asked = small(tmp_path)
    Experiment(asked).close()
    told = predict_memory(asked, 0.0)
    beside = told.peak - told.weights
    for available, warned in ((1.1 * beside, False), (0.9 * beside, True)):
        both = int(available / 0.95), int(available / 0.95)
        monkeypatch.setattr(devices, "memory_bytes", lambda both=both: both)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            Experiment(asked).close()
        assert any("the run may need up to" in str(one.message) for one in seen) == warned
