"""Finding, converting and loading models: exact weights, quick, and clear when it cannot be."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from comity.engines.local import devices, models
from comity.errors import ComityError, WorkError

TinyModel = Callable[[str], Path]


@pytest.fixture
def copy(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A tiny model's folder that a test may damage."""
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "model"))


def test_listing_models_does_not_import_torch() -> None:
    code = (
        "import sys; from comity.engines.local.models import MODELS; "
        "print(bool(MODELS), 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"COMITY_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a/comity/models"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/comity/models"),
        ({}, "/home/me/.cache/comity/models"),
    ],
)
def test_where_the_cache_is(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COMITY_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert models.cache_folder() == Path(folder)


def test_the_default_model_is_the_published_one(smollm2: Path) -> None:
    """Weights of the cache equal the GGUF's own reading; generation makes sense."""
    import importlib.util

    from gguf import GGUFReader, dequantize

    entry = models.MODELS["smollm2-135m"]
    origin = importlib.util.find_spec(entry.package).origin  # type: ignore[union-attr, arg-type]
    reader = GGUFReader(Path(origin).parent / entry.file)  # type: ignore[arg-type]
    tensor = next(t for t in reader.tensors if t.name == "blk.0.ffn_up.weight")
    model = models.load_model("smollm2-135m", "float32", "cpu")
    ours = model.get_parameter("model.layers.0.mlp.up_proj.weight")
    assert ours.dtype == torch.float32
    assert not ours.requires_grad and not model.training
    published = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
    assert torch.equal(ours, published)

    tokenizer = models.load_tokenizer("smollm2-135m")
    message = [{"role": "user", "content": "What is the capital of France?"}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    written = model.generate(ids, max_new_tokens=12, do_sample=False)  # type: ignore[operator]
    assert "Paris" in tokenizer.decode(written[0, ids.shape[1] :])


def test_the_converted_model_loads_quickly(smollm2: Path) -> None:
    models.load_model(str(smollm2), "float32", "cpu")  # imports and a cold disk are not counted
    start = time.perf_counter()
    models.load_model("smollm2-135m", "float32", "cpu")
    assert time.perf_counter() - start < 2


def test_the_cache_says_nothing_of_the_machine_that_made_it(smollm2: Path) -> None:
    for file in ("config.json", "tokenizer_config.json"):
        text = (smollm2 / file).read_text()
        assert sys.prefix not in text and str(Path.home()) not in text


def _fake_entry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> models.PackagedModel:
    """A registered model whose package is a folder of ours; conversion is replaced."""
    (folder / "fake_weights").mkdir(parents=True)
    (folder / "fake_weights" / "__init__.py").touch()
    gguf = folder / "fake_weights" / "weights.gguf"
    gguf.write_bytes(b"numbers")
    entry = replace(
        models.MODELS["smollm2-135m"],
        package="fake_weights",
        file=gguf.name,
        sha256=hashlib.sha256(b"numbers").hexdigest(),
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(models.MODELS, "fake", entry)
    monkeypatch.setenv("COMITY_CACHE", str(folder / "cache"))
    return entry


def test_another_file_than_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_entry(tmp_path, monkeypatch)
    (tmp_path / "fake_weights" / "weights.gguf").write_bytes(b"other")
    with pytest.raises(ComityError, match="not the published file"):
        models.fetch("fake")


def test_a_conversion_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_entry(tmp_path, monkeypatch)

    def full(file: Path, entry: models.PackagedModel, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "_convert", full)
    with pytest.raises(WorkError, match=r"No space left.*COMITY_CACHE"):
        models.fetch("fake")
    kept = [path for path in models.cache_folder().iterdir() if path.is_dir()]
    assert kept == []


def test_two_processes_at_once_convert_once(tmp_path: Path) -> None:
    script = tmp_path / "convert.py"
    script.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from comity.engines.local import models\n"
        "models._installed_file = lambda entry, cache: Path('unused')\n"
        "def convert(file, entry, folder):\n"
        "    folder.mkdir()\n"
        "    time.sleep(0.5)\n"
        "    print('converted', flush=True)\n"
        "models._convert = convert\n"
        "print(models.fetch('smollm2-135m'))\n"
    )
    environment = {**os.environ, "COMITY_CACHE": str(tmp_path), "PYTHONPATH": os.getcwd()}
    running = [
        subprocess.Popen(
            [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=60)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert printed[0][-1] == printed[1][-1]
    assert sum(lines.count("converted") for lines in printed) == 1


def test_a_package_that_cannot_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = replace(models.MODELS["smollm2-135m"], package="no_such_package")
    monkeypatch.setitem(models.MODELS, "fake", entry)
    monkeypatch.setenv("COMITY_CACHE", str(tmp_path))
    refused = subprocess.CompletedProcess([], 1, "", "noise\nERROR: no network")
    monkeypatch.setattr(models.subprocess, "run", lambda *_, **__: refused)
    with pytest.raises(ComityError, match=r"\(ERROR: no network\); with a network, run: .*pip"):
        models.fetch("fake")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no weights"),
        ("tokenizer", "no tokenizer"),
    ],
)
def test_a_folder_with_something_missing(copy: Path, missing: str, message: str) -> None:
    for file in copy.glob(f"{missing}*"):
        file.unlink()
    with pytest.raises(ComityError, match=message) as error:
        models.load_model(str(copy))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["num_hidden_layers", "num_local_experts"])
def test_a_model_without_end_is_not_built(copy: Path, key: str) -> None:
    config = json.loads((copy / "config.json").read_text())
    for changed in ({**config, key: 10**9}, {**config, "text_config": {key: 1e9}}):
        (copy / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ComityError, match=f"has {key}=1.*and 10000 is the most"):
            models.fetch(str(copy))


@pytest.mark.parametrize("damage", [b"", b"not safetensors at all", b"\xff" * 64])
def test_a_folder_with_unreadable_weights(copy: Path, damage: bytes) -> None:
    (copy / "model.safetensors").write_bytes(damage)
    with pytest.raises(ComityError, match="cannot load the model in") as error:
        models.load_model(str(copy))
    assert "\n" not in str(error.value)


def test_a_folder_with_an_unreadable_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(ComityError, match="cannot read the tokenizer in"):
        models.load_tokenizer(str(copy))


def test_a_byte_level_tokenizer_that_names_a_class_of_another_kind(copy: Path) -> None:
    """As DeepSeek's do; transformers before 5.22 loses their line breaks."""
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "LlamaTokenizerFast"
    (copy / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = models.load_tokenizer(str(copy))
    text = " two words\n\nand   spaces"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert tokenizer.chat_template


def test_a_folder_with_weights_of_another_shape(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    with pytest.raises(ComityError, match="cannot load the model in") as error:
        models.load_model(str(copy))
    assert "\n" not in str(error.value)


def test_a_folder_with_weights_left_out(copy: Path) -> None:
    """Layers that the file does not hold would be random: refused."""
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ComityError, match=r"lacks 1 weights \(model\.layers\.1\.mlp\.up_proj"):
        models.load_model(str(copy))


def test_an_adapter_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ComityError, match="put it on a seat as adapter:"):
        models.fetch(str(tmp_path))


def test_an_adapter_beside_a_model(copy: Path) -> None:
    """transformers would load the base that the adapter names, and nothing of this folder."""
    (copy / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/other"}')
    with pytest.raises(ComityError, match="has an adapter in its folder"):
        models.load_model(str(copy))


@pytest.mark.parametrize("where", ["unknown type", "known type", "tokenizer", "generation"])
def test_code_in_a_models_folder_never_runs(
    where: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is asked says yes: the question itself must not be put."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    ran = copy / "ran"
    code = f"open({str(ran)!r}, 'w')\nfrom transformers import *\n"
    classes = "class C(LlamaConfig):\n    model_type = 'mine'\n"
    classes += "class M(LlamaForCausalLM):\n    config_class = C\n"
    classes += "class T(PreTrainedTokenizerFast):\n    pass\n"
    (copy / "mine.py").write_text(code + classes)
    config = json.loads((copy / "config.json").read_text())
    own = {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}
    if where in ("unknown type", "known type"):
        kind = {"model_type": "mine"} if where == "unknown type" else {}
        (copy / "config.json").write_text(json.dumps({**config, "auto_map": own, **kind}))
    if where == "tokenizer":
        told = json.loads((copy / "tokenizer_config.json").read_text())
        told.update(auto_map={"AutoTokenizer": [None, "mine.T"]}, tokenizer_class="T")
        (copy / "tokenizer_config.json").write_text(json.dumps(told))
    if where == "generation":
        (copy / "custom_generate").mkdir()
        (copy / "custom_generate" / "generate.py").write_text(code + "def generate(): pass\n")
    try:
        models.load_tokenizer(str(copy))
        models.load_model(str(copy))
        assert where != "unknown type"
    except ComityError as error:
        assert where in ("unknown type", "tokenizer")
        assert "\n" not in str(error) and "trust_remote_code" not in str(error)
    assert not ran.exists()


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/nowhere", "a/b/c"])
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(ComityError, match=r"is not a folder; .*known: smollm2-135m"):
        models.fetch(name)


def _hub(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    _hub(LocalEntryNotFoundError("Connection refused.\nMore.\n"), monkeypatch)
    with pytest.raises(ComityError) as error:
        models.fetch("smolm2-135m")
    assert str(error.value) == (
        "cannot download model 'smolm2-135m' from Hugging Face (Connection refused); "
        "check the network or the name; did you mean smollm2-135m? known: smollm2-135m"
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", "accept its terms on huggingface.co/some/model"),
        ("RepositoryNotFoundError", "neither a folder nor on Hugging Face"),
        ("HFValidationError", "neither a folder nor on Hugging Face"),
    ],
)
def test_hugging_face_says_no(kind: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import errors

    error_class = getattr(errors, kind)
    _hub(error_class.__new__(error_class), monkeypatch)
    with pytest.raises(ComityError, match=message):
        models.fetch("some/model")


def test_dtypes_and_devices() -> None:
    cpu = devices.choose_device("cpu")
    assert devices.choose_dtype("bfloat16", cpu) == torch.bfloat16
    native = devices.has_native_bfloat16(cpu)
    assert devices.choose_dtype("auto", cpu) == (torch.bfloat16 if native else torch.float32)
    with pytest.raises(ComityError, match="unknown dtype 'float23'; did you mean float32"):
        devices.choose_dtype("float23", cpu)
    with pytest.raises(ComityError, match="unknown device 'tpu'"):
        devices.choose_device("tpu")
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ComityError, match=f"no device '{absent}' here"):
        devices.choose_device(absent)


def test_native_bfloat16_agrees_with_the_processor() -> None:
    flags = Path("/proc/cpuinfo")
    if not flags.exists() or " sse2 " not in flags.read_text():
        pytest.skip("only x86 Linux lists its instruction sets there")
    listed = set(flags.read_text().split())
    expected = bool(listed & {"avx512_bf16", "amx_tile"})
    assert devices.has_native_bfloat16(torch.device("cpu")) == expected


def test_loading_is_silent(tiny_model: TinyModel, capfd: pytest.CaptureFixture[str]) -> None:
    folder = str(tiny_model("llama"))
    capfd.readouterr()  # Whoever comes first makes the model, and saving it is not silent.
    models.load_model(folder)
    models.load_tokenizer(folder)
    assert capfd.readouterr() == ("", "")


def test_four_bits_need_a_gpu(tiny_model: TinyModel) -> None:
    """Refused before anything is read; CUDA itself is not tested here."""
    with pytest.raises(ComityError, match=r"quantization=nf4 needs a GPU with CUDA.*=null"):
        models.load_model("no/such-model", device="cpu", quantization="nf4")
    with pytest.raises(ComityError, match="unknown quantization 'nf5'; did you mean nf4"):
        models.load_model("no/such-model", device="cpu", quantization="nf5")


def test_four_bits_need_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ComityError, match=r"needs bitsandbytes; run: .*comity\[quantized\]"):
        devices.check_quantization("nf4", torch.device("cuda"))
