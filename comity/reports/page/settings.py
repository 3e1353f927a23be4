"""The settings that the head of a page lists: only those that affect the run.

A config holds every setting, also those without effect on the run (the message length in a game
without messages). `applying` leaves these out, together with values that switch a setting off.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from comity.reports.formats import words

Json = dict[str, Any]

KEYS = (
    "model",
    "adapter",
    "game",
    "prompt",
    "answer",
    "seats",
    "api",
    "temperature",
    "iterations",
    "matches",
    "algorithm",
    "optimizer",
    "opponent_pool",
    "exploration",
)
OF_MODELS = ("model", "adapter", "answer", "temperature", "algorithm", "optimizer", "iterations")
"""Keys that say nothing where people and scripts play alone."""
NEUTRAL: Mapping[str, Mapping[str, Any]] = {
    "model": {"sharding": "none"},
    "adapter": {"dropout": 0.0, "dropout_in": "learning"},
    "game": {"noise": 0.0, "initial_state": "none"},
    "prompt": {"swap_labels": False, "state_error_rule": False},
    "algorithm": {
        "kl": 0.0,
        "entropy": 0.0,
        "epochs": 1,
        "minibatches": 1,
        "reward_scale": 1.0,
        "alternatives": 0,
        "visitation_discount": False,
    },
    "optimizer": {"warmup": 0, "weight_decay": 0.0},
}
"""Values that switch a setting off; it is not listed then."""
RULES_OF_ILLEGAL = ("illegal", "opponent_illegal", "other")
"""Keys of every reward, which its short description leaves out."""

_Unused = Callable[[Json], bool]
UNUSED: Mapping[str, Mapping[str, _Unused]] = {
    "game": {
        "illegal": lambda config: not _may_be_illegal(config),
        "message_limit": lambda config: not _messages(config),
        "messages": lambda config: not _messages(config),
    },
    "answer": {
        "message_tokens": lambda config: not _messages(config),
        "thinking": lambda config: not _part(config, "answer").get("thinking"),
        "train_thinking": lambda config: not _part(config, "answer").get("thinking"),
        "train_illegal": lambda config: not _may_be_illegal(config),
        "retry_feedback": lambda config: _part(config, "answer").get("free_attempts", 1) < 0,
    },
    "model": {
        "deterministic": lambda config: not _part(config, "model").get("deterministic"),
        # Gradients are the same with and without it.
        "activation_checkpointing": lambda config: True,
    },
    "prompt": {
        "label_length": lambda config: _part(config, "prompt").get("labels") != "random",
        "label_scope": lambda config: _part(config, "prompt").get("labels") != "random",
    },
    "algorithm": {
        "lambda_max": lambda config: _part(config, "algorithm").get("estimator") != "gae",
        "lambda_anneal": lambda config: _part(config, "algorithm").get("estimator") != "gae",
        "critic_loss": lambda config: _part(config, "algorithm").get("estimator") != "gae",
        "critic_optimizer": lambda config: _part(config, "algorithm").get("estimator") != "gae",
        "kl_controller": lambda config: not _part(config, "algorithm").get("kl"),
        "kl_target": lambda config: not _adapts_kl(config),
        "kl_horizon": lambda config: not _adapts_kl(config),
    },
}
"""For settings that others switch off: whether that is so in a config."""


def settings(configs: Sequence[Json]) -> Json:
    """What has a say in these runs; where they differ, `{"differs": [values]}` at that place."""
    applied = [applying(config) for config in configs]
    return {
        key: merged([config.get(key) for config in applied])
        for key in KEYS
        if any(key in config for config in applied)
    }


def applying(config: Json) -> Json:
    """The config's `KEYS` without what plays no part."""
    keys = [key for key in KEYS if key not in OF_MODELS or _asks_models(config)]
    return {key: _pruned(key, config) for key in keys if config.get(key) not in (None, [], {})}


def _asks_models(config: Json) -> bool:
    """A language model has a seat: by its name there, or as a run's folder (people's matches)."""
    seats = config.get("seats") or ["learner"]
    named = [seat for seat in seats if isinstance(seat, str)]
    return any(
        seat.partition(":")[0] in ("learner", "base", "adapter") or not re.fullmatch(r"\w+", seat)
        for seat in named
    )


def merged(values: Sequence[Any]) -> Any:
    """What all values share; mappings of one name key by key, and anything else side by side."""
    different = [value for i, value in enumerate(values) if value not in values[:i]]
    if len(different) == 1:
        return different[0]
    if any(not isinstance(value, dict) for value in different):
        return {"differs": different}
    if len({str(value.get("name")) for value in different}) > 1:
        return {"differs": different}
    keys = dict.fromkeys(key for value in different for key in value)
    return {key: merged([value.get(key, "none") for value in different]) for key in keys}


def rewards(config: Json) -> list[Any]:
    """What a run was trained on: one reward, or one for each phase."""
    phases = config.get("phases") or []
    return [phase.get("reward") for phase in phases] or [config.get("reward")]


def learners(config: Json) -> list[str]:
    """The seats that learn: `learner` and `learner:NAME`."""
    seats = config.get("seats") or []
    return [s for s in seats if isinstance(s, str) and s.partition(":")[0] == "learner"]


def reward_words(blocks: Sequence[Any]) -> str:
    """Rewards in one line: "own, then deontological, penalty 3.0"."""
    parts = []
    for block in blocks:
        if isinstance(block, dict):
            block = {key: value for key, value in block.items() if key not in RULES_OF_ILLEGAL}
        parts.append(words(block))
    return ", then ".join(parts)


def _pruned(key: str, config: Json) -> Any:
    block = config[key]
    if not isinstance(block, dict):
        return block
    neutral, unused = NEUTRAL.get(key, {}), UNUSED.get(key, {})
    return {
        name: value
        for name, value in block.items()
        if value is not None
        and not (name in neutral and value == neutral[name])
        and not (name in unused and unused[name](config))
    }


def _part(config: Json, key: str) -> Json:
    part = config.get(key)
    return part if isinstance(part, dict) else {}


def _messages(config: Json) -> bool:
    return bool(_part(config, "game").get("messages"))


def _may_be_illegal(config: Json) -> bool:
    """Whether an answer can be illegal at all: answers that are scored or constrained cannot."""
    answer = _part(config, "answer")
    # Constrained by a grammar from the first try on, an answer always has its form.
    is_constrained = answer.get("free_attempts", 1) < 0 and answer.get("fallback") == "constrained"
    return _messages(config) or not (answer.get("name") == "constrained" or is_constrained)


def _adapts_kl(config: Json) -> bool:
    algorithm = _part(config, "algorithm")
    return bool(algorithm.get("kl")) and algorithm.get("kl_controller") == "adaptive"
