"""Identity of a base model: its name, its revision, and a hash of its weights.

An adapter belongs to the weights that it was trained on. Their path differs between machines;
`BaseModel.weights` does not depend on it, nor on the sharding of the files. It hashes only the
weights, neither `config.json` nor the tokenizer.
"""

import hashlib
import json
import re
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from comity.engines.local.models import MODELS, cache_folder
from comity.errors import ComityError
from comity.files import write_atomically
from comity.safe_reading import read_object

BASE_FILE = "base.json"
"""File beside an adapter's: the base model that it was trained on."""
THREADS = 4
"""Tensors that are hashed in parallel."""
BLOCK = 16_000_000
"""Bytes that are read at a time."""


@dataclass(frozen=True)
class BaseModel:
    """The identity of a base model, saved beside the adapters trained on it."""

    name: str
    """From `comity list models`, `owner/name` of a Hugging Face repository, or a folder's name."""
    revision: str | None
    """The commit of a Hugging Face repository; None for the others."""
    weights: str
    """See `weights_fingerprint`."""

    @staticmethod
    def of(folder: Path) -> "BaseModel":
        """The model in a folder, as `comity.engines.local.models.fetch` returns it."""
        name, revision = _named(Path(folder))
        return BaseModel(name, revision, weights_fingerprint(folder))

    @staticmethod
    def read(folder: Path) -> "BaseModel | None":
        """The base model named beside an adapter in `folder`; None where there is no such file."""
        file = folder / BASE_FILE
        if not file.exists():
            return None
        try:
            found = read_object(file)
            return BaseModel(str(found["name"]), found["revision"], str(found["weights"]))
        except (ComityError, ValueError, TypeError, KeyError) as error:
            raise ComityError(f"cannot read {file}: it does not name a base model") from error

    def write(self, folder: Path) -> None:
        """Save it beside an adapter in `folder`."""
        write_atomically(folder / BASE_FILE, json.dumps(asdict(self), indent=2) + "\n")


def weights_fingerprint(folder: Path) -> str:
    """`sha256:` and the hash of all weights in a model's folder: names, types, shapes, bytes.

    Reads all weights (0.7 s for 1 GB on one core), once per process unless a file changes.
    Raises `ComityError` where there are none, or they are no safetensors.
    """
    files = _weight_files(Path(folder))
    if not files:
        raise ComityError(f"no weights (*.safetensors) in {folder}")
    try:
        states = [(file, (s := file.stat()).st_size, s.st_mtime_ns, s.st_ino) for file in files]
        return _fingerprint(tuple(states))
    except (OSError, ValueError, TypeError, KeyError, struct.error) as error:
        raise ComityError(f"cannot read the weights in {folder}: {error}") from error


def check_base(folder: Path, ours: BaseModel | None) -> None:
    """Raises `ComityError` if an adapter's folder names another base model.

    Compares weight hashes where the base's is known: from the file that Comity writes beside its
    adapters, or from a local folder that the adapter's config names. Otherwise compares name and
    revision in the adapter's config, without the path. An adapter without a base is accepted
    with a warning.
    """
    try:
        saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        name, revision = saved.get("base_model_name_or_path"), saved.get("revision")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ComityError(f"cannot read adapter_config.json in {folder}: {error}") from error
    recorded = BaseModel.read(folder)
    if ours is None:
        return
    named = base_name(name) if isinstance(name, str) and name else None
    if recorded is None and named and Path(str(name)).expanduser().is_dir():
        with suppress(ComityError):  # a folder without weights has no hash
            recorded = BaseModel.of(Path(str(name)).expanduser())
    if recorded is not None and recorded.weights != ours.weights:
        raise ComityError(
            f"the adapter in {folder} is of the base model {base_name(recorded.name)!r} with "
            f"weights {recorded.weights[:15]}, not of {base_name(ours.name)!r} with weights "
            f"{ours.weights[:15]}"
        )
    if recorded is not None and named in (None, base_name(recorded.name)):
        return
    if named is None:
        warnings.warn(
            f"the adapter in {folder} does not say which base model it is of; taken as one of "
            f"{base_name(ours.name)!r}",
            RuntimeWarning,
            stacklevel=4,
        )
    elif named != base_name(ours.name):
        raise ComityError(
            f"the adapter in {folder} is of the base model {named!r}, not of "
            f"{base_name(ours.name)!r} (if these are the same weights under another name, "
            f"write {ours.name!r} as base_model_name_or_path into its adapter_config.json)"
        )
    elif is_commit(revision) and is_commit(ours.revision) and revision != ours.revision:
        raise ComityError(
            f"the adapter in {folder} is of revision {revision[:12]} of {named!r}, not of "
            f"{str(ours.revision)[:12]}"
        )


def base_name(path: str) -> str:
    """A model's name without its location: of `owner/name`, a folder, or a path in a cache."""
    for part in path.split("/"):
        if part.startswith("models--"):
            return part.rpartition("--")[2]
    last = path.rstrip("/").rpartition("/")[2]
    return _PACKAGED.get(last, last)


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit, which always names the same files, unlike a branch."""
    return revision is not None and re.fullmatch("[0-9a-f]{40}", revision) is not None


_PACKAGED = {f"{name}-{entry.sha256[:16]}": name for name, entry in MODELS.items()}
"""Packaged models by the name of their converted folder."""


def _named(folder: Path) -> tuple[str, str | None]:
    """Name and revision of the model in a folder."""
    folder = folder.expanduser().absolute()
    if folder.name in _PACKAGED and folder.parent == cache_folder().absolute():
        return _PACKAGED[folder.name], None
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/"), folder.name
    return folder.name, None


def _weight_files(folder: Path) -> list[Path]:
    """The files from which transformers reads a model's weights."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not index.is_file():
        whole = folder / "model.safetensors"
        return [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
    try:
        shards = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ComityError(f"cannot read {index}: it does not say where the weights are") from error
    return sorted(folder / shard for shard in shards)


@lru_cache(maxsize=64)
def _fingerprint(files: tuple[tuple[Path, int, int, int], ...]) -> str:
    """Hash of all tensors; `files`: (file, size, time of change, inode), to detect changes."""
    tensors = [tensor for file, *_ in files for tensor in _tensors(file)]
    with ThreadPoolExecutor(THREADS) as pool:
        lines = sorted(pool.map(lambda tensor: _line(*tensor), tensors))
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _tensors(file: Path) -> list[tuple[Path, str, dict[str, Any], int]]:
    """(file, name, entry of the header, offset of the data section) of each tensor."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        if length > file.stat().st_size:
            raise ValueError(f"{file.name} is no safetensors file")
        header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    return [(file, name, entry, 8 + length) for name, entry in header.items()]


def _line(file: Path, name: str, entry: dict[str, Any], start: int) -> str:
    """A tensor in one line: name, type, shape and the hash of its bytes."""
    begin, end = entry["data_offsets"]
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        opened.seek(start + begin)
        for block in _blocks(opened, end - begin):
            digest.update(block)
    return f"{name} {entry['dtype']} {entry['shape']} {digest.hexdigest()}"


def _blocks(opened: BinaryIO, left: int) -> Any:
    """The next `left` bytes, in blocks."""
    while left > 0:
        block = opened.read(min(left, BLOCK))
        if not block:
            raise ValueError("a weights file is cut short")
        left -= len(block)
        yield block
