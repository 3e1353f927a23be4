"""Reads untrusted YAML safely: no code, no external references, bounded size with aliases."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf._utils import get_omega_conf_dumper, get_yaml_loader
from omegaconf.errors import OmegaConfBaseException

from comity.errors import ComityError, one_line

REFERENCE = re.compile(r"(?<!\\)\$\{[\w.\[\]-]+\}")
"""`${seed}`, `${reward.name}`, `${..name}`: references to other values of the config."""

LARGEST = 1_000_000
"""Maximum bytes of a config file."""
MOST_VALUES = 20_000
"""Maximum values after alias expansion; OmegaConf needs 0.2 ms for each."""
DEEPEST = 100
"""Maximum nesting."""

_Loader: Any = get_yaml_loader()
"""OmegaConf's loader: 1e-5 is a number, and duplicate keys are errors."""
_Dumper: Any = get_omega_conf_dumper()
"""OmegaConf's dumper: texts that look like numbers or truth values are quoted."""
if yaml.__with_libyaml__:

    class _Compiled(yaml.cyaml.CParser, _Loader):
        """The same on libyaml, about ten times as fast."""

        def __init__(self, text: str) -> None:
            yaml.cyaml.CParser.__init__(self, text)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    _Loader = _Compiled

    class _CompiledDumper(yaml.CDumper):
        """The same on libyaml."""

        yaml_representers = _Dumper.yaml_representers

    _Dumper = _CompiledDumper


def read_yaml(path: Path) -> Any:
    """The mappings, lists and plain values of a YAML file; `${...}` is not resolved.

    Raises `ComityError`, which names the file, if it is missing, not a regular file, not UTF-8,
    not YAML, or too large.
    """
    if not path.exists():
        raise ComityError(f"there is no file {path}")
    if not path.is_file():
        raise ComityError(f"{path} is not a regular file")
    try:
        if path.stat().st_size > LARGEST:
            raise ComityError(f"{path} is not a config: it has more than {LARGEST} bytes")
        text = path.read_text(encoding="utf-8")
        _check_depth(text, path)
        loader = _Loader(text)
        root = loader.get_single_node()
        _check_size(root, path)
        if not isinstance(root, yaml.CollectionNode):
            return yaml.safe_load(text)
        tree = loader.construct_document(root)
        try:
            return _copied(tree)
        except TypeError:  # OmegaConf names what it cannot hold, and checks references.
            return OmegaConf.to_container(OmegaConf.create(tree))
    except UnicodeDecodeError as error:
        raise ComityError(
            f"{path} is not UTF-8 (byte {error.start + 1}): save it in that encoding"
        ) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ComityError(f"{path} is not valid YAML: {one_line(error)}") from error


def to_yaml(config: Any) -> str:
    """A whole config, a dataclass, as YAML; `read_yaml` reads it back."""
    try:
        plain = _copied(dataclasses.asdict(config))
    except TypeError:  # OmegaConf converts what is not plain, or says what it cannot hold.
        return OmegaConf.to_yaml(OmegaConf.structured(config))
    text: str = yaml.dump(plain, Dumper=_Dumper, allow_unicode=True, sort_keys=False)
    return text


def _check_depth(text: str, path: Path) -> None:
    """Raises `ComityError` for deep nesting, which overflows the stack of libyaml's composer."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise ComityError(f"{path} is not a config: it is nested in more than {DEEPEST} levels")


def _copied(tree: Any) -> Any:
    """A copy in which aliases share nothing; `TypeError` for other than plain values and keys."""
    if isinstance(tree, dict):
        if not all(type(key) in (str, int, float, bool) for key in tree):
            raise TypeError
        return {key: _copied(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_copied(item) for item in tree]
    if tree is None or type(tree) in (int, float, bool):
        return tree
    if type(tree) is str and "${" not in tree and tree != "???":
        return tree
    raise TypeError


def plain_block(tree: Any) -> dict[str, Any] | None:
    """A copy of a mapping from names to plain values, none of them `???`; None for another tree."""
    if not isinstance(tree, dict) or not all(type(key) is str for key in tree):
        return None
    try:
        return {key: _copied(value) for key, value in tree.items()}
    except TypeError:
        return None


def _check_size(root: yaml.Node | None, path: Path) -> None:
    """Raises `ComityError` if nested aliases expand to too many values."""
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
                raise ComityError(f"{path} is not a config: its aliases expand to too many values")
        elif id(node) not in sizes:
            sizes[id(node)] = 0
            stack.append((node, True))
            stack += [(child, False) for child in below]


def check_references(tree: Any, where: str = "") -> None:
    """Raises `ComityError` for a `${...}` that is not the name of another config value.

    `${oc.env:HOME}` and other resolvers would leak this machine's environment into records,
    folder names and requests to a model hub.
    """
    for text in _texts(tree):
        if "${" in REFERENCE.sub("", text):
            raise ComityError(
                f"{_before(where)}{text!r}: a config may refer only to its own values, as in "
                "${seed}; write the value itself"
            )


def check_resolved(tree: Any, where: str = "") -> None:
    """Raises `ComityError` for `${` in a complete config, such as a stored one."""
    for text in _texts(tree):
        if "${" in text:
            raise ComityError(
                f"{_before(where)}{text!r}: a complete config must not contain references; "
                "write the value itself"
            )


def _before(where: str) -> str:
    return f"{where}: " if where else ""


def _texts(tree: Any) -> Iterator[str]:
    """All texts in nested lists and mappings, including keys."""
    if isinstance(tree, dict):
        yield from (key for key in tree if isinstance(key, str))
    if isinstance(tree, dict | list | tuple):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from _texts(item)
    elif isinstance(tree, str):
        yield tree
