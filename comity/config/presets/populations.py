"""Presets of populations: those of two studies, and small ones to begin with.

`majority-TYPE` are the populations of arXiv 2403.04202, `dyads` the pairs of arXiv 2301.08491.
"""

from collections.abc import Iterator
from itertools import combinations_with_replacement, product
from typing import Any

from comity.config.groups import Sentences

MAJORITIES = ("S", "UT", "aUT", "DE", "mDE", "VEe", "Vie", "VEk", "Vagg")
"""The types of the core study; a population has eight of one and one of each other."""
MAJORITY = 8

LEARNERS = ("S", "UT", "DE", "VEe", "VEk", "VM")
"""The learner types of the dyadic study, which make 21 pairs."""
BASELINES = ("AC", "AD", "TFT", "Random")
"""The fixed strategies that every one of them also meets there."""

BETAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Weights of equality in mixed virtue in the dyadic study's sweep."""


def majority(kind: str) -> str:
    """The composition with a majority of a type: 8xS_1xUT_..., the majority first."""
    others = [other for other in MAJORITIES if other != kind]
    return "_".join([f"{MAJORITY}x{kind}", *(f"1x{other}" for other in others)])


def dyads() -> str:
    """All pairs of the dyadic study: learners among each other, then with fixed strategies."""
    pairs = [*combinations_with_replacement(LEARNERS, 2), *product(LEARNERS, BASELINES)]
    return paired(pairs)


def paired(pairs: list[tuple[str, str]]) -> str:
    """A composition for fixed matching: agents 0 and 1, 2 and 3 and so on are the pairs."""
    return "_".join(f"1x{one}_1x{other}" for one, other in pairs)


def beta_sweep() -> tuple[str, dict[str, Any]]:
    """Mixed virtue with every weight against all learners of the dyadic study; its types.

    Against mixed virtue it meets its own weight.
    """
    types = {f"VM{beta}": {"name": "mixed_virtue", "beta": beta} for beta in BETAS}
    pairs = [(one, one if other == "VM" else other) for one in types for other in LEARNERS]
    return paired(pairs), types


DYAD: dict[str, Any] = {
    "defaults": [{"override /game": "prisoners_dilemma_2_1"}, "_self_"],
    "iterations": 10_000,
    "runs": 100,
    "matching": "fixed",
    "state": "pair",
    "learner": "tabular",
    "tabular": {"epsilon": 1.0, "epsilon_last": 0.0},
    "controls": {"random_matching": False, "random_selection": False},
}
"""The settings of the dyadic study."""

LANGUAGE_MODELS: dict[str, Any] = {
    "defaults": [{"override /model": "smollm2-135m"}, "_self_"],
    "agents": "2xLLM:S_2xLLM:UT",
    "iterations": 896,
    "runs": 4,
    # Labels in one order: few distinct prompts. Each is computed once between two updates, so that
    # the time grows with the number of updates and hardly with that of episodes.
    "prompt": {"mention_order": "given", "answer_order": "given"},
    "language_model": {"selection_labels": "given", "episodes_per_update": 64},
    # Choices can be learned only once moves differ. Until then their advantages are noise: with a
    # bonus of 0.1 and half the batch, 5 of 12 agents settled on a place.
    "algorithm": {"entropy": 0.4, "entropy_turns": ["select"]},
    "optimizer": {"learning_rate": 1e-3},
    "controls": {"random_matching": False},
    "checkpoint": {"every": 224},
    "record": {"metrics_every": 64, "statistics_every": 1},
}
"""Language models in a size that finishes on two cores."""

_STUDY = "tabular Q-learners in fixed pairs, 100 runs of 10000 games (arXiv 2301.08491)"


def _presets() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, description and config of every preset."""
    yield (
        "quick",
        "Three learners that choose their partners: 5 runs of 4000 episodes, under a minute.",
        {"agents": "1xUT_1xaUT_1xDE", "iterations": 4000, "runs": 5},
    )
    for kind in MAJORITIES:
        yield (
            f"majority-{kind}",
            f"{majority(kind)}: 16 deep Q-learners, 20 runs of 30000 episodes (arXiv 2403.04202).",
            {"agents": majority(kind)},
        )
    yield (
        "language-models",
        "Two selfish and two utilitarian language models: 4 runs of 896 episodes. smollm2-135m.",
        LANGUAGE_MODELS,
    )
    yield "dyad", f"One pair (agents=1xS_1xUT): {_STUDY}.", DYAD
    every = {**DYAD, "agents": dyads()}
    yield "dyads", f"All 21 pairs of six types, and each against four strategies: {_STUDY}.", every
    yield (
        "dyads-decay",
        "The same with a learning rate that decays by 0.0005 per game, as documented there.",
        {**every, "tabular": {**DYAD["tabular"], "learning_rate_decay": 0.0005}},
    )
    yield (
        "dyads-constant",
        "The same with the constant exploration 0.05 of its code, instead of the paper's 1 to 0.",
        {**every, "tabular": {"epsilon": 0.05, "epsilon_last": None}},
    )
    sweep, types = beta_sweep()
    yield (
        "beta-sweep",
        f"Mixed virtue with beta 0 to 1 against the six types: {_STUDY}.",
        {**DYAD, "agents": sweep, "types": types},
    )


def presets() -> Sentences:
    """Descriptions of all presets by name."""
    return {name: sentence for name, sentence, _ in _presets()}


def nodes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every preset's name and its config."""
    for name, _, node in _presets():
        yield name, {"name": name, **node}
