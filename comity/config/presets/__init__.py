"""Experiments: files, and presets that combine the parts of a published study.

Written out as files, the presets would be hundreds that differ in two words.
"""

from typing import Any

from comity.config.groups import Sentences, folders, options
from comity.config.presets import moral, negotiation, seeds

FIRST = ("smoke", "demo", "ipd", "memory-one", "demo-full")
"""What to begin with, in this order."""


def experiments() -> Sentences:
    """Every experiment with its sentence: what to begin with, other files, presets."""
    found = options("experiment")
    found = {name: found[name] for name in (*FIRST, *sorted(found.keys() - {*FIRST}))}
    return found | in_folders() | sentences()


def in_folders() -> Sentences:
    """The experiments in files of folders (`moral/study`)."""
    return {
        f"{folder}/{name}": sentence
        for folder in sorted(folders("experiment"))
        for name, sentence in options(f"experiment/{folder}").items()
    }


def sentences() -> Sentences:
    """The sentence of every preset in `comity list experiments`."""
    return moral.sentences() | negotiation.sentences() | seeds.sentences()


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
    for name, node in (*moral.moral_nodes(), *negotiation.nodes(), *seeds.seed_nodes()):
        folder, _, cell = name.rpartition("/")
        store.store(
            group=f"experiment/{folder}",
            name=cell,
            node=node,
            package="_global_",
            provider="comity",
        )
