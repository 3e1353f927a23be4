"""Composes the configs of populations and checks them.

`compose_population` composes a preset or a composition with overrides as `comity population` does.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from comity.config.compose import Kind, composed, register_schema
from comity.config.errors import plain_errors
from comity.config.limits import check_counts, check_limits, check_name, check_texts
from comity.config.population_schema import PopulationConfig
from comity.config.presets.populations import presets
from comity.config.schema import Composition
from comity.config.yaml_files import check_references, check_resolved, read_yaml
from comity.errors import ComityError

UNUSED = ("initial_state", "illegal")
"""Keys of iterated games that a population has no use for."""


def compose_population(words: Sequence[str] = ()) -> PopulationConfig:
    """The config of `comity population WORDS`: a preset or a composition, then overrides."""
    from comity.config.sources import check_overrides

    name, overrides = split_words(words)
    register_schema()
    with plain_errors(schema=PopulationConfig):
        check_overrides(overrides)
        chosen = [f"{POPULATION.group}={name}"] if name else []
        tree = composed(POPULATION.primary, [*chosen, *overrides], None)
    return from_omegaconf(tree, Composition(name, list(overrides)))


def split_words(words: Sequence[str]) -> tuple[str, list[str]]:
    """The preset ("": none) and the overrides of a command line.

    A first word that is neither a preset nor an override is a composition.
    """
    if not words or "=" in words[0] or words[0][:1] in ("~", "+"):
        return "", with_types(words)
    first, *others = words
    if first in presets():
        return first, with_types(others)
    if not re.match(r"\s*-?\d", first):
        # Most likely a misspelled preset; a composition begins with a count.
        from comity.errors import nearest

        raise ComityError(
            f"{first!r} is neither a composition (COUNTxTYPE items joined by _, such as "
            f"1xUT_1xaUT_1xDE) nor a preset; {nearest(first, presets())}"
        )
    return "", [text_override("agents", first), *with_types(others)]


def text_override(key: str, text: str) -> str:
    """`KEY=TEXT`, quoted where Hydra would read something else than the text."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        plain = OverridesParser.create().parse_override(f"{key}={text}")
        if not plain.is_sweep_override() and str(plain.value()) == text:
            return f"{key}={text}"
    except HydraException:
        pass
    escaped = text.replace('"', '\\"')
    return f'{key}="{escaped}"'


def with_types(overrides: Sequence[str]) -> list[str]:
    """The overrides, with new keys of `types` allowed: `types.VM.beta=0.2`."""
    return [f"++{one}" if one.startswith(("types.", "types=")) else one for one in overrides]


def load_population(path: Path) -> PopulationConfig:
    """The config in a population's `config.yaml`."""
    tree = read_yaml(Path(path))
    if not isinstance(tree, dict):
        raise ComityError(f"{path} is not a config: it must be a mapping")
    check_resolved(tree, str(path))
    with plain_errors(str(path), PopulationConfig):
        return _complete(tree)


def from_omegaconf(tree: DictConfig, composition: Composition | None = None) -> PopulationConfig:
    """The checked config of a composed tree."""
    with plain_errors(schema=PopulationConfig):
        check_references(OmegaConf.to_container(tree))
        plain = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
        check_resolved(plain)
        _refuse_rounds(composition)
        return _complete(plain, composition)


POPULATION = Kind("population", "population", PopulationConfig, from_omegaconf)
"""The configs of `comity population`."""


def _refuse_rounds(composition: Composition | None) -> None:
    """Raises `ComityError` for settings of iterated games, which a population does not have."""
    for one in composition.overrides if composition is not None else ():
        key = one.lstrip("+~").partition("=")[0]
        if re.match(rf"game[./](length|{'|'.join(UNUSED)})\b", key):
            raise ComityError(
                f"{one}: a population plays its game once with every partner; leave it out"
            )


def _complete(plain: Any, composition: Composition | None = None) -> PopulationConfig:
    """The checked config of plain values."""
    if isinstance(plain.get("game"), dict):
        plain["game"] = _single(plain["game"])
    schema = OmegaConf.structured(PopulationConfig)
    if plain.get("model") is not None:
        from comity.config.schema import ModelConfig

        schema.model = OmegaConf.structured(ModelConfig)
    config = OmegaConf.to_object(OmegaConf.merge(schema, plain))
    assert isinstance(config, PopulationConfig)
    if composition is not None:
        config.composition = composition
    config.output = os.path.expanduser(config.output)
    if config.model is not None:
        config.model.name = os.path.expanduser(config.model.name)
    check_population(config)
    return config


def _single(game: dict[str, Any]) -> dict[str, Any]:
    """The game's block with one round; what is left out has no meaning in a population."""
    if "length" not in game:
        return game
    kept = {key: value for key, value in game.items() if key not in UNUSED}
    return {**kept, "length": {"name": "fixed", "rounds": 1}}


def check_population(config: PopulationConfig) -> None:
    """Raises `ComityError` for values out of range; what agents need is checked when they are made.

    The composition, the types and the game are checked by `comity.experiments.populations`.
    """
    if not config.agents:
        raise ComityError(
            "name a composition, such as 1xUT_1xaUT_1xDE (key: agents), or a preset of comity list "
            "populations"
        )
    check_limits(config)
    if config.model is not None:
        check_limits(config.model, "model.")
    check_texts({"name": config.name, "agents": config.agents, "types": config.types})
    check_name("name", config.name)
    check_counts(config.game, "game")
    if not re.search(r"[^\W_]", config.name) or re.search(r"[/\\]", config.name):
        raise ComityError(
            f"name: {config.name!r} is not a valid folder name; use letters or digits and no "
            "slashes"
        )
    if not isinstance(config.game.get("name"), str):
        raise ComityError("game: needs a name; choose one of `comity list games`")
    for name, block in config.types.items():
        if not isinstance(block, dict) or not block:
            raise ComityError(
                f"types.{name}: must be a reward with its parameters, such as "
                f"'types.{name}={{name: peers, others: -1}}'"
            )
        if not re.fullmatch(r"[A-Za-z][\w.-]*", name) or re.search(r"_\d+x", name):
            raise ComityError(
                f"types: {name!r} is not a valid type; begin with a letter, then letters, digits, "
                ". and -"
            )
