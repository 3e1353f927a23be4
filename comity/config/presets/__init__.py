"""Experiments: files, and presets that combine the parts of a published study.

Written out as files, the presets would be hundreds that differ in two words.
"""

from typing import Any

from comity.config.groups import Sentences, folders, options
from comity.config.presets import moral, negotiation, seeds


def experiments() -> Sentences:
    """Experiments in files, also in folders, and the presets that are made of parts."""
    found = options("experiment")
    for folder in sorted(folders("experiment")):
        inside = options(f"experiment/{folder}")
        found |= {f"{folder}/{name}": sentence for name, sentence in inside.items()}
    return found | sentences()


def sentences() -> dict[str, str]:
    """The sentence of every preset in `comity list experiments`."""
    versions = options("moral/version")
    regimes, opponents = options("moral/regime"), options("moral/opponent")

    def first(sentence: str) -> str:
        return sentence.split(";")[0].split(",")[0].rstrip(".")

    split = negotiation.sentences()
    split |= {
        name: f"{split[experiment]} With its seeds: {', '.join(map(str, numbers))}."
        for name, experiment, numbers in seeds.seed_studies()
    }
    return split | {
        name: f"{first(regimes[part['regime']])}; {first(opponents[part['opponent']]).lower()}. "
        f"{versions[part['version']]}"
        for name, part in moral.moral_cells()
    }


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
