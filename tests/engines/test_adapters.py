"""Adapters of other programs: PEFT's own numbers or a refusal; names; what may get an adapter."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from comity.engines.local.adapters import lora
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model
from comity.engines.local.session import ScoreRequest
from comity.errors import ComityError, WorkError
from tests.tiny import assert_agree, make_tiny

ANSWERS = ((40,), (41,), (77,))
IDS = [[int(t) for t in np.random.default_rng(seed).integers(3, 300, 20)] for seed in (1, 2)]
Q_V = ["q_proj", "v_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny("qwen3", tmp_path_factory.mktemp("base") / "qwen3")


def plain(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def saved(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter as PEFT saves it, its weights moved away from where they began."""
    config = LoraConfig(
        **{
            "r": 4,
            "lora_alpha": 8,
            "target_modules": Q_V,
            "task_type": "CAUSAL_LM",
            **settings,
        }
    )
    torch.manual_seed(0)
    model = get_peft_model(plain(base), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


def expected(model: Any) -> np.ndarray:
    """log-probabilities of `ANSWERS` after each of `IDS`, by the model's own forward."""
    tokens = [token for (token,) in ANSWERS]
    with torch.no_grad():
        logits = torch.stack([model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in IDS])
    return torch.log_softmax(logits.float()[:, tokens], dim=-1).numpy()


def scores(engine: Engine, adapter: str | None) -> np.ndarray:
    session = engine.session()
    talks = [session.conversation(adapter) for _ in IDS]
    for talk, ids in zip(talks, IDS, strict=True):
        talk.append(ids)
    return np.array(session.score([ScoreRequest(talk, ANSWERS) for talk in talks]))


def machine(base: Path) -> Engine:
    return Engine(load_model(str(base), "float32", "cpu"))


COMPUTED: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilized": {"use_rslora": True},
    "dropout, another alpha": {"lora_dropout": 0.5, "lora_alpha": 3},
    "ranks of their own": {
        "rank_pattern": {"q_proj": 2, "model.layers.1.self_attn.v_proj": 6},
        "alpha_pattern": {"v_proj": 3, "^model.layers.0.self_attn.q_proj": 5},
    },
    "some layers": {"layers_to_transform": [1]},
    "some layers of a list": {"layers_to_transform": 1, "layers_pattern": "layers"},
    "without some": {"exclude_modules": ["layers.0.self_attn.q_proj"]},
    "an expression": {"target_modules": r".*layers\.\d\.(self_attn\.[kq]|mlp\.up)_proj"},
    "all linear": {"target_modules": "all-linear"},
    "drawn otherwise": {"init_lora_weights": "gaussian"},
    "not begun at zero": {"init_lora_weights": False},
    "orthogonal": {"init_lora_weights": "orthogonal"},
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_what_is_accepted_is_computed_as_peft_does(kind: str, base: Path, tmp_path: Path) -> None:
    """Beside a learner's own adapter, which stays as it was; so does the base. Saved again, as for
    a vLLM server, it is the same adapter.
    """
    folder = saved(base, tmp_path, **COMPUTED[kind])
    wanted = expected(PeftModel.from_pretrained(plain(base), str(folder)).eval())
    unchanged = expected(plain(base))
    assert np.abs(wanted - unchanged).max() > 0.01, "the adapter matters"
    engine = machine(base)
    engine.adapters.add("main")
    engine.adapters.load("x", folder)
    assert_agree(scores(engine, "x"), wanted, torch.float32)
    assert_agree(scores(engine, "main"), unchanged, torch.float32)
    assert_agree(scores(engine, None), unchanged, torch.float32)
    engine.adapters.save("x", tmp_path / "again")
    again = PeftModel.from_pretrained(plain(base), str(tmp_path / "again")).eval()
    assert_agree(expected(again), wanted, torch.float32)
    config: Any = again.peft_config["default"]
    scales = {layer.scaling["default"] for layer in again.modules() if isinstance(layer, LoraLayer)}
    assert scales == {config.lora_alpha / config.r}, "vLLM reads this for every module"
    engine.adapters.remove("x")
    assert_agree(scores(engine, None), unchanged, torch.float32)


REFUSED: dict[str, dict[str, Any]] = {
    "use_dora=true": {"use_dora": True},
    'modules_to_save=["lm_head"]': {"modules_to_save": ["lm_head"]},
    'modules_to_save=["input_layernorm"]': {"modules_to_save": ["input_layernorm"]},
    'init_lora_weights="pissa"': {"init_lora_weights": "pissa"},
    'init_lora_weights="olora"': {"init_lora_weights": "olora"},
    "trainable_token_indices=": {"trainable_token_indices": [5, 6]},
    'bias="all"': {"bias": "all"},
    'bias="lora_only"': {"bias": "lora_only"},
    "lora_bias=true": {"lora_bias": True},
    "alora_invocation_tokens=": {"alora_invocation_tokens": [7, 8]},
    "target_parameters=": {"target_parameters": ["mlp.up_proj.weight"]},
    "layer_replication=": {"layer_replication": [[0, 2], [1, 2]]},
    'task_type="SEQ_CLS"': {"task_type": "SEQ_CLS"},
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_is_not_computed_is_refused_by_its_name(
    setting: str, base: Path, tmp_path: Path
) -> None:
    folder = saved(base, tmp_path)
    if setting.startswith(("use_dora", "init", "modules", "bias", "lora_bias", "train")):
        folder = saved(base, tmp_path / "real", **REFUSED[setting])  # as PEFT writes it
    else:
        change(folder, **REFUSED[setting])
    check_refused(base, folder, f"has {setting}")


@pytest.mark.parametrize(
    "told",
    [
        {"a_setting_of_the_future": 3},
        {"peft_type": "LOHA"},
        {"use_rslora_": True},
        {"r": "4"},
        {"r": -4},
        {"lora_alpha": float("nan")},
        {"lora_alpha": 10**400},
        {"rank_pattern": {"q_proj": 2.5}},
        {"alpha_pattern": {"(q|v)_proj": 3}},
        {"r": 8},
        {"target_modules": [*Q_V, "k_proj"]},
        {"target_modules": ["q_proj"]},
        {"target_modules": None},
        {"target_modules": "("},
        {"layers_to_transform": [0]},
        {"target_modules": r"(([a-z]|\w|\.)+)+[A-Z]"},
        {"exclude_modules": r"(([a-z]|\w|\.)+)+[A-Z]"},
    ],
    ids=str,
)
def test_a_config_that_says_anything_else_is_refused(
    told: dict[str, Any], base: Path, tmp_path: Path
) -> None:
    folder = saved(base, tmp_path)
    change(folder, **told)
    check_refused(base, folder, "the adapter in")


@pytest.mark.parametrize(
    "tensor",
    [
        "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight",
        "base_model.model.model.embed_tokens.weight",
        "base_model.model.lm_head.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight",
        "base_model.model.lm_head.lora_A.weight",
    ],
)
def test_a_tensor_that_is_not_computed_is_refused_by_its_name(
    tensor: str, base: Path, tmp_path: Path
) -> None:
    folder = saved(base, tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors[tensor] = torch.ones(4, 32)
    if tensor.endswith("lora_A.weight"):
        tensors[tensor.replace("lora_A", "lora_B")] = torch.ones(32, 4)
    save_file(tensors, folder / "adapter_model.safetensors")
    check_refused(base, folder, tensor.split(".")[-3] if "lora_A" in tensor else tensor)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_matrices_of_other_than_real_numbers_are_refused(
    dtype: torch.dtype, base: Path, tmp_path: Path
) -> None:
    folder = saved(base, tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name: one.to(dtype) for name, one in tensors.items()}, folder / "adapter_model.safetensors"
    )
    check_refused(base, folder, "no low-rank matrix")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_matrices_of_any_precision_are_computed(
    dtype: torch.dtype, base: Path, tmp_path: Path
) -> None:
    folder = saved(base, tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name: one.to(dtype) for name, one in tensors.items()}, folder / "adapter_model.safetensors"
    )
    wanted = expected(PeftModel.from_pretrained(plain(base), str(folder)).eval())
    engine = machine(base)
    engine.adapters.load("x", folder)
    assert_agree(scores(engine, "x"), wanted, torch.float32)


@pytest.mark.parametrize("kind", ["IA3", "LOHA", "ADALORA", "PROMPT_TUNING"])
def test_another_type_is_refused_by_its_name(kind: str, base: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "IA3": {"target_modules": Q_V, "feedforward_modules": []},
        "LOHA": {"target_modules": Q_V},
        "ADALORA": {"target_modules": Q_V, "total_step": 10},
        "PROMPT_TUNING": {"num_virtual_tokens": 3},
    }
    given = peft.get_peft_config({"peft_type": kind, "task_type": "CAUSAL_LM", **settings[kind]})
    get_peft_model(plain(base), given).save_pretrained(tmp_path)
    check_refused(base, tmp_path, f'has peft_type="{kind}"')


def test_values_that_are_not_finite_are_refused(base: Path, tmp_path: Path) -> None:
    folder = saved(base, tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    next(iter(tensors.values()))[1, 1] = float("inf")
    save_file(tensors, folder / "adapter_model.safetensors")
    check_refused(base, folder, "not finite")


def change(folder: Path, **told: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **told}))


def check_refused(base: Path, folder: Path, message: str) -> None:
    """Alone and beside a learner; the base is as it was, and no adapter is left behind."""
    unchanged = expected(plain(base))
    for beside in (False, True):
        engine = machine(base)
        if beside:
            engine.adapters.add("main")
        before = engine.adapters.names
        with pytest.raises(ComityError) as error:
            engine.adapters.load("x", folder)
        assert message in str(error.value) and "\n" not in str(error.value)
        assert engine.adapters.names == before
        assert_agree(scores(engine, None), unchanged, torch.float32)


@pytest.mark.parametrize("moment", ["add", "load"])
def test_a_base_whose_weights_changed_is_an_error(
    moment: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One number of one matrix, changed behind the back of autograd's counter."""
    folder = saved(base, tmp_path)
    engine = machine(base)
    put_in = peft.PeftModel.__init__

    def careless(self: Any, model: Any, *args: Any, **kwargs: Any) -> None:
        model.lm_head.weight.data[3, 5] += 1e-3
        put_in(self, model, *args, **kwargs)

    monkeypatch.setattr(lora.PeftModel, "__init__", careless)
    with pytest.raises(WorkError, match=r"changed the base's weights \(lm_head\.weight\)"):
        if moment == "add":
            engine.adapters.add("main")
        else:
            engine.adapters.load("x", folder)


NAMES = (
    "0",
    "1",
    "mlp",
    "self_attn",
    "q_proj",
    "lora_A",
    "weight",
    "model",
    "train",
    "keys",
    "a.b",
)


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_may_be_called_anything(name: str, base: Path, tmp_path: Path) -> None:
    """Names of layers, of PEFT's modules, of methods: all its weights are saved and come back."""
    engine = machine(base)
    engine.adapters.add("other", seed=1)
    engine.adapters.add(name, seed=2)
    generator = torch.Generator().manual_seed(3)
    for parameter in engine.adapters.parameters(name).values():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    found = scores(engine, name)
    engine.adapters.save(name, tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert len(tensors) == len(engine.adapters.parameters("other")) == 28
    model = PeftModel.from_pretrained(plain(base), str(tmp_path)).eval()
    assert_agree(found, expected(model), torch.float32)
    engine.adapters.remove(name)
    assert engine.adapters.names == ["other"]
    assert_agree(scores(engine, "other"), expected(plain(base)), torch.float32)
    engine.adapters.load(name, tmp_path)
    assert_agree(scores(engine, name), found, torch.float32)


def test_no_adapter_of_that_name() -> None:
    with (
        pytest.raises(ComityError, match="no adapter named 'nobody'"),
        lora.RowRouting().active((("nobody", 0, 3),)),
    ):
        pass


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["q_proj", "v_porj"], r"no module 'v_porj' .*did you mean v_proj"),
        (["lm_head"], "lm_head cannot get an adapter"),
        (["q_proj", "lm_head"], "lm_head cannot get an adapter"),
        (["embed_tokens"], "embed_tokens cannot get an adapter"),
        (["norm"], "norm cannot get an adapter"),
        (["mlp"], "mlp cannot get an adapter"),
        (["q_proj", 3], "3"),
        ("v_porj", "did you mean v_proj"),
        (r".*\.nothing", "no module"),
        ("(", "cannot match"),
        ([], "give all-linear"),
        (None, "give all-linear"),
        ({"q_proj": 1}, "give all-linear"),
    ],
    ids=str,
)
def test_targets_that_are_not_all_computed_are_refused(
    targets: Any, message: str, base: Path
) -> None:
    engine = machine(base)
    with pytest.raises(ComityError, match=message) as error:
        engine.adapters.add("main", targets=targets)
    assert "\n" not in str(error.value) and engine.adapters.names == []


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        ("all-linear", 14),
        (["q_proj"], 2),
        ("q_proj", 2),
        (["layers.0.mlp.up_proj", "v_proj"], 3),
        (r".*layers\.1\.self_attn\.[kq]_proj", 2),
    ],
    ids=str,
)
def test_targets_are_all_that_is_trained(
    targets: Any, count: int, base: Path, tmp_path: Path
) -> None:
    engine = machine(base)
    engine.adapters.add("main", targets=targets)
    assert len(engine.adapters.parameters("main")) == 2 * count
    engine.adapters.save("main", tmp_path)
    told = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert told == sorted(told), "in one order in every process"
    engine.adapters.load("again", tmp_path)
    assert len(engine.adapters.parameters("again")) == 2 * count
