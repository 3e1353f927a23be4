"""Build objects from config blocks `{name: NAME, **parameters}`.

Each package has a registry, a dictionary from name to class or function. `build` looks the name
up and checks the parameters against its signature: unknown, missing or mistyped ones raise an
error before anything is constructed, so that no misspelled key is silently ignored.

`own_parts` adds user-defined components.
"""

import importlib.util
import inspect
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from comity.errors import ComityError, lookup, nearest

Built = TypeVar("Built")

PARTS = "COMITY_PARTS"
"""Environment variable: Python files with user-defined components."""

MODULE = "comity_parts_"
"""Beginning of the names that such files have as modules."""

DICTIONARIES = (
    *("AGENTS", "ALGORITHMS", "ANSWERS", "GAMES", "METRICS", "PLAYERS", "PROMPTS", "REWARDS"),
    *("STAGES", "TOURNAMENT_METRICS"),
)
"""What such a file may define: a dictionary for each kind of part, name to part."""


def build(
    kind: str,
    config: object,
    known: Mapping[str, Callable[..., Built]],
    own: Callable[[], Mapping[str, Callable[..., Built]]] | None = None,
) -> Built:
    """The object that `config` describes, constructed by `known[name](**parameters)`.

    `config` is a name or a mapping with the key `name`; its other keys are parameters.
    Lists become tuples where the signature has tuples, integers become floats where it has
    floats. `own` returns user-defined components for names not in `known` (default:
    `own_parts(kind)`). Raises `ComityError` for invalid parameters, and for a `TypeError` or
    `ValueError` of the constructor; `kind` is the word used in messages.
    """
    parameters = _parameters(kind, config)
    name = parameters.pop("name", None)
    if not isinstance(name, str):
        raise ComityError(f"{kind} needs a name; {nearest('', known)}")
    if name not in known:
        known = {**known, **(own() if own is not None else own_parts(kind))}
    factory = lookup(kind, name, known)
    what = f"{kind} {name!r}"
    fitted = _fitted(what, factory, parameters)
    try:
        return factory(**fitted)
    except ComityError as error:
        raise type(error)(f"{what}: {error}") from error
    except (TypeError, ValueError) as error:
        raise ComityError(f"{what}: {error}") from error


def own_parts(kind: str) -> dict[str, Callable[..., Any]]:
    """User-defined rewards, players, stages ... by name, from entry points and files.

    For the kind "reward": entry points of the group `comity.rewards`, and the dictionary
    `REWARDS` of every Python file listed in the environment variable COMITY_PARTS (separated as
    in PATH). Configs cannot name code, so opening somebody else's run executes none of theirs.
    """
    group = f"{kind}s"
    found: dict[str, Callable[..., Any]] = {}
    for point in installed_parts(f"comity.{group}"):
        found[point.name] = _loaded(point)
    for path in os.environ.get(PARTS, "").split(os.pathsep):
        if path:
            parts = getattr(_module(path), group.upper(), {})
            if not isinstance(parts, Mapping):
                raise ComityError(f"{path}: {group.upper()} must be a dictionary, name to {kind}")
            found.update(parts)
    for name, part in found.items():
        if not callable(part):
            raise ComityError(
                f"user-defined {kind} {name!r} must be a class or function, not {part!r}"
            )
    return found


def installed_parts(group: str) -> Iterable[EntryPoint]:
    """The entry points of a group. Installed packages are searched once, until one is added."""
    return _entry_points(group, tuple((path, _changed(path)) for path in sys.path))


@cache
def _entry_points(group: str, _: tuple[tuple[str, int], ...]) -> EntryPoints:
    return entry_points(group=group)


def _changed(path: str) -> int:
    """When something was last added to a folder, or removed from it, in ns; 0: unknown."""
    try:
        return os.stat(path or ".").st_mtime_ns
    except OSError:
        return 0


def _loaded(point: EntryPoint) -> Callable[..., Any]:
    try:
        made: Callable[..., Any] = point.load()
    except Exception as error:  # another package's code may raise anything
        raise ComityError(f"entry point {point.name} = {point.value}: {error}") from error
    return made


def place_in_own_parts(error: BaseException) -> str:
    """The last line of a COMITY_PARTS file that an error passed: "parts.py, line 7"; "": none."""
    found, frame = "", error.__traceback__
    while frame is not None:
        if str(frame.tb_frame.f_globals.get("__name__")).startswith(MODULE):
            name = Path(frame.tb_frame.f_code.co_filename).name
            found = f"{name}, line {frame.tb_lineno}"
        frame = frame.tb_next
    return found


@cache
def _module(path: str) -> ModuleType:
    """The module in a file, executed once per process."""
    file = Path(os.path.expanduser(path))
    spec = importlib.util.spec_from_file_location(f"{MODULE}{file.stem}", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ComityError(f"{PARTS}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's file may raise anything
        raise ComityError(
            f"{PARTS}: cannot import {path} ({type(error).__name__}: {error})"
        ) from error
    if not any(hasattr(module, name) for name in DICTIONARIES):
        raise ComityError(
            f"{PARTS}: {path} names no parts; end it with a dictionary such as "
            f"GAMES = {{'mine': Mine}} (one of {', '.join(DICTIONARIES)})"
        )
    return module


def sentences(known: Mapping[str, object]) -> dict[str, str]:
    """The first line of every entry's docstring, by name: what `comity list` prints."""
    return {name: (inspect.getdoc(entry) or "").split("\n")[0] for name, entry in known.items()}


def _parameters(kind: str, config: object) -> dict[str, Any]:
    if isinstance(config, str):
        return {"name": config}
    if isinstance(config, Mapping):
        return {str(key): value for key, value in config.items()}
    raise ComityError(f"{kind} must be a name or a mapping with a name, not {config!r}")


def _fitted(what: str, factory: Callable[..., object], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, checked against the signature of `factory` and converted to its types."""
    signature = inspect.signature(factory).parameters
    for key in given:
        if key not in signature:
            hint = nearest(key, signature) if signature else "it has no parameters"
            raise ComityError(f"{what}: unknown parameter {key!r}; {hint}")
    missing = [
        key
        for key, parameter in signature.items()
        if parameter.default is inspect.Parameter.empty and key not in given
    ]
    if missing:
        raise ComityError(f"{what}: missing {', '.join(missing)}")
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    fitted = {}
    for key, value in given.items():
        try:
            fitted[key] = _fit(value, hints.get(key, Any))
            if not _finite(value):
                raise ComityError(f"{what}: {key} must be finite, not {value!r}")
        except _MisfitError:
            wanted = " or ".join(sorted(_words(hints[key])))
            raise ComityError(f"{what}: {key} must be {wanted}, not {value!r}") from None
    return fitted


def _finite(value: Any) -> bool:
    """Whether all numbers in a config value are finite; NaN would pass every comparison check."""
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


class _MisfitError(Exception):
    """A value is not of the annotated type."""


def _fit(value: Any, hint: Any) -> Any:
    """`value` converted to the type `hint`; types that YAML cannot write are not checked."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        for alternative in arguments:
            try:
                return _fit(value, alternative)
            except _MisfitError:
                continue
        raise _MisfitError
    if origin is Literal:
        fits = value in arguments
    elif hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        value = float(value) if fits else value
    elif hint is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif origin in (tuple, list, Sequence):
        fits = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if fits:
            items = [_fit(item, arguments[0]) for item in value]
            value = items if origin is list else tuple(items)
    elif origin in (dict, Mapping):
        fits = isinstance(value, Mapping)
        if fits:
            value = {_fit(k, arguments[0]): _fit(v, arguments[1]) for k, v in value.items()}
    elif inspect.isclass(hint) and hint is not Any:
        fits = isinstance(value, hint)
    else:
        fits = True
    if not fits:
        raise _MisfitError
    return value


_PLAIN_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    NoneType: "null",
}


def _words(hint: Any) -> AbstractSet[str]:
    """The type in a user's words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return {word for alternative in arguments for word in _words(alternative)}
    if origin is Literal:
        return {f"one of {', '.join(map(str, arguments))}"}
    if origin in (tuple, list, Sequence):
        of = _PLAIN_WORDS.get(arguments[0])
        return {f"a list (each item {of})" if of else "a list"}
    if origin in (dict, Mapping):
        of = _PLAIN_WORDS.get(arguments[1])
        return {f"a mapping (each value {of})" if of else "a mapping"}
    return {_PLAIN_WORDS.get(hint, f"a {getattr(hint, '__name__', hint)}")}
