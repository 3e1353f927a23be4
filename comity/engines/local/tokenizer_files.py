"""A tokenizer is what its `tokenizer.json` says, whatever class its other files name."""

import json
import re
from pathlib import Path
from typing import Any


def follow_file(tokenizer: Any, folder: Path) -> Any:
    """The tokenizer, or one that is loaded from the file alone where it does not read bytes.

    Many models with byte-level tokens name `LlamaTokenizer` as their class (DeepSeek's, among
    others). transformers before 5.22 then puts SentencePiece's rules in place of the file's, and
    line breaks and spaces are lost without an error.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or _byte_level(str(backend.decoder)) or not _is_byte_level_file(folder):
        return tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def _is_byte_level_file(folder: Path) -> bool:
    """Whether the decoder in `tokenizer.json` is of bytes; false without such a file."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return False
    text = file.read_text(encoding="utf-8")
    # The whole file can have 30 MB, most of it the vocabulary.
    found = re.search(r'"decoder"\s*:\s*(?=\{)', text)
    if found is None:
        return False
    decoder, _ = json.JSONDecoder().raw_decode(text, found.end())
    return _byte_level(json.dumps(decoder))


def _byte_level(decoder: str) -> bool:
    return "ByteLevel" in decoder
