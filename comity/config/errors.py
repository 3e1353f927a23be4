"""Explains errors of Hydra and OmegaConf in one line, with suggestions."""

import dataclasses
import difflib
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from comity.config import hints
from comity.config.groups import options
from comity.config.presets import experiments
from comity.config.schema import Config
from comity.errors import ComityError, nearest, one_line


@contextmanager
def plain_errors(where: str = "", schema: type = Config) -> Iterator[None]:
    """Turns errors of Hydra and OmegaConf into a one-line `ComityError`.

    `schema`: of the config, whose keys are suggested.
    """
    from hydra.errors import HydraException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        text = explain(error, schema)
        raise ComityError(f"{where}: {text}" if where else text) from error
    except yaml.YAMLError as error:
        raise ComityError(f"invalid YAML: {one_line(error)}") from error
    except (AttributeError, TypeError, ValueError) as error:  # Hydra does not wrap all of them.
        text = one_line(error)
        if "group override must be a string" in text:
            text = "a config group needs the name of an option, as in reward=own; see `comity list`"
        raise ComityError(text) from error


@contextmanager
def names_its_base(folder: str | None, name: str, base: str = "config") -> Iterator[None]:
    """Extends errors of a user's config that has no base in its defaults list.

    A missing `config` alone is no error: the file may include another one that has it.
    `folder` None: not a user's config.
    """
    try:
        yield
    except ComityError as error:
        if folder is None:
            raise
        file = Path(folder) / f"{name}.yaml"
        try:
            tree = yaml.safe_load(file.read_text()) or {}
            defaults = tree.get("defaults") or []
            builds = any(isinstance(entry, str) and entry != "_self_" for entry in defaults)
        except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
            raise error from None  # The error is about the file itself.
        if not builds:
            raise ComityError(
                f"{error}; {file} has no base config: begin its `defaults` with {base}, "
                f"as in `defaults: [{base}, _self_]`"
            ) from error
        raise


def explain(error: Exception, schema: type = Config) -> str:
    """One line for an error of Hydra or OmegaConf, with the nearest known names."""
    from hydra.errors import MissingConfigException, OverrideParseException

    if isinstance(error, MissingConfigException):
        return _explain_missing(error)
    if isinstance(error, OverrideParseException):
        return explain_override(str(error.override))
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    file = re.match(r"In '([^']+)': \w+ raised while composing", str(error))
    where = f"{file[1]}: " if file else ""
    if isinstance(cause, MissingMandatoryValue):
        key = cause.full_key or cause.key
        return f"{key} is required; set it with {key}=VALUE"
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return where + _explain_key(cause, schema)
    if isinstance(cause, OmegaConfBaseException):
        key = cause.full_key or cause.key
        message = (cause.msg or str(cause)).splitlines()[0]
        if key and (wanted := _wrong_type(str(key), message)):
            return where + wanted
        return where + (f"{key}: {message}" if key else message)
    unknown_group = re.search(r"Could not override '([^']+)'\.\s+No match", str(error))
    if unknown_group and unknown_group[1] == "game/length":
        return (
            "the experiment sets game/length, and this game has no parameter `length`; give the "
            "game one (docs/how-to/add-a-part.md#a-game), or choose another experiment"
        )
    if unknown_group:
        return f"unknown config group {unknown_group[1]!r}; see `comity list`"
    return one_line(error)


def _wrong_type(key: str, message: str) -> str:
    """Explains OmegaConf's type errors without its type names; "" for other errors."""
    if message.endswith("is not a ListConfig, list or tuple."):
        return f"{key}: must be a list; write '{key}=[one,another]'"
    if re.search(r"is not a subclass of \w+Config\.", message):
        return (
            f"{key}: must be a block of settings; write {key}.SETTING=VALUE or "
            f"'{key}={{SETTING: VALUE}}'"
        )
    found = re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", message)
    kinds = {"Integer": "a whole number", "Float": "a number"}
    if found and found[2] in kinds:
        return f"{key}: {found[1]!r} is not {kinds[found[2]]}"
    return ""


def explain_override(override: str) -> str:
    """Explains an override that Hydra cannot parse, and how to quote it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    problem = f"cannot parse the override {override!r}"
    key, found, value = override.partition("=")
    if "${" in value:
        return f"{problem}; ${{...}} must name another config value, as in ${{seed}}"
    # Hydra takes quoted text literally; a backslash escapes only before a quote.
    text = re.sub(r'(\\*)"', r'\1\1\\"', value)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    quoted = f'{key}="{text}"'
    try:
        readable = OverridesParser.create().parse_override(quoted).value() == value
    except HydraException:
        readable = False  # The key itself cannot be parsed.
    if not found or not readable:
        return f"{problem}; write key=value or group=option"
    if value[:1] not in ("[", "{"):
        return f"{problem}; quote the value: {shlex.quote(quoted)}"
    return (
        f"{problem}; write a list as [a,b], a mapping as {{a: b}}, and quote special characters in "
        f"them, as in 'seats=[learner,\"adapter:/my models/é\"]'; if the whole value is text: "
        f"{shlex.quote(quoted)}"
    )


def _explain_missing(error: Any) -> str:
    missing = str(error.missing_cfg_file or "")
    if missing.startswith("experiment/"):
        return _explain_experiment(missing.removeprefix("experiment/"))
    if error.options:
        group, _, option = missing.rpartition("/")
        if group == "algorithm" and (known_as := hints.algorithm(option)):
            return f"unknown algorithm {option!r}; {known_as}"
        shown = [name for name in error.options if not name.startswith("_")]
        return f"unknown {group} {option!r}; {nearest(option, shown)}"
    available = re.search(r"Could not find '([^']+)'", str(error))
    if available:
        return f"there is no config {available[1]!r}"
    return f"there is no config {missing!r}" if missing else one_line(error)


def _explain_experiment(name: str) -> str:
    """An unknown experiment, with the nearest names; in a folder, there are too many to list."""
    presets = {one: "" for one in experiments() if one.startswith(name.rpartition("/")[0] + "/")}
    close = difflib.get_close_matches(name, [*presets], n=3, cutoff=0.5)
    if "/" not in name or not close:
        known = nearest(name, options("experiment"))
        return f"unknown experiment {name!r}; {known}; more in: comity list experiments"
    return (
        f"unknown experiment {name!r}; did you mean {' or '.join(close)}? "
        "see: comity list experiments"
    )


def _explain_key(error: OmegaConfBaseException, schema: type) -> str:
    """An unknown key: its full name, and the keys of its parent."""
    full = str(error.full_key or error.key)
    parent, _, key = full.rpartition(".")
    known: list[str] = []
    if dataclasses.is_dataclass(error.object_type):
        known = [f.name for f in dataclasses.fields(error.object_type)]
    elif isinstance(error.parent_node, DictConfig):
        known = [str(name) for name in error.parent_node]
    known = [name for name in known if name != "composition"]
    above = f"{parent}." if parent else ""
    is_misspelled = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    if not is_misspelled and (hint := hints.elsewhere(full, schema)):
        return f"unknown config key {full!r}; {hint}"
    if known:
        hint = f"; {nearest(key, known)}"
    else:
        hint = f"; {parent} is null, so {_filled_in(parent, key)}"
    return f"unknown config key {above + key!r}{hint}"


def _filled_in(parent: str, key: str) -> str:
    """How to set a block that is null: by an option of its group, if it has one."""
    try:
        choices = [name for name in options(parent) if name != "none"]
    except (OSError, ValueError):
        return f"set the whole block: {parent}={{{key}: ..., ...}}"
    return f"choose one first: {parent}={' or '.join(choices)}"
