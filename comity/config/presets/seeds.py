"""Presets that run a negotiation experiment with all its published seeds."""

from collections.abc import Iterator
from typing import Any

from comity.config.groups import Sentences
from comity.config.presets import negotiation

ROBUST_SEEDS = (0, 42, 1337)
"""Seeds of the experiments of arXiv 2511.19405, except those in `SEEDS`."""
ADVERSARIES = (0, 1, 42, 123, 1111, 1337, 4321, 9999)
"""Seeds of the adversarial learners."""

SEEDS = {
    **{
        f"robust/split_no_comm_naive_{m}": (*ROBUST_SEEDS, 1, 123)
        for m in ("qwen3_8b", "llama_3_1_8b")
    },
    "robust/tas_rps_adv_vs_fixed_ad_align": ADVERSARIES,
    "robust/tas_rps_adv_margin_vs_fixed_ad_align": ADVERSARIES,
    # The seed in the published config, then those of the plots.
    "myopic/ipd_overt": (87, 155, 256, 856),
    "myopic/ipd_covert": (1000, 123, 657, 934),
    "myopic/ipd_covert_restricted": (1000, 85, 105, 945),
    "myopic/negotiation_game": (344, 645, 42, 1003, 1000),
}
"""Published seeds of the negotiation studies, by experiment."""


def published_seeds(experiment: str) -> tuple[int, ...]:
    """The published seeds of an experiment; () if it was run with one, or none is known."""
    submitted = experiment.startswith("robust/submission")
    usual = ROBUST_SEEDS if experiment.startswith("robust/") and not submitted else ()
    return SEEDS.get(experiment, usual)


def seed_studies() -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, experiment and seeds of every preset with published seeds."""
    for study, cells in negotiation.CELLS.items():
        for cell in cells:
            experiment = f"{study}/{cell.name}"
            if seeds := published_seeds(experiment):
                yield f"{study}/seeds/{cell.name}", experiment, seeds


def seed_nodes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every preset's name and its config."""
    nodes = dict(negotiation.nodes())
    for name, experiment, seeds in seed_studies():
        arms: dict[str, list[str]] = {experiment.rpartition("/")[2]: []}
        own = {"name": name.replace("/", "-"), "study": {"seeds": list(seeds), "arms": arms}}
        yield name, {**nodes[experiment], **own}


def sentences() -> Sentences:
    """Descriptions of all presets."""
    plain = negotiation.sentences()
    found = {}
    for name, experiment, seeds in seed_studies():
        few = f"Seeds {', '.join(map(str, seeds))}"
        found[name] = f"{few if len(seeds) <= 5 else f'{len(seeds)} seeds'}: {plain[experiment]}"
    return found
