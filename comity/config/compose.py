"""Composes configs and checks them.

`compose` composes an experiment, overrides and the user's config folder as `comity train` does;
`arm_configs` composes every run of a study.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from omegaconf import DictConfig, OmegaConf

from comity.config import own_parts, presets
from comity.config.check import check
from comity.config.errors import names_its_base, plain_errors
from comity.config.population_schema import PopulationSchema
from comity.config.schema import Block, Composition, Config, Schema
from comity.config.yaml_files import (
    check_references,
    check_resolved,
    plain_block,
    read_yaml,
)
from comity.errors import ComityError

MOVABLE = ("output", "composition")
"""Config keys for the run's location and composition, which may differ between equal runs."""

AnyConfig = TypeVar("AnyConfig")


@dataclass(frozen=True)
class Kind(Generic[AnyConfig]):
    """A kind of config that Hydra composes: an experiment, or a population."""

    primary: str
    """The config from which all of the kind start, which a user's config has in its defaults."""
    group: str
    """The config group of its presets."""
    schema: type
    """The dataclass with its keys."""
    read: Callable[[DictConfig, Composition | None], AnyConfig]
    """The checked config of a composed tree."""


def load_config(path: Path) -> Config:
    """The config in a complete YAML file, such as a run's `config.yaml`."""
    return from_plain(read_yaml(Path(path)), str(path))


def from_plain(tree: Any, where: str) -> Config:
    """The checked config of a file's plain values; `${...}` is refused. `where` prefixes errors."""
    if not isinstance(tree, dict):
        raise ComityError(f"{where} is not a config: it must be a mapping")
    check_resolved(tree, where)
    with plain_errors(where):
        return _complete(tree)


def from_omegaconf(tree: DictConfig, composition: Composition | None = None) -> Config:
    """The checked config, with references to its own values (`${seed}`) resolved."""
    with plain_errors():
        check_references(OmegaConf.to_container(tree))
        plain = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
        check_resolved(plain)
        return _complete(plain, composition)


def _complete(plain: Any, composition: Composition | None = None) -> Config:
    """The checked config of plain values."""
    name_the_arm(plain)
    # Merging takes long, and these need none: mappings of anything, and defaults.
    schema, defaults = _schema()
    found = {key: plain_block(plain.get(key)) for key in _blocks()}
    blocks = {key: block for key, block in found.items() if block is not None}
    changed = {
        key: value
        for key, value in plain.items()
        if key not in blocks and repr(value) != defaults.get(key)
    }
    # From plain values: `+key=1` on the command line would have opened the schema.
    config = OmegaConf.to_object(OmegaConf.merge(schema, changed))
    assert isinstance(config, Config)
    vars(config).update(blocks)
    if composition is not None:
        config.composition = composition
    _expand_home(config)
    check(config)
    return config


@cache
def _schema() -> tuple[DictConfig, dict[str, str]]:
    """The schema, which merging copies, and each key's default as it is printed."""
    schema = OmegaConf.structured(Config)
    plain: Any = OmegaConf.to_container(schema)
    return schema, {key: repr(value) for key, value in plain.items()}


@cache
def _blocks() -> list[str]:
    """Keys of the schema that hold any mapping."""
    return [one.name for one in dataclasses.fields(Config) if one.type is Block]


def _expand_home(config: Config) -> None:
    """Expands `~` in paths; a shell does not in `output=~/runs`."""
    config.output = os.path.expanduser(config.output)
    config.model.name = os.path.expanduser(config.model.name)
    for key in ("python", "adapters"):
        if (path := getattr(config.engine, key)) is not None:
            setattr(config.engine, key, os.path.expanduser(path))
    if config.opponent_pool is not None and config.opponent_pool.initial_snapshots is not None:
        config.opponent_pool.initial_snapshots = os.path.expanduser(
            config.opponent_pool.initial_snapshots
        )
    for number, seat in enumerate(config.seats):
        if isinstance(seat, str) and seat.startswith("adapter:"):
            config.seats[number] = f"adapter:{os.path.expanduser(seat.partition(':')[2])}"


def compose(name: str, overrides: Sequence[str] = (), config_dir: str | None = None) -> Config:
    """The config of `comity train NAME OVERRIDES`.

    `name` is an experiment ("": the defaults only); with `config_dir` it is a file of that
    folder instead, whose defaults list starts from `config`
    (`[config, override game: stag_hunt, _self_]`).
    Raises a one-line `ComityError` for everything that Hydra refuses.
    """
    register_schema(config_dir)
    composition = Composition(name, list(overrides), config_dir)
    with names_its_base(config_dir, name), plain_errors():
        from comity.config.sources import check_overrides

        check_overrides(overrides)
        if config_dir is None:
            primary, before = "config", [f"experiment={name}"] if name else []
        else:
            primary, before = name, []
        return from_omegaconf(composed(primary, [*before, *overrides], config_dir), composition)


def composed(primary: str, overrides: Sequence[str], folder: str | None) -> DictConfig:
    """Hydra's composition of a primary config, in the user's `folder` or ours, with overrides."""
    from hydra.types import RunMode

    from comity.config.sources import beside_hydra, compose_ours, new_hydra

    if folder is None:
        return compose_ours(primary, with_study(overrides))
    with beside_hydra():
        hydra = new_hydra(folder)
        tree = hydra.compose_config(
            primary,
            with_study(overrides),
            RunMode.RUN,
            with_log_configuration=False,
            from_shell=False,
        )
    del tree.hydra
    return tree


OF_STUDIES = ("seed", "study", "crossplay", "output")
"""Keys that an arm cannot set: they would be ignored."""


def arm_configs(config: Config) -> dict[str, dict[int, Config]]:
    """The config of each run of a study, `[arm][seed]`.

    Each composes the experiment again with the command line's overrides, then the arm's, then
    the seed, so an arm's overrides take precedence. Raises `ComityError` if composing again
    does not reproduce `config` (its files or fields were changed since), because the arms would
    then belong to another experiment.
    """
    if config.study is None:
        raise ComityError("this config has no study")
    origin = config.composition
    changed = differences(config, compose(origin.name, origin.overrides, origin.config_dir))
    if changed:
        raise ComityError(
            f"composing {config.name!r} again changes {', '.join(changed)}; restore its config "
            "files or start a new study"
        )
    arms: dict[str, dict[int, Config]] = {}
    for arm, changes in config.study.arms.items():
        for change in changes:
            key = change.lstrip("+~").partition("=")[0]
            if key.partition(".")[0] in OF_STUDIES:
                raise ComityError(
                    f"arm {arm!r}: {key} is of the whole study, and no arm can set it"
                    + ("; write study.seeds" if key == "seed" else "")
                )
        single = [*origin.overrides, *changes, "study=null", "crossplay=null"]
        try:
            arms[arm] = {
                seed: compose(origin.name, [*single, f"seed={seed}"], origin.config_dir)
                for seed in config.study.seeds
            }
        except ComityError as error:
            raise ComityError(f"arm {arm!r}: {error}") from error
    return arms


EXPERIMENT = Kind("config", "experiment", Config, from_omegaconf)
"""The configs of `comity train`."""


def differences(one: Any, other: Any) -> list[str]:
    """Dotted keys in which two configs of a kind differ, except `MOVABLE`."""

    def flat(config: Any) -> dict[str, Any]:
        tree = dataclasses.asdict(config)
        for key in MOVABLE:
            del tree[key]
        return dict(_leaves(tree))

    left, right = flat(one), flat(other)
    missing = object()
    return sorted(
        key
        for key in left.keys() | right.keys()
        if left.get(key, missing) != right.get(key, missing)
    )


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def register_schema(folder: str | None = None) -> None:
    """Registers `comity_schema`, the presets and user-defined components with Hydra.

    `folder`: the user's config folder.
    """
    _register_ours()
    own_parts.register(folder)


@cache
def _register_ours() -> None:
    """Registers the project's own configs, once per process."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(name="comity_schema", node=Schema, provider="comity")
    store.store(name="population_schema", node=PopulationSchema, provider="comity")
    presets.register()


def name_the_arm(plain: Any) -> None:
    """Gives a study without arms one arm: the experiment itself, with all seeds."""
    study = plain.get("study") if isinstance(plain, dict) else None
    if isinstance(study, dict) and "arms" not in study:
        name = re.sub(r"[^\w.-]+", "-", str(plain.get("name", ""))).lstrip(".")
        study["arms"] = {name or "experiment": []}


def with_study(overrides: Sequence[str]) -> list[str]:
    """The overrides, with `study.seeds=[0,1]` as `++study.seeds=[0,1]`; `crossplay.KEY` likewise.

    That changes an existing study or cross-play, and creates one in an experiment without.
    """
    for one in overrides:
        if re.fullmatch(r"\+{0,2}study\.seeds=\d+", one):
            raise ComityError(f"{one}: study.seeds must be a list, as in 'study.seeds=[0,1,2]'")
    ours = re.compile(r"(study|crossplay)\.\w+=")
    return [f"++{one}" if ours.match(one) else one for one in overrides]
