"""User-defined components as options of the config groups: `game=toll`, `prompt=plain`.

`comity.registry` finds the components; here each becomes an option whose keys are its parameters
with their defaults, overridden like those of the project's YAML files. A stage game becomes an
iterated game, with the parameters of all iterated games.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from comity.config.groups import options
from comity.errors import ComityError
from comity.games import own_games
from comity.games.lengths import LENGTHS
from comity.registry import own_parts

GROUPS = ("game", "prompt", "answer", "reward", "algorithm")
"""Config groups with user-defined options."""


def own(group: str) -> dict[str, Callable[..., Any]]:
    """The user-defined components of a group by name; `ComityError` for a name that is taken."""
    found = own_games() if group == "game" else own_parts(group)
    known = options(group) if found else {}
    for name in found:
        if name in known:
            raise ComityError(
                f"user-defined {group} {name!r}: Comity has a {group} of that name; rename yours"
            )
        if not re.fullmatch(r"[A-Za-z][\w-]*", name):
            raise ComityError(
                f"user-defined {group} {name!r}: a name consists of letters, digits, - and _"
            )
    return found


def nodes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Group, name and config of every user-defined option.

    Its keys are the parameters; those without a default are required. A length becomes an option
    too, under the component's name, so that `game/length=one` selects another.
    """
    for group in GROUPS:
        for name, factory in own(group).items():
            node: dict[str, Any] = {"name": name}
            for key, value in _defaults(factory).items():
                length = next((one for one, kind in LENGTHS.items() if type(value) is kind), None)
                if length is not None:
                    yield f"{group}/{key}", name, {"name": length, **dataclasses.asdict(value)}
                    node["defaults"] = [{key: name}, "_self_"]
                elif _is_plain(value):
                    node[key] = value
            yield group, name, node


def _defaults(factory: Callable[..., Any]) -> dict[str, Any]:
    """The default of every named parameter; `???` for required ones."""
    made = {
        field.name: field.default_factory()
        for field in (dataclasses.fields(factory) if dataclasses.is_dataclass(factory) else ())
        if field.default_factory is not dataclasses.MISSING
    }
    found = {}
    for key, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        missing = parameter.default is inspect.Parameter.empty
        found[key] = "???" if missing else made.get(key, parameter.default)
    return found


def _is_plain(value: object) -> bool:
    """Whether YAML can represent the value."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def registered() -> bool:
    """Whether any is registered with Hydra."""
    return bool(_registered)


def register(folder: str | None = None) -> None:
    """Registers them with Hydra, and removes those that are no longer there.

    An option with a file in the user's config folder is that file.
    """
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for group, name in _registered:
        options_there: Any = store.repo
        for part in group.split("/"):
            options_there = options_there[part]
        del options_there[f"{name}.yaml"]
    _registered.clear()
    for group, name, node in nodes():
        if folder is None or not Path(folder, group, f"{name}.yaml").exists():
            store.store(group=group, name=name, node=node, provider="comity")
            _registered.add((group, name))


_registered: set[tuple[str, str]] = set()
"""Groups and names of the options that are registered."""
