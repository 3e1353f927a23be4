"""Control tokens: what marks turns and ends, and is never spelled by ordinary text.

In plain text, which has no such tokens, a line break ends an answer (`line_breaks`).

Text that is told or written may hold anything, also other models' words. Where it spells a
control token, its letters are encoded, never the token.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def control_tokens(tokenizer: Any) -> dict[int, str]:
    """Texts by id: the special tokens, and other added ones that the chat template uses."""
    # A dictionary where the tokenizer has several templates.
    template = str(tokenizer.chat_template or "")
    return {
        token_id: token.content
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special or (token.content.strip() and token.content in template)
    }


def spelling(control: Mapping[int, str]) -> re.Pattern[str]:
    """Matches every control token spelled out in text."""
    # Longest first: of two that start alike the tokenizer takes the longer.
    ordered = sorted(set(control.values()) - {""}, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, ordered)) if ordered else r"(?!)")


def broken(text: str, control: re.Pattern[str]) -> Iterator[str]:
    """`text` in parts to be encoded one by one: each control token in it is cut after its
    first letter.
    """
    while found := control.search(text):
        cut = found.start() + 1
        yield text[:cut]
        text = text[cut:]
    yield text


def encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    """From any text to ids without control tokens."""
    control = spelling(control_tokens(tokenizer))

    def encode(text: str) -> list[int]:
        parts = broken(text, control)
        return [i for part in parts for i in tokenizer.encode(part, add_special_tokens=False)]

    return encode


def line_breaks(tokenizer: Any) -> dict[int, str]:
    """The tokens that hold a line break, and what each says before it.

    Many tokenizers join line breaks with one another, or with what stands before them.
    """
    ids = list(range(len(tokenizer)))
    texts = tokenizer.batch_decode([[i] for i in ids], clean_up_tokenization_spaces=False)
    found = {i: text.partition("\n")[0] for i, text in zip(ids, texts, strict=True) if "\n" in text}
    return {i: text for i, text in found.items() if i not in tokenizer.all_special_ids}
