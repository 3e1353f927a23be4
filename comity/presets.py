"""Experiments that are combinations of parts, one for every cell of a published study.

The parts are config groups like any other (`comity/configs/moral/*`); a cell is one of each.
Written out as files the cells would be a hundred that differ in two words.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from comity import negotiation_presets
from comity.catalog import options

FOLDERS = {"": "corrected", "as-executed/": "as-executed", "small/": "small"}
"""Where the cells of each version of the moral-alignment study stand below `moral/`."""


def moral_cells() -> Iterator[tuple[str, dict[str, str]]]:
    """Every cell's name (`moral/small/game-vs-random`), and its option of each group."""
    regimes, opponents = options("moral/regime"), options("moral/opponent")
    for (folder, version), regime, opponent in product(FOLDERS.items(), regimes, opponents):
        yield (
            f"moral/{folder}{regime}-vs-{opponent}",
            {"version": version, "opponent": opponent, "regime": regime},
        )


def sentences() -> dict[str, str]:
    """What `comity list experiments` says of every cell."""
    versions = options("moral/version")
    regimes, opponents = options("moral/regime"), options("moral/opponent")

    def first(sentence: str) -> str:
        return sentence.split(";")[0].split(",")[0].rstrip(".")

    return negotiation_presets.sentences() | {
        name: f"{first(regimes[part['regime']])}; {first(opponents[part['opponent']]).lower()}. "
        f"{versions[part['version']]}"
        for name, part in moral_cells()
    }


def moral_nodes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every moral cell's name and its config."""
    for name, parts in moral_cells():
        defaults: list[Any] = [{f"/moral/{group}": option} for group, option in parts.items()]
        yield name, {"defaults": [*defaults, "_self_"], "name": name.replace("/", "-")}


class _Shared(dict[str, Any]):
    """A store of configs that Hydra's copies of itself share.

    Hydra copies all that it knows whenever it composes, and a config once more when it is
    loaded; the first of these is half of the time that a composition takes, for nothing.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


def register() -> None:
    """Makes the cells known to Hydra as options of the group `experiment`."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.repo = _Shared(store.repo)
    for name, node in (*moral_nodes(), *negotiation_presets.nodes()):
        folder, _, cell = name.rpartition("/")
        store.store(
            group=f"experiment/{folder}",
            name=cell,
            node=node,
            package="_global_",
            provider="comity",
        )
