"""Presets of the moral-alignment study: one for every regime, opponent and version.

Regimes, opponents and versions are config groups (`comity/configs/moral/*`).
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from comity.config.groups import Sentences, options
from comity.config.presets.describe import describe, gists

FOLDERS = {
    "": "corrected",
    "as-published/": "as-published",
    "as-executed/": "as-executed",
    "small/": "small",
}
"""The folder of each version's presets below `moral/`."""

MODELS = {
    "corrected": "gemma-2-2b-it",
    "as-published": "gemma-2-2b-it",
    "as-executed": "gemma-2-2b-it",
    "small": "smollm2-135m",
}
"""The model of each version."""


def moral_cells() -> Iterator[tuple[str, dict[str, str]]]:
    """Every preset's name (`moral/small/game-vs-random`), and its option of each group."""
    regimes, opponents = options("moral/regime"), options("moral/opponent")
    for (folder, version), regime, opponent in product(FOLDERS.items(), regimes, opponents):
        yield (
            f"moral/{folder}{regime}-vs-{opponent}",
            {"version": version, "opponent": opponent, "regime": regime},
        )


def moral_nodes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every preset's name and its config."""
    for name, parts in moral_cells():
        defaults: list[Any] = [{f"/moral/{group}": option} for group, option in parts.items()]
        yield name, {"defaults": [*defaults, "_self_"], "name": name.replace("/", "-")}


def sentences() -> Sentences:
    """Descriptions of all presets."""
    regimes, opponents = gists("moral/regime"), gists("moral/opponent")
    versions = gists("moral/version")
    return {
        name: describe(
            name,
            MODELS[part["version"]],
            regimes[part["regime"]],
            opponents[part["opponent"]],
            versions[part["version"]],
        )
        for name, part in moral_cells()
    }
