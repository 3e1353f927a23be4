"""Experiments: YAML files, and generated presets for every combination in a published study.

As files, the presets would be hundreds of near-copies.
"""

from typing import Any

from comity.config.groups import Sentences, folders, options
from comity.config.presets import moral, negotiation, populations, seeds

FIRST = ("smoke", "demo", "ipd", "memory-one", "demo-full")
"""Experiments for getting started, in this order."""


def experiments() -> Sentences:
    """Descriptions of all experiments: those for getting started, other files, presets."""
    found = options("experiment")
    found = {name: found[name] for name in (*FIRST, *sorted(found.keys() - {*FIRST}))}
    return found | in_folders() | sentences()


def in_folders() -> Sentences:
    """Descriptions of experiments in files of folders (`moral/study`)."""
    return {
        f"{folder}/{name}": sentence
        for folder in sorted(folders("experiment"))
        for name, sentence in options(f"experiment/{folder}").items()
    }


def sentences() -> Sentences:
    """Descriptions of all generated presets."""
    return moral.sentences() | negotiation.sentences() | seeds.sentences()


class _Shared(dict[str, Any]):
    """A config store that is not copied.

    Hydra deep-copies its whole store for every composition, which takes half of the time, and
    copies each loaded config again anyway.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


def register() -> None:
    """Registers the presets with Hydra: options of the groups `experiment` and `population`."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.repo = _Shared(store.repo)
    for name, node in (*moral.moral_nodes(), *negotiation.nodes(), *seeds.seed_nodes()):
        folder, _, cell = name.rpartition("/")
        store.store(
            group=f"experiment/{folder}",
            name=cell,
            node=node,
            package="_global_",
            provider="comity",
        )
    for name, node in populations.nodes():
        store.store(group="population", name=name, node=node, package="_global_", provider="comity")
