"""What identifies a base model, and that no adapter is used on another one."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from comity.engines.local.engine import Engine
from comity.engines.local.identity import BASE_FILE, BaseModel, weights_fingerprint
from comity.engines.local.models import load_model
from comity.errors import ComityError
from tests.tiny import make_tiny


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models of one shape with other weights."""
    root = tmp_path_factory.mktemp("bases")
    return {name: make_tiny("llama", root / name, seed) for seed, name in enumerate(("one", "two"))}


def machine(folder: Path) -> Engine:
    return Engine(load_model(str(folder), "float32", "cpu"))


def foreign(base: Path, folder: Path, **told: str | None) -> Path:
    """An adapter as PEFT saves it, with changes to its config."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **told}))
    return folder


def test_a_fingerprint_is_of_the_weights_alone(bases: dict[str, Path], tmp_path: Path) -> None:
    one = weights_fingerprint(bases["one"])
    assert one.startswith("sha256:") and one != weights_fingerprint(bases["two"])

    copy = shutil.copytree(bases["one"], tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "transformers_version": "9"}))
    assert weights_fingerprint(copy) == one

    shards = tmp_path / "shards"
    AutoModelForCausalLM.from_pretrained(bases["one"]).save_pretrained(
        shards, max_shard_size="20KB"
    )
    assert len(list(shards.glob("*.safetensors"))) > 1
    assert weights_fingerprint(shards) == one

    weights = load_file(copy / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] += 1e-3
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert weights_fingerprint(copy) != one, "one number of one matrix, in a file read before"


def test_no_weights_or_broken_ones_have_no_fingerprint(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ComityError, match="no weights"):
        weights_fingerprint(tmp_path)
    copy = shutil.copytree(bases["one"], tmp_path / "copy")
    whole = (copy / "model.safetensors").read_bytes()
    for broken in (b"", whole[:100], whole[:-1], b"\xff" * 100):
        (copy / "model.safetensors").write_bytes(broken)
        with pytest.raises(ComityError, match="cannot read the weights in"):
            weights_fingerprint(copy)


def test_a_models_name_says_nothing_of_the_machine(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert BaseModel.of(bases["one"]).name == "one"
    commit = "0123456789abcdef" * 2 + "01234567"
    hub = shutil.copytree(bases["one"], tmp_path / "models--owner--small" / "snapshots" / commit)
    found = BaseModel.of(hub)
    assert (found.name, found.revision) == ("owner/small", commit)
    monkeypatch.setenv("COMITY_CACHE", str(tmp_path))
    folder = tmp_path / "comity" / "models" / "smollm2-135m-b179c9523d0e6a0f"
    assert BaseModel.of(shutil.copytree(bases["one"], folder)).name == "smollm2-135m"


def test_our_adapters_name_their_base_wherever_it_lies(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    engine = machine(bases["one"])
    engine.adapters.add("a", rank=2)
    engine.adapters.save("a", tmp_path / "a")
    told = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == "one"
    assert str(tmp_path) not in (tmp_path / "a" / BASE_FILE).read_text()

    moved = shutil.copytree(bases["one"], tmp_path / "elsewhere" / "renamed")
    machine(moved).adapters.load("b", tmp_path / "a")
    # The same name, the same shape, other weights.
    other = shutil.copytree(bases["two"], tmp_path / "other" / "one")
    with pytest.raises(ComityError, match="of the base model 'one' with weights sha256:"):
        machine(other).adapters.load("b", tmp_path / "a")


def test_adapters_of_other_programs_are_held_to_the_name_and_the_weights(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    one = machine(bases["one"])
    one.adapters.load("same", foreign(bases["one"], tmp_path / "same"))
    gone = "/another/machine/one"
    one.adapters.load(
        "gone", foreign(bases["one"], tmp_path / "gone", base_model_name_or_path=gone)
    )
    with pytest.raises(ComityError, match="of the base model 'two' with weights"):
        one.adapters.load("x", foreign(bases["two"], tmp_path / "two"))
    with pytest.raises(ComityError, match="of the base model 'small', not of 'one'"):
        one.adapters.load(
            "x", foreign(bases["two"], tmp_path / "hub", base_model_name_or_path="owner/small")
        )
    with pytest.warns(RuntimeWarning, match="does not say which base model"):
        one.adapters.load(
            "null", foreign(bases["one"], tmp_path / "n", base_model_name_or_path=None)
        )


def test_another_revision_of_the_same_repository_is_refused(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    commits = ["a" * 40, "b" * 40]
    snapshots = tmp_path / "models--owner--small" / "snapshots"
    engine = machine(shutil.copytree(bases["one"], snapshots / commits[0]))
    named = {"base_model_name_or_path": "owner/small"}
    engine.adapters.load(
        "same", foreign(bases["one"], tmp_path / "same", **named, revision=commits[0])
    )
    engine.adapters.load(
        "branch", foreign(bases["one"], tmp_path / "branch", **named, revision="main")
    )
    with pytest.raises(ComityError, match="of revision bbbbbbbbbbbb of 'small'"):
        engine.adapters.load(
            "other", foreign(bases["one"], tmp_path / "other", **named, revision=commits[1])
        )


@pytest.mark.parametrize("text", ["", "[]", '{"name": "one"}', "{" * 3])
def test_an_unreadable_note_of_the_base_is_refused(
    text: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    folder = foreign(bases["one"], tmp_path)
    (folder / BASE_FILE).write_text(text)
    with pytest.raises(ComityError, match="it does not name a base model"):
        machine(bases["one"]).adapters.load("x", folder)
