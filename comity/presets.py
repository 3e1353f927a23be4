"""Experiments that are combinations of parts, one for every cell of a published study.

The parts are config groups like any other (`comity/configs/moral/*`); a cell is one of each.
Written out as files the cells would be a hundred that differ in two words.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from comity import negotiation_presets
from comity.catalog import options

FOLDERS = {
    "": "corrected",
    "as-published/": "as-published",
    "as-executed/": "as-executed",
    "small/": "small",
}
"""Where the cells of each version of the moral-alignment study stand below `moral/`."""


ROBUST_SEEDS = (0, 42, 1337)
"""Of every experiment of arXiv 2511.19405 unless `SEEDS` has its own."""
ADVERSARIES = (0, 1, 42, 123, 1111, 1337, 4321, 9999)

SEEDS = {
    **{
        f"robust/split_no_comm_naive_{m}": (*ROBUST_SEEDS, 1, 123)
        for m in ("qwen3_8b", "llama_3_1_8b")
    },
    "robust/tas_rps_adv_vs_fixed_ad_align": ADVERSARIES,
    "robust/tas_rps_adv_margin_vs_fixed_ad_align": ADVERSARIES,
    # The config's seed, then those of the plots.
    "myopic/ipd_overt": (87, 155, 256, 856),
    "myopic/ipd_covert": (1000, 123, 657, 934),
    "myopic/ipd_covert_restricted": (1000, 85, 105, 945),
    "myopic/negotiation_game": (344, 645, 42, 1003, 1000),
}
"""Published seeds of the negotiation studies, by experiment."""


def published_seeds(experiment: str) -> tuple[int, ...]:
    """The seeds that an experiment was published with; () where it was one, or none is known."""
    submitted = experiment.startswith("robust/submission")
    usual = ROBUST_SEEDS if experiment.startswith("robust/") and not submitted else ()
    return SEEDS.get(experiment, usual)


def seed_studies() -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, experiment and seeds of every study that is an experiment with its published seeds."""
    for name in negotiation_presets.sentences():
        study, _, cell = name.partition("/")
        seeds = () if cell.startswith("small/") else published_seeds(name)
        if seeds:
            yield f"{study}/seeds/{cell}", name, seeds


def seed_nodes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every such study's name and its config."""
    nodes = dict(negotiation_presets.nodes())
    for name, experiment, seeds in seed_studies():
        arms: dict[str, list[str]] = {experiment.rpartition("/")[2]: []}
        own = {"name": name.replace("/", "-"), "study": {"seeds": list(seeds), "arms": arms}}
        yield name, {**nodes[experiment], **own}


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

    negotiation = negotiation_presets.sentences()
    negotiation |= {
        name: f"{negotiation[experiment]} With its seeds: {', '.join(map(str, seeds))}."
        for name, experiment, seeds in seed_studies()
    }
    return negotiation | {
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
    for name, node in (*moral_nodes(), *negotiation_presets.nodes(), *seed_nodes()):
        folder, _, cell = name.rpartition("/")
        store.store(
            group=f"experiment/{folder}",
            name=cell,
            node=node,
            package="_global_",
            provider="comity",
        )
