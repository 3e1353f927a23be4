"""Restricts Hydra so that configs are data, never code: a shared config folder is untrusted.

Plain Hydra lets a config instantiate classes (`hydra.callbacks`), set environment variables,
write log files, search packages for configs, and read the environment (`${oc.env:HOME}`).
Experiments need none of that, so it is refused in files, in their defaults lists and packages,
in overrides and in the arms of a study. Allowed is the name of a launcher or sweeper
(`hydra/launcher=submitit_slurm`); its parameters are accepted on the command line only.
"""

import copy
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import (
    ImportlibResourcesConfigSource,
)
from hydra._internal.defaults_list import Overrides, create_defaults_list
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from comity.config import own_parts
from comity.config.yaml_files import check_references, read_yaml
from comity.errors import ComityError

PACKAGE = "comity.configs"
"""The project's config groups and experiments."""

CHOSEN = ("launcher", "sweeper")
"""Hydra's groups in which a config may select an option by name."""

WHY = (
    "settings of Hydra can run code and are not allowed; only a launcher or sweeper may be "
    "selected, by name: hydra/launcher=NAME, for a study or with --multirun"
)


class PackageConfigs(ImportlibResourcesConfigSource):
    """The configs of an installed package, each of which is read once per process."""

    @staticmethod
    def scheme() -> str:
        """The scheme of its search paths."""
        return "comity-package"

    def load_config(self, config_path: str) -> ConfigResult:
        """A copy of the file's config; Hydra changes what it gets."""
        return copy.deepcopy(_read_once(self.provider, self.path, config_path))

    def is_config(self, config_path: str) -> bool:
        """Whether the package has this file."""
        return _exists(self.path, self._normalize_file_name(config_path), False)

    def is_group(self, config_path: str) -> bool:
        """Whether the package has this folder."""
        return _exists(self.path, config_path, True)


@cache
def _read_once(provider: str, package: str, config_path: str) -> ConfigResult:
    return ImportlibResourcesConfigSource.load_config(
        PackageConfigs(provider, f"{PackageConfigs.scheme()}://{package}"), config_path
    )


@cache
def _exists(package: str, name: str, folder: bool) -> bool:
    found = resources.files(package).joinpath(name)
    return found.is_dir() if folder else found.is_file()


class UserFolder(FileConfigSource):
    """A user's config folder, whose files are checked when they are read."""

    @staticmethod
    def scheme() -> str:
        """The scheme of its search paths."""
        return "comity-folder"

    def load_config(self, config_path: str) -> ConfigResult:
        """The file's config for Hydra; `ComityError` for anything that is not allowed."""
        file = Path(self.path, self._normalize_file_name(config_path))
        if not file.resolve().is_relative_to(Path(self.path).resolve()):
            raise ComityError(f"{file} is outside the config folder {self.path}; copy it there")
        if Path(config_path).parts[0] == "hydra":
            raise ComityError(f"{file}: {WHY}")
        tree = read_yaml(file)
        header = self._get_header_dict(file.read_text(encoding="utf-8")[:512])
        check_file(file, tree, header["package"])
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://{self.path}",
            config=OmegaConf.create({} if tree is None else tree),
            header=header,
        )


def check_file(file: Path, tree: Any, package: str | None) -> None:
    """Raises `ComityError` for a user's file that configures Hydra or reads the environment."""
    check_references(tree, str(file))
    if _of_hydra(package or ""):
        raise ComityError(f"{file}: {WHY}")
    if not isinstance(tree, dict):
        return
    if any(_of_hydra(str(key)) for key in tree):
        raise ComityError(f"{file}: {WHY}")
    entries = tree.get("defaults")
    for entry in entries if isinstance(entries, list) else ():
        for key, value in entry.items() if isinstance(entry, dict) else ((entry, ""),):
            group, _, packages = str(key).split(" ")[-1].partition("@")
            chosen = group.lstrip("/") in {f"hydra/{part}" for part in CHOSEN} and not packages
            by_name = chosen and isinstance(value, str) and re.fullmatch(r"[\w-]+", value)
            if (_of_hydra(group) or any(map(_of_hydra, packages.split(":")))) and not by_name:
                raise ComityError(f"{file}: defaults: {WHY}")


def check_overrides(overrides: Sequence[str], chooses: bool = False) -> None:
    """Raises `ComityError` for overrides that configure Hydra.

    `chooses`: they are from the command line, which may select a launcher and a sweeper and set
    their parameters.
    """
    for one in OverridesParser.create().parse_overrides(list(overrides)):
        names = [one.key_or_group, *(one.package or "").split(":")]
        if not any(map(_of_hydra, names)):
            continue
        if not (chooses and one.package is None and _chooses(one)):
            raise ComityError(f"{one.input_line}: {WHY}")


def _chooses(override: Override) -> bool:
    """Whether it selects a launcher or sweeper, or sets a plain parameter of one."""
    value = override.value()
    if override.key_or_group in {f"hydra/{part}" for part in CHOSEN}:
        return isinstance(value, str) and re.fullmatch(r"[\w-]+", value) is not None
    parts = override.key_or_group.split(".")
    named = len(parts) > 2 and parts[1] in CHOSEN and not any(p.startswith("_") for p in parts)
    # A mapping could name a class to instantiate.
    values = value if isinstance(value, list) else [value]
    return named and all(isinstance(item, str | int | float | None) for item in values)


def _of_hydra(key: str) -> bool:
    """Whether a key, group or package belongs to Hydra."""
    return re.split(r"[./\[@]", key.strip().lstrip("/"))[0].strip() == "hydra"


class CheckedLoader(ConfigLoaderImpl):  # type: ignore[misc]
    """Hydra's loader; checks the composed config before Hydra acts on it in a multirun."""

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        """The config with Hydra's node; `ComityError` if a config changed that node."""
        config = super().load_configuration(*args, **kwargs)
        tree: Any = OmegaConf.to_container(config)
        hydras = tree.pop("hydra")
        check_references(tree)
        given = [one for one in hydras["overrides"]["hydra"] if not one.startswith("hydra.mode=")]
        choices = hydras["runtime"]["choices"]
        given += [f"hydra/{part}={choices[f'hydra/{part}']}" for part in CHOSEN]
        if _settings(hydras) != _untouched(tuple(given)):
            raise ComityError(WHY)
        if isinstance(tree.get("output"), str):  # Hydra creates a folder below it.
            config.output = os.path.expanduser(tree["output"])
        return config


def _settings(hydras: dict[str, Any]) -> dict[str, Any]:
    """The settings in Hydra's node, without job information that it fills in."""
    information = ("override_dirname", "config_name", "name", "id", "num")
    job = {key: value for key, value in hydras["job"].items() if key not in information}
    left = {k: v for k, v in hydras.items() if k not in ("overrides", "runtime", "mode")}
    return {**left, "job": job}


@lru_cache(maxsize=8)
def _untouched(overrides: tuple[str, ...]) -> dict[str, Any]:
    """The settings in Hydra's node with these overrides and no config."""
    loader = ConfigLoaderImpl(search_path(None))
    config = loader.load_configuration(None, list(overrides), run_mode=RunMode.MULTIRUN)
    tree: Any = OmegaConf.to_container(config)
    return _settings(tree["hydra"])


def search_path(folder: str | None) -> ConfigSearchPathImpl:
    """The search path of configs: Hydra's, then the user's folder, then the project's."""
    plugins = Plugins.instance()  # discovers the config sources
    path = ConfigSearchPathImpl()
    plugins.register(PackageConfigs)
    path.append("hydra", f"{PackageConfigs.scheme()}://hydra.conf")
    if folder is not None:
        plugins.register(UserFolder)
        path.append("main", f"{UserFolder.scheme()}://{os.path.abspath(folder)}")
    ours = f"{PackageConfigs.scheme()}://{PACKAGE}"
    path.append("comity" if folder is not None else "main", ours)
    path.append("schema", "structured://")
    return path


def new_hydra(folder: str | None) -> Hydra:
    """A new Hydra on this search path, as the process's global instance."""
    from hydra import version

    version.setbase("1.3")
    hydra = Hydra.create_main_hydra2("comity", search_path(folder))
    hydra.config_loader = CheckedLoader(search_path(folder))
    return hydra


def compose_ours(primary: str, overrides: Sequence[str]) -> DictConfig:
    """A composition of the project's configs alone, without Hydra's settings.

    In a fifth of the time, once the same options were composed before.
    """
    from hydra import version

    version.setbase("1.3")
    loader = ConfigLoaderImpl(search_path(None))
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    loader.validate_sweep_overrides_legal(parsed, RunMode.RUN, from_shell=False)
    values = Overrides(loader.repository, parsed).config_overrides
    options = tuple(one.input_line for one in parsed if one not in values)
    # User-defined options of one name may differ from call to call.
    chosen = _with_options.__wrapped__ if own_parts.registered() else _with_options
    tree = copy.deepcopy(chosen(primary, options))
    loader._apply_overrides_to_config(values, tree)
    return tree


@lru_cache(maxsize=128)
def _with_options(primary: str, options: tuple[str, ...]) -> DictConfig:
    """The config with these options of its groups, before any value is set."""
    loader = ConfigLoaderImpl(search_path(None))
    repository = CachingConfigRepository(loader.repository)
    defaults = create_defaults_list(
        repository,
        primary,
        OverridesParser.create().parse_overrides(list(options)),
        prepend_hydra=False,
        skip_missing=False,
    )
    tree = loader._compose_config_from_defaults_list(defaults.defaults, repository)
    OmegaConf.set_struct(tree, True)
    return tree


@contextmanager
def beside_hydra() -> Iterator[None]:
    """Allows a nested use of Hydra, as when a multirun's job composes a study's arms."""
    instance = GlobalHydra.instance()
    outer, instance.hydra = instance.hydra, None
    try:
        yield
    finally:
        instance.hydra = outer
