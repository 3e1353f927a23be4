"""Families of language models: those that the engine computes right, and those that it refuses.

One tiny random model of each goes through the check that every loaded model goes through. The
table in docs/how-to/models.md is what this file finds.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from comity.engines.local import attention, check_conditions
from comity.engines.local import model_check as check
from comity.engines.local.adapters import lora_layers
from comity.engines.local.engine import Engine
from comity.errors import ComityError

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "models.md"
SHAPE: dict[str, Any] = {
    "vocab_size": 200,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": 1,
}
HEADS = {"head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, **HEADS}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 6,
    "head_dim": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
OWN = dict.fromkeys(
    (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
    )
)
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    **HEADS,
}
WINDOWED = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64, **HEADS}

RIGHT = "computed"
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    # By type: computed or why not, and what its tiny config has beside `SHAPE` (None: not that).
    "afmoe": (RIGHT, EXPERTS),
    "apertus": (RIGHT, {}),
    "arcee": (RIGHT, HEADS),
    "biogpt": (RIGHT, {}),
    "bitnet": (RIGHT, {}),
    "cohere": (RIGHT, {"logit_scale": 0.0625}),
    "cohere2": (RIGHT, {"logit_scale": 0.25, **WINDOWED}),
    "cwm": (RIGHT, HEADS),
    "deepseek_v3": (RIGHT, LATENT),
    "ernie4_5": (RIGHT, HEADS),
    "exaone4": (RIGHT, WINDOWED),
    "gemma": (RIGHT, HEADS),
    "gemma2": (RIGHT, {**WINDOWED, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3_text": (RIGHT, {**WINDOWED, "final_logit_softcapping": 3.0}),
    "glm": (RIGHT, HEADS),
    "glm4": (RIGHT, HEADS),
    "glm4_moe": (RIGHT, {**LATENT, "head_dim": 8}),
    "gpt2": (RIGHT, {**OWN, **GPT}),
    "gpt_bigcode": (RIGHT, {**OWN, **GPT}),
    "gpt_neox": (RIGHT, {}),
    "gpt_oss": (RIGHT, {**WINDOWED, **LOCAL}),
    "granite": (RIGHT, {"logits_scaling": 8.0, "embedding_multiplier": 3.0}),
    "granitemoe": (RIGHT, {"logits_scaling": 4.0, **LOCAL}),
    "granitemoeshared": (
        RIGHT,
        {"logits_scaling": 4.0, "shared_intermediate_size": 24, **LOCAL},
    ),
    "helium": (RIGHT, HEADS),
    "hunyuan_v1_dense": (RIGHT, HEADS),
    "hyperclovax": (RIGHT, {"logits_scaling": 0.5, **HEADS}),
    "llama": (RIGHT, {}),
    "mistral": (RIGHT, {"sliding_window": 64, **HEADS}),
    "ministral": (RIGHT, WINDOWED),
    "mixtral": (RIGHT, {"sliding_window": 64, **LOCAL, **HEADS}),
    "nanochat": (RIGHT, HEADS),
    "olmo": (RIGHT, {}),
    "olmo2": (RIGHT, {}),
    "olmo3": (RIGHT, WINDOWED),
    "olmoe": (RIGHT, {"num_experts": 4, "num_experts_per_tok": 2}),
    "opt": (RIGHT, {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "persimmon": (RIGHT, {}),
    "phi": (RIGHT, {}),
    "phi3": (RIGHT, {"sliding_window": 64}),
    "phimoe": (RIGHT, {**LOCAL, "sliding_window": 512}),
    "qwen2": (RIGHT, {}),
    "qwen2_moe": (RIGHT, {**EXPERTS, "shared_expert_intermediate_size": 24}),
    "qwen3": (RIGHT, HEADS),
    "qwen3_moe": (RIGHT, EXPERTS),
    "seed_oss": (RIGHT, HEADS),
    "smollm3": (RIGHT, {}),
    "starcoder2": (RIGHT, {"sliding_window": 64}),
    "vaultgemma": (RIGHT, WINDOWED),
    "bloom": ("custom attention", {**OWN, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "codegen": ("custom attention", {**OWN, **GPT, "rotary_dim": 4, "n_ctx": 512}),
    "diffllama": ("custom attention", {}),
    "doge": ("custom attention", {}),
    "falcon": ("custom attention", {"alibi": False, "num_key_value_heads": None}),
    "gptj": ("custom attention", {**OWN, **GPT, "rotary_dim": 4}),
    "mpt": ("custom attention", {**OWN, "d_model": 32, "n_heads": 4, "n_layers": 2}),
    "nemotron": ("custom attention", {}),
    "stablelm": ("custom attention", {}),
    "xglm": ("custom attention", {"d_model": 32, "num_layers": 2, "attention_heads": 4}),
    "deepseek_v4": (
        "compressed attention",
        {
            "layer_types": ["sliding_attention", "heavily_compressed_attention"],
            "q_lora_rank": 8,
            "o_lora_rank": 8,
            "o_groups": 2,
            "hc_mult": 2,
            "n_routed_experts": 4,
            "moe_intermediate_size": 16,
            **HEADS,
        },
    ),
    "falcon_mamba": ("recurrence", {"state_size": 4}),
    "jamba": ("recurrence", {"mamba_d_state": 4, "num_experts": 2}),
    "lfm2": ("convolution", {"layer_types": ["conv", "full_attention"]}),
    "llama4_text": ("chunked attention", {**HEADS, **LOCAL, "intermediate_size_mlp": 48}),
    "mamba": ("recurrence", {"state_size": 4}),
    "minimax": ("recurrence", {**LOCAL, **HEADS}),
    "qwen3_5_text": ("recurrence", LINEAR),
    "qwen3_next": ("recurrence", {**LINEAR, **EXPERTS, "shared_expert_intermediate_size": 24}),
    "recurrent_gemma": ("recurrence", {"lru_width": 32, "attention_window_size": 64}),
    "rwkv": ("recurrence", {"attention_hidden_size": 32, "context_length": 512}),
}


def tiny(kind: str) -> Any:
    """A random model of a family, its weights large and far from where they begin."""
    shape = {
        key: value for key, value in {**SHAPE, **FAMILIES[kind][1]}.items() if value is not None
    }
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if "A_log" in name or "dt_bias" in name:
                continue  # beyond their range a recurrence is infinite
            if parameter.dim() > 1:
                parameter.copy_(0.3 * noise)
            else:
                parameter.add_(0.2 * noise)
    return model


def rows(verdict: str) -> list[str]:
    return [kind for kind, (found, _) in FAMILIES.items() if found == verdict]


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_is_computed_or_refused_as_the_docs_say(kind: str) -> None:
    model = tiny(kind)
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
    if FAMILIES[kind][0] == RIGHT:
        engine = Engine(model)
        assert engine.adapters.names == [] and engine.adapters.targets
        assert not any("lora" in name for name, _ in model.named_modules())
        return
    with pytest.raises(ComityError, match=f"type '{kind}' are not supported") as error:
        Engine(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt_oss", "qwen3_moe", "gpt2"])
def test_a_model_in_bfloat16_is_checked_in_float32_and_left_as_it_was(kind: str) -> None:
    model = tiny(kind).to(torch.bfloat16)
    before = {name: (t.data_ptr(), t.clone()) for name, t in model.state_dict().items()}
    stream = torch.random.get_rng_state()
    check._CHECKED.clear()
    engine = Engine(model)
    assert torch.equal(torch.random.get_rng_state(), stream)
    assert engine.tokens_computed == 0 and engine.dtype == torch.bfloat16
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() == before[name][0] and torch.equal(tensor, before[name][1])
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["llama", "gpt_oss", "qwen3_moe", "lfm2", "falcon"])
def test_large_models_are_checked_in_their_own_type(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_conditions, "FLOAT32_BYTES", 0)
    monkeypatch.setattr(check, "FLOAT32_TOLERANCE", 0.0)  # would refuse everything
    check._CHECKED.clear()
    model = tiny(kind).to(torch.bfloat16)
    if FAMILIES[kind][0] == RIGHT:
        Engine(model)
    else:
        with pytest.raises(ComityError, match="log-probabilities differ by"):
            Engine(model)


@pytest.mark.parametrize("seed", range(12))
def test_a_mixture_of_experts_that_rounds_to_another_expert_is_no_fault(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random ones differ in bfloat16 where a token is computed by another expert (seed 2)."""
    monkeypatch.setattr(check_conditions, "FLOAT32_BYTES", 0)
    check._CHECKED.clear()
    torch.manual_seed(seed)
    Engine(tiny("gpt_oss").to(torch.bfloat16))


@pytest.mark.parametrize(
    ("differences", "agrees"),
    [((0.1,), True), ((0.5, 0.1, 0.1), True), ((0.5, 0.1, 0.5), False), ((0.5, 0.5, 0.1), False)],
)
def test_if_one_draw_does_not_agree_the_median_of_three_counts(
    differences: tuple[float, ...], agrees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_conditions, "FLOAT32_BYTES", 0)
    check._CHECKED.clear()
    left = list(differences)
    monkeypatch.setattr(check, "_compare", lambda *_: np.full(3, left.pop(0)))
    with nullcontext() if agrees else pytest.raises(ComityError, match=r"differ by 0\.5"):
        Engine(tiny("llama").to(torch.bfloat16))
    assert not left


@pytest.mark.parametrize(
    ("kind", "ignored"),
    [
        ("mistral", "sliding_window"),
        ("gemma2", "softcap"),
        ("gpt_oss", "s_aux"),
        ("granite", "scaling"),
    ],
)
def test_a_part_of_attention_that_is_ignored_is_seen(kind: str, ignored: str) -> None:
    """Also a window of 64 tokens that no sequence of the check would leave."""

    def careless(*args: Any, **kwargs: Any) -> Any:
        return attention.packed_attention(*args, **{**kwargs, ignored: None})

    check._CHECKED.clear()
    AttentionInterface.register(attention.NAME, careless)
    try:
        with pytest.raises(ComityError, match="log-probabilities differ by"):
            Engine(tiny(kind))
    finally:
        AttentionInterface.register(attention.NAME, attention.packed_attention)
    Engine(tiny(kind))


def test_an_adapter_that_is_computed_otherwise_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter's rows that end one row too early."""
    check._CHECKED.clear()
    real = lora_layers.RowRouting.active

    def careless(self: Any, routes: Any, dropout: bool = False) -> Any:
        return real(self, tuple((n, first, end - (n is not None)) for n, first, end in routes))

    monkeypatch.setattr(lora_layers.RowRouting, "active", careless)
    with pytest.raises(ComityError, match="type 'llama' are not supported"):
        Engine(tiny("llama"))


@pytest.mark.parametrize(
    ("kind", "rope"),
    [
        ("llama", {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}),
        (
            "phi3",
            {
                "rope_type": "longrope",
                "short_factor": [1.0] * 4,
                "long_factor": [4.0] * 4,
                "original_max_position_embeddings": 24,
                "rope_theta": 10000.0,
            },
        ),
    ],
)
def test_positions_that_depend_on_the_longest_conversation_end_there(
    kind: str, rope: dict[str, Any]
) -> None:
    """All of them would be turned anew, also those whose keys are cached."""
    more = {"max_position_embeddings": 24, "rope_parameters": rope}
    if kind == "phi3":
        more |= {"max_position_embeddings": 96, "original_max_position_embeddings": 24}
    engine = Engine(AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SHAPE | more)))
    engine.hidden_states([list(range(3, 27))], None, gradients=False)
    with pytest.raises(ComityError, match="a conversation has 25 tokens, and the model has 24"):
        engine.hidden_states([list(range(3, 28))], None, gradients=False)


def test_the_docs_have_the_table() -> None:
    lines = [f"| supported | {', '.join(f'`{kind}`' for kind in rows(RIGHT))} |"]
    for reason in dict.fromkeys(found for found, _ in FAMILIES.values() if found != RIGHT):
        lines.append(f"| rejected: {reason} | {', '.join(f'`{kind}`' for kind in rows(reason))} |")
    table = "\n".join(("| result | `model_type` |", "| --- | --- |", *lines))
    assert table in PAGE.read_text(), f"docs/how-to/models.md must have this table:\n{table}"
