"""Suggestions for unknown config keys: names from other libraries, and keys without their block.

Examples are `lr`, `gamma`, `grpo`, and `device=cuda` for `model.device=cuda`.
"""

import dataclasses
import difflib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from types import UnionType
from typing import Any, get_args

import yaml

from comity.config.groups import options
from comity.config.population_schema import PopulationConfig
from comity.config.schema import Composition, Config

SYNONYMS = {
    "lr": "optimizer.learning_rate",
    "max_grad_norm": "optimizer.gradient_clip",
    "grad_clip": "optimizer.gradient_clip",
    "lr_scheduler_type": "optimizer.schedule",
    "gamma": "algorithm.discount",
    "discount": "algorithm.discount",
    "beta": "algorithm.kl",
    "kl_coef": "algorithm.kl",
    "kl": "algorithm.kl",
    "ent_coef": "algorithm.entropy",
    "entropy_coef": "algorithm.entropy",
    "entropy": "algorithm.entropy",
    "epochs": "algorithm.epochs",
    "num_ppo_epochs": "algorithm.epochs",
    "baseline": "algorithm.baseline",
    "lora_r": "adapter.rank",
    "r": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "target_modules": "adapter.targets",
    "lora_target_modules": "adapter.targets",
    "load_in_4bit": "model.quantization=nf4",
    "gradient_checkpointing": "model.activation_checkpointing=always",
    "model_name": "model.name",
    "model_name_or_path": "model.name",
    "system_prompt": "model.system",
    "num_generations": "group_size",
    "batch_size": "matches",
    "num_episodes": "matches",
    "episodes": "matches",
    "steps": "iterations",
    "max_steps": "iterations",
    "num_train_epochs": "iterations",
    "rounds": "game.length.rounds",
    "turns": "game.length.rounds",
    "noise": "game.noise",
    "framing": "prompt.framing",
    "labels": "prompt.labels",
    "goal": "prompt.goal",
    "max_tokens": "answer.max_tokens",
    "max_new_tokens": "answer.max_tokens",
    "save_steps": "checkpoint.every",
    "output_dir": "output",
    "report_to": "sinks",
    "seeds": "study.seeds",
    "arms": "study.arms",
    "player": "seats=[learner,tit_for_tat]",
    "players": "seats=[learner,tit_for_tat]",
    "opponent": "seats=[learner,tit_for_tat]",
    "opponents": "seats=[learner,tit_for_tat]",
    "rewards": "reward",
    "env": "game",
    "seating": "seat_assignment",
    "past": "opponent_pool",
}
"""What other libraries, papers and earlier versions call a setting, and where it is here."""

POPULATION_SYNONYMS = {
    "lr": "deep_q.learning_rate or tabular.learning_rate",
    "learning_rate": "deep_q.learning_rate or tabular.learning_rate",
    "gamma": "deep_q.discount or tabular.discount",
    "composition": "agents",
    "population": "agents",
    "reward": "types.TYPE={name: REWARD}",
    "rewards": "types.TYPE={name: REWARD}",
    "num_runs": "runs",
    "num_iterations": "iterations",
    "hidden_size": "deep_q.hidden",
    "eps": "deep_q.epsilon or tabular.epsilon",
}
"""The same for populations, before `SYNONYMS`."""

ALGORITHMS = {
    "grpo": "it is algorithm=reinforce with a group baseline and clipped ratios: "
    "group_size=8 algorithm.baseline=leave_one_out algorithm.ratio_clip=0.2 algorithm.epochs=2",
    "rloo": "it is algorithm=reinforce with group_size=8 algorithm.baseline=leave_one_out "
    "algorithm.whiten=false",
    "a2c": "it is algorithm=reinforce with algorithm.estimator=gae (a critic)",
    "gae": "it is an estimator: algorithm=reinforce algorithm.estimator=gae",
    "vineppo": "it is algorithm=reinforce with algorithm.estimator=branches "
    "algorithm.alternatives=4",
    "pg": "it is algorithm=reinforce",
    "vpg": "it is algorithm=reinforce",
    "loqa": "its successor is algorithm=advantage_alignment",
    "lola": "for opponent shaping use algorithm=advantage_alignment",
}
"""Names of algorithms that are settings of ours."""

GROUPS = ("reward", "algorithm", "answer", "prompt", "game")
"""Blocks whose parameters depend on the chosen option."""


def elsewhere(key: str, schema: type = Config) -> str:
    """A suggestion for an unknown dotted key of a schema; "" if there is none.

    `optimizer.lr`: "write optimizer.learning_rate"; `reward.terms`: "only reward=weighted has it".
    """
    if is_key(key, schema):
        return ""  # It exists, in a block that is null.
    block, _, last = key.rpartition(".")
    if block in GROUPS and is_key(block, schema) and (choices := _choices(block, last)):
        return f"only {block}={' or '.join(choices)} has it"
    beside = [
        place.rpartition(".")[2] for place in _places(schema) if place.startswith(f"{block}.")
    ]
    if block and (close := difflib.get_close_matches(last, beside, n=1, cutoff=0.8)):
        return f"did you mean {close[0]}?"
    own = POPULATION_SYNONYMS if schema is PopulationConfig else {}
    if last.lower() in own:
        return f"write {own[last.lower()]}"
    target = SYNONYMS.get(last.lower())
    if target is not None and target.partition("=")[0] != key and _exists(target, schema):
        return f"write {target}"
    places = [
        place for place in _places(schema) if place.rpartition(".")[2] == last and place != key
    ]
    return f"write {' or '.join(places)}" if places else ""


def is_key(key: str, schema: type = Config) -> bool:
    """Whether a dotted key is a setting or a block of a schema."""
    return any(place == key or place.startswith(f"{key}.") for place in _places(schema))


def _exists(target: str, schema: type) -> bool:
    """Whether a schema has the key of a suggestion; a block's own keys depend on its option."""
    key = target.partition("=")[0]
    return is_key(key, schema) or is_key(key.partition(".")[0], schema)


def algorithm(name: str) -> str:
    """How to configure an algorithm of another name; "" if it is unknown."""
    return ALGORITHMS.get(name.lower().replace("-", "").replace("_", ""), "")


@cache
def _choices(group: str, parameter: str) -> list[str]:
    """The options of a config group that have a parameter."""
    return [name for name in options(group) if parameter in _option(group, name)]


def _option(group: str, name: str) -> dict[str, Any]:
    file = resources.files("comity.configs").joinpath(group, f"{name}.yaml")
    # User-defined components have no file.
    found = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    return found if isinstance(found, dict) else {}


@cache
def _places(schema: type) -> tuple[str, ...]:
    """All dotted keys of a schema's blocks with fixed fields."""
    return tuple(_keys(schema, ""))


def _keys(block: type, above: str) -> Iterator[str]:
    for field in dataclasses.fields(block):
        # A block may be null as well (`StudyConfig | None`).
        kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
        inner = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
        if not isinstance(inner, type):
            yield f"{above}{field.name}"
        elif inner is not Composition:
            yield from _keys(inner, f"{above}{field.name}.")
