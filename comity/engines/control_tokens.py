"""Control tokens: they mark turns and ends, and ordinary text never produces them.

In plain text, without such tokens, a line break ends an answer (`line_breaks`).

Prompts and answers may hold any text, including other models' messages. Where it spells a
control token, the letters are encoded, never the token.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

_SIZES: WeakKeyDictionary[Any, tuple[int, int]] = WeakKeyDictionary()


def number_of_ids(tokenizer: Any) -> int:
    """One more than the tokenizer's largest id; ids may have gaps."""
    tokens, size = _SIZES.get(tokenizer, (-1, 0))
    if tokens != len(tokenizer):  # Listing a large vocabulary takes 0.1 s.
        size = max(tokenizer.get_vocab().values()) + 1
        _SIZES[tokenizer] = len(tokenizer), size
    return size


def control_tokens(tokenizer: Any) -> dict[int, str]:
    """Texts by id: the special tokens, and other added ones that the chat template uses."""
    # A dictionary if the tokenizer has several templates.
    template = str(tokenizer.chat_template or "")
    return {
        token_id: token.content
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special or (token.content.strip() and token.content in template)
    }


def control_pattern(control: Mapping[int, str]) -> re.Pattern[str]:
    """A pattern that matches every control token spelled out in text."""
    # Longest first: of two with a common prefix the tokenizer takes the longer.
    ordered = sorted(set(control.values()) - {""}, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, ordered)) if ordered else r"(?!)")


def split_control_tokens(text: str, control: re.Pattern[str]) -> Iterator[str]:
    """`text` in parts to be encoded one by one: each control token is split after its first
    letter.
    """
    while found := control.search(text):
        cut = found.start() + 1
        yield text[:cut]
        text = text[cut:]
    yield text


def plain_text_encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    """A function from any text to ids without control tokens."""
    control = control_pattern(control_tokens(tokenizer))

    def encode(text: str) -> list[int]:
        parts = split_control_tokens(text, control)
        return [i for part in parts for i in tokenizer.encode(part, add_special_tokens=False)]

    return encode


def line_breaks(tokenizer: Any) -> dict[int, str]:
    """The tokens that hold a line break, each with its text before the break.

    Many tokenizers merge line breaks with one another or with preceding characters.
    """
    ids = list(range(len(tokenizer)))
    texts = tokenizer.batch_decode([[i] for i in ids], clean_up_tokenization_spaces=False)
    found = {i: text.partition("\n")[0] for i, text in zip(ids, texts, strict=True) if "\n" in text}
    return {i: text for i, text in found.items() if i not in tokenizer.all_special_ids}
