"""Tiny random language models, one per architecture that the engine must handle.

Each is saved to a folder exactly as a real model would be (config, safetensors, tokenizer),
so that tests load it through the same door as users do. Weights are random but large, so
that probabilities are far from uniform and every path matters: attention windows of 16
tokens, soft-caps that bite, norms and biases that are not at their neutral values.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from comity.engines.local.models import quiet

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2")
"""Everything that `make_tiny` can make; all but gpt2 have a chat template."""

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

WINDOW = 16
"""Tokens that a sliding-window layer of the tiny Gemma models sees."""

BFLOAT16_RMS, BFLOAT16_MOST = 0.1, 0.5
"""How far log-probabilities in bfloat16 may differ: root mean square, and each of them.

Engine, learner and a plain forward compute the same tokens in batches of other shapes,
processors multiply them in other orders, and bfloat16 keeps 8 bits. Text of the default model
differs by 0.055 (root mean square) and by 0.23 at most in 480 tokens; these models' weights are
large.
"""

_TRAINING_TEXT = (
    "You play a game with another player. Each round both of you choose A or B.",
    "If both choose A, each earns 3 points. If both choose B, each earns 1 point.",
    "If you choose A and the other player chooses B, you earn 0 and they earn 5.",
    "Earn as many points as possible. They played B. You played A. Answer: A or B?",
    "user assistant system: what do you choose now? I cooperate. I defect. green purple",
)


def assert_agree(found: Any, wanted: Any, dtype: torch.dtype, most: float = BFLOAT16_MOST) -> None:
    """Log-probabilities of two ways of computing the same tokens: the stated tolerance."""
    found, wanted = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    if dtype == torch.float32:
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    else:
        np.testing.assert_allclose(found, wanted, atol=most)
        assert np.sqrt(np.mean((found - wanted) ** 2)) < BFLOAT16_RMS


def make_tokenizer(chat: bool = True) -> Any:
    """A byte-level BPE of about 350 entries; with `chat`, ChatML and its special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", *(["<|im_start|>", "<|im_end|>"] if chat else [])]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        _TRAINING_TEXT,
        trainers.BpeTrainer(
            vocab_size=350,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>" if chat else "<|endoftext|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=special[1:],
    )
    if chat:
        fast.chat_template = CHATML
    return fast


def _config(architecture: str, tokenizer: Any) -> Any:
    from transformers import (
        Gemma2Config,
        Gemma3TextConfig,
        GPT2Config,
        LlamaConfig,
        Qwen2Config,
        Qwen3Config,
    )

    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        **common,
    }
    windowed = {**shape, "head_dim": 8, "num_hidden_layers": 4, "sliding_window": WINDOW}
    mixed = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    match architecture:
        case "llama":
            return LlamaConfig(**shape, tie_word_embeddings=True)
        case "qwen2":
            return Qwen2Config(**shape, tie_word_embeddings=True)
        case "qwen3":
            return Qwen3Config(**shape, head_dim=16, tie_word_embeddings=False)
        case "gemma2":
            return Gemma2Config(
                **windowed,
                layer_types=mixed,
                query_pre_attn_scalar=8,
                attn_logit_softcapping=2.0,
                final_logit_softcapping=3.0,
            )
        case "gemma3":
            return Gemma3TextConfig(
                **windowed,
                layer_types=mixed,
                query_pre_attn_scalar=8,
                final_logit_softcapping=3.0,
            )
        case "gpt2":
            return GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=1024, **common)
        case _:
            raise ValueError(f"no tiny {architecture!r}; known: {', '.join(ARCHITECTURES)}")


@torch.no_grad()
def _randomize(model: torch.nn.Module, seed: int) -> None:
    """Large random weights in place; norms and biases move away from 1 and 0 as well."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.copy_(0.3 * noise)
        elif name.endswith("bias"):
            parameter.copy_(0.2 * noise)
        else:
            parameter.add_(0.2 * noise)


def make_tiny(architecture: str, folder: Path, seed: int = 0) -> Path:
    """Saves a tiny random model of `architecture` with its tokenizer to `folder`.

    Returns `folder`; a folder that holds a finished model already is left as it is.
    """
    from transformers import AutoModelForCausalLM

    if (folder / "model.safetensors").exists():
        return folder
    tokenizer = make_tokenizer(chat=architecture != "gpt2")
    model = AutoModelForCausalLM.from_config(_config(architecture, tokenizer))
    _randomize(model, seed)
    with quiet():  # Its progress bar would be among what a test reads.
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return folder
