"""Launchers of Hydra: which there are, and whether one can be used as it is given."""

import importlib.util
import sys
from collections.abc import Sequence

from comity.errors import ComityError

PLUGINS = {
    "joblib": ("hydra_joblib_launcher", "joblib"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_submitit_launcher", "slurm"),
}
"""Launchers with their package below `hydra_plugins` and the extra that installs it."""


def split_launcher(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides that choose and set a launcher, and the others.

    Raises `ComityError` for a launcher that is unknown or not installed, and for parameters that
    it does not have.
    """
    chosen = [one for one in overrides if one.startswith("hydra/launcher=")]
    given = [one for one in overrides if one.startswith("hydra.launcher.")]
    if given and not chosen:
        raise ComityError(f"{given[0]} sets a launcher; choose one: hydra/launcher=joblib")
    for one in chosen:
        check_launcher(one.partition("=")[2])
    if chosen:
        check_settings([*chosen, *given])
    others = [one for one in overrides if one not in chosen and one not in given]
    return [*chosen, *given], others


def check_launcher(name: str) -> None:
    """Raises `ComityError` for a known launcher whose plugin is not installed."""
    package, extra = PLUGINS.get(name, ("", ""))
    if not package:
        return
    try:
        found = importlib.util.find_spec(f"hydra_plugins.{package}")
    except ModuleNotFoundError:  # There are no plugins at all.
        found = None
    if found is None:
        raise ComityError(
            f"hydra/launcher={name} is a plugin that is not installed; run: "
            f"{sys.executable} -m pip install 'comity[{extra}]'"
        )


def check_settings(launcher: Sequence[str]) -> None:
    """Raises `ComityError` for an unknown launcher, and for parameters that it does not have."""
    from hydra.types import RunMode

    from comity.config.errors import plain_errors
    from comity.config.sources import beside_hydra, check_overrides, new_hydra

    with plain_errors(), beside_hydra():
        check_overrides(launcher, chooses=True)
        loader = new_hydra(None).config_loader
        loader.load_configuration(None, ["hydra.mode=MULTIRUN", *launcher], RunMode.MULTIRUN)
