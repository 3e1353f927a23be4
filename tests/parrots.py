"""A model that always gives the same answer, in a tokenizer with the tokens that a test wants."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch


def tokenizer_with(*texts: str) -> Any:
    """A byte-level tokenizer without a chat template, in which each of the texts is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {letter: i for i, letter in enumerate(["<|endoftext|>", *sorted(alphabet)])}
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    merges: dict[tuple[str, str], None] = {}
    for text in texts:
        letters = cut.pre_tokenize_str(text)[0][0]
        for end in range(2, len(letters) + 1):
            vocabulary.setdefault(letters[:end], len(vocabulary))
            merges[letters[: end - 1], letters[end - 1]] = None
    made = Tokenizer(models.BPE(vocabulary, list(merges)))
    made.pre_tokenizer, made.decoder = cut, decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|endoftext|>")


def parrot(tokenizer: Any, said: Sequence[str]) -> Any:
    """A Llama that writes these tokens after a colon, and then the letter T for ever."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = len(tokenizer)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size,
            hidden_size=512,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=4,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=0,
        )
    )
    ids = [tokenizer.encode(text) for text in (":", *said, "T", "T")]
    assert all(len(one) == 1 for one in ids)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight[:, :size] = torch.eye(size)
        for (before,), (after,) in pairwise(ids):
            model.lm_head.weight[after, before] = 4.0
    return model.eval()
