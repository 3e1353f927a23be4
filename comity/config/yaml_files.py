"""Reading YAML as data: nothing of it is run, looked up outside of it, or larger than it seems."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from comity.errors import ComityError, one_line

REFERENCE = re.compile(r"(?<!\\)\$\{[\w.\[\]-]+\}")
"""`${seed}`, `${reward.name}`, `${..name}`: another value of the config."""

LARGEST = 1_000_000
"""Most bytes of a config's file."""
MOST_VALUES = 20_000
"""Most values of it once its aliases are written out; OmegaConf needs 0.2 ms for each."""


def read_yaml(path: Path) -> Any:
    """The mappings, lists and plain values of one YAML file, `${...}` left as it stands.

    Raises `ComityError`, which names the file, for one that is missing, no plain file, not
    UTF-8, not YAML, or too large.
    """
    if not path.exists():
        raise ComityError(f"there is no file {path}")
    if not path.is_file():
        raise ComityError(f"{path} is no file that can be read")
    try:
        if path.stat().st_size > LARGEST:
            raise ComityError(f"{path} is no config: it has more than {LARGEST} bytes")
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
        _check_size(root, path)
        if not isinstance(root, yaml.CollectionNode):
            return yaml.safe_load(text)
        # OmegaConf's reading of YAML: 1e-5 is a number, and no key may stand twice.
        tree = OmegaConf.to_container(OmegaConf.create(text))
    except UnicodeDecodeError as error:
        raise ComityError(
            f"{path} is not UTF-8 (byte {error.start + 1}): save it in that encoding"
        ) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ComityError(f"{path} is not readable YAML: {one_line(error)}") from error
    return tree


def _check_size(root: yaml.Node | None, path: Path) -> None:
    """Raises `ComityError` where aliases of aliases make a small file a huge one."""
    sizes: dict[int, int] = {}
    stack = [(root, False)] if root is not None else []
    while stack:
        node, counted = stack.pop()
        if isinstance(node, yaml.MappingNode):
            below = [child for pair in node.value for child in pair]
        else:
            below = node.value if isinstance(node, yaml.SequenceNode) else []
        if counted:
            sizes[id(node)] = 1 + sum(sizes.get(id(child), 0) for child in below)
            if sizes[id(node)] > MOST_VALUES:
                raise ComityError(f"{path} is no config: its aliases hold too many values")
        elif id(node) not in sizes:
            sizes[id(node)] = 0
            stack.append((node, True))
            stack += [(child, False) for child in below]


def check_references(tree: Any, where: str = "") -> None:
    """Raises `ComityError` for a `${...}` that is more than the name of another value.

    `${oc.env:HOME}` and its kin would put what only this machine knows into records, names of
    folders and requests to a model hub.
    """
    for text in _texts(tree):
        if "${" in REFERENCE.sub("", text):
            raise ComityError(
                f"{_before(where)}{text!r}: a config refers to its own values alone, as in "
                "${seed}; write the value itself"
            )


def check_resolved(tree: Any, where: str = "") -> None:
    """Raises `ComityError` for `${` in a config that is complete, as a stored one is."""
    for text in _texts(tree):
        if "${" in text:
            raise ComityError(
                f"{_before(where)}{text!r}: a complete config refers to nothing; "
                "write the value itself"
            )


def _before(where: str) -> str:
    return f"{where}: " if where else ""


def _texts(tree: Any) -> Iterator[str]:
    """Every text in nested lists and mappings, keys included."""
    if isinstance(tree, dict):
        yield from (key for key in tree if isinstance(key, str))
    if isinstance(tree, dict | list | tuple):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from _texts(item)
    elif isinstance(tree, str):
        yield tree
