"""Reading adapters in PEFT's format, restricted to plain LoRA.

PEFT's LoRA has dozens of settings. Some change the layers' computation (DoRA, activation by
tokens), some the base model (PiSSA, OLoRA), some add weights (`modules_to_save`). This module
lists the settings under which an adapter is just two low-rank matrices per module; all other
settings and tensors are refused by name.
"""

import json
import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex
import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from safetensors.torch import load_file

from comity.errors import ComityError, nearest

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

UNCONSTRAINED = frozenset(
    {
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "target_modules",
        "use_rslora",
    }
)
"""Settings with any value: supported, or without meaning for saved weights. (The shape of the
file's matrices does not depend on `fan_in_fan_out`; `eva_config` is for the initialization.)"""
ALLOWED_VALUES: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "task_type": (None, "CAUSAL_LM"),
    "bias": ("none",),
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
}
"""Settings with their supported values. Other initializations (PiSSA, OLoRA, CorDA, LoftQ,
LoRA-GA) change the base model, so that the saved matrices belong to a different base."""
REGEX_TIMEOUT = 0.5
"""Time limit in seconds of one regular-expression match from a config."""
_PREFIX, _ENDS = "base_model.model.", (".lora_A.weight", ".lora_B.weight")
_NAME = regex.compile(r"\^?[\w.-]+\$?")


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter's matrices and scales by module, as saved."""

    down: dict[str, torch.Tensor]
    """A, `[rank, in]`."""
    up: dict[str, torch.Tensor]
    """B, `[out, rank]`."""
    scale: dict[str, float]
    """Factor of `B A x`."""

    def with_one_scale(self) -> "SavedAdapter":
        """The same adapter with one scale for all modules, by other matrices B if needed."""
        if len(set(self.scale.values())) <= 1:
            return self
        up = {name: (one.double() * self.scale[name]).float() for name, one in self.up.items()}
        return SavedAdapter(self.down, up, dict.fromkeys(up, 1.0))

    def shape(self) -> dict[str, Any]:
        """Its settings of `LoraConfig`; it must have one scale.

        alpha / rank is the scale for readers without patterns too (vLLM).
        """
        scale = next(iter(self.scale.values()), 1.0)
        ranks = {name: len(matrix) for name, matrix in self.down.items()}
        rank = max(ranks.values(), default=1)
        smaller = {name: one for name, one in ranks.items() if one != rank}
        return {
            "r": rank,
            "lora_alpha": scale * rank,
            "rank_pattern": smaller,
            "alpha_pattern": {name: scale * one for name, one in smaller.items()},
        }


def adapter_rank(folder: Path) -> int:
    """The largest rank of the modules of an adapter; `ComityError` for one that cannot be read."""
    config = _config(folder)
    return max([config["r"], *config["rank_pattern"].values()])


def read_adapter(folder: Path, modules: Collection[str]) -> SavedAdapter:
    """The adapter in a folder, for a model with these linear modules.

    Raises `ComityError` for an unsupported setting or tensor, naming it, and unless the weights
    are exactly those that the config specifies.
    """
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise ComityError(f"no adapter in {folder}: {file} is missing")
    config = _config(folder)
    try:
        tensors = load_file(str(folder / WEIGHTS))
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        raise ComityError(f"cannot read the adapter's weights in {folder}: {error}") from error
    down, up = _matrices(folder, tensors)
    if found := sorted(set(down) ^ set(up)):
        raise ComityError(
            f"the adapter in {folder} does not fit this model: it has one of two matrices of "
            f"{found[0]}"
        )
    try:
        wanted = _targets(config, modules)
    except TimeoutError as error:
        raise ComityError(
            f"the adapter in {folder}: matching target_modules with the model's modules takes too "
            "long; give a list of names"
        ) from error
    except (regex.error, ValueError, TypeError) as error:
        raise ComityError(f"the adapter in {folder}: target_modules: {error}") from error
    for names, what in (
        (sorted(set(down) - set(modules)), "which this model does not have"),
        (sorted(set(down) - wanted), "which its target_modules leave out"),
        (sorted(wanted - set(down)), None),
    ):
        if names:
            reason = f"it has weights of {names[0]}, {what}" if what else f"it lacks {names[0]}"
            raise ComityError(f"the adapter in {folder} does not fit this model: {reason}")
    scale = {name: _scale(folder, config, name, down[name], up[name]) for name in down}
    for name, factor in scale.items():
        _check_size(folder, name, factor, down[name], up[name])
    return SavedAdapter(down, up, scale).with_one_scale()


def resolve_targets(targets: object, modules: Collection[str], able: Collection[str]) -> set[str]:
    """The modules that names, or one regular expression, match; all of them in `able`.

    A name matches every module whose name ends with it, at a dot. Raises `ComityError` for a
    name that matches no module, or one that cannot get an adapter.
    """
    if not isinstance(targets, str | list | tuple) or not targets:
        raise ComityError("adapter.targets: give all-linear, or a list of modules' names")
    if isinstance(targets, str) and not _NAME.fullmatch(targets):
        try:
            stands = {targets: {name for name in able if _matches(targets, name)}}
        except (TimeoutError, regex.error) as error:
            raise ComityError(f"adapter.targets: cannot match {targets!r}: {error}") from error
    else:
        stands = {
            str(name): {module for module in modules if f".{module}".endswith(f".{name}")}
            for name in ([targets] if isinstance(targets, str) else targets)
        }
    for name, found in stands.items():
        wrong = sorted(found - set(able))
        if wrong or not found:
            last = sorted({module.rpartition(".")[2] for module in able})
            raise ComityError(
                f"adapter.targets: {wrong[0]} cannot get an adapter: it is no linear layer that "
                "computes one row for each token"
                if wrong
                else f"adapter.targets: the model has no module {name!r} that can get an adapter; "
                f"{nearest(name, last)}"
            )
    return set[str]().union(*stands.values())


def _config(folder: Path) -> dict[str, Any]:
    """The config, after checking each setting."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ComityError(f"cannot read {CONFIG} in {folder}: {error}") from error
    if not isinstance(config, dict):
        raise ComityError(f"cannot read {CONFIG} in {folder}: it holds no settings")
    # The type first: other types have other settings.
    for name, value in sorted(config.items(), key=lambda item: (item[0] != "peft_type", item[0])):
        if name in UNCONSTRAINED or (
            name in ALLOWED_VALUES and any(_equal_typed(value, v) for v in ALLOWED_VALUES[name])
        ):
            continue
        if name not in ALLOWED_VALUES and (value in (None, False) or value == {} or value == []):
            continue  # switched off
        raise ComityError(
            f"the adapter in {folder} has {name}={json.dumps(value)[:60]}, which Comity does not "
            "compute; merge it into its base, or train one that is plain LoRA"
        )
    if "peft_type" not in config:
        raise ComityError(f"the adapter in {folder} does not say its peft_type")
    rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)
    patterns = {key: config.get(key) or {} for key in ("rank_pattern", "alpha_pattern")}
    for key, values in (("r", {"": rank}), ("lora_alpha", {"": alpha}), *patterns.items()):
        if not isinstance(values, Mapping) or not all(
            _is_positive_number(value, whole=key[0] == "r") for value in values.values()
        ):
            raise ComityError(f"the adapter in {folder}: {key} is no positive number")
        for name in values:
            if name and not _NAME.fullmatch(name):
                raise ComityError(
                    f"the adapter in {folder}: {key} has {name!r}; only modules' names are read"
                )
    return {**config, "r": rank, "lora_alpha": alpha, **patterns}


def _equal_typed(value: object, allowed: object) -> bool:
    """Equal and of the same type: 1 is not true."""
    return type(value) is type(allowed) and value == allowed


def _is_positive_number(value: object, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        return False
    return 0 < value < math.inf and value <= sys.float_info.max


def _matrices(
    folder: Path, tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A and B by module."""
    found: tuple[dict[str, torch.Tensor], ...] = ({}, {})
    for name, tensor in sorted(tensors.items()):
        for end, matrices in zip(_ENDS, found, strict=True):
            plain = tensor.dim() == 2 and tensor.is_floating_point()
            if name.startswith(_PREFIX) and name.endswith(end) and plain:
                matrices[name.removeprefix(_PREFIX).removesuffix(end)] = tensor
                break
        else:
            raise ComityError(
                f"the adapter in {folder} has the tensor {name}, which is no low-rank matrix of a "
                "linear layer; Comity computes plain LoRA only"
            )
        if not torch.isfinite(tensor.float()).all():
            raise ComityError(f"the adapter in {folder}: {name} has values that are not finite")
    return found[0], found[1]


def _check_size(
    folder: Path, module: str, scale: float, down: torch.Tensor, up: torch.Tensor
) -> None:
    """Raises `ComityError` for an update `scale B A` that no float32 computation survives.

    A layer's inputs are normalized, to a norm of about sqrt(in), and the next normalization
    squares its outputs in float32. Frobenius norms bound the update from above.
    """
    gain = abs(scale) * float(down.double().norm()) * float(up.double().norm())
    if not gain * math.sqrt(down.shape[1]) < math.sqrt(torch.finfo(torch.float32).max):
        raise ComityError(
            f"the adapter in {folder}: the weights of {module} are too large to compute with "
            f"(norm of the update {gain:.1e}); the training that made it diverged"
        )


def _targets(config: Mapping[str, Any], modules: Collection[str]) -> set[str]:
    """The modules that have matrices according to the config."""
    plain: dict[str, Any] = {}
    for key in ("target_modules", "exclude_modules"):
        value = config.get(key)
        if isinstance(value, str):
            value = (
                sorted(modules)
                if (key, value) == ("target_modules", "all-linear")
                else [name for name in modules if _matches(value, name)]
            )
        plain[key] = value
    if not plain["target_modules"]:
        raise ValueError("no module of this model is named")
    layers = config.get("layers_pattern")
    for name in [layers] if isinstance(layers, str) else layers or ():
        if not _NAME.fullmatch(name):
            raise ValueError(f"layers_pattern has {name!r}; only modules' names are read")
    found = LoraConfig(
        **plain, layers_to_transform=config.get("layers_to_transform"), layers_pattern=layers
    )
    return {name for name in modules if check_target_module_exists(found, name) is True}


def _matches(pattern: str, name: str) -> bool:
    """Whether a regular expression matches a whole name; `TimeoutError` if it takes too long."""
    return regex.fullmatch(pattern, name, timeout=REGEX_TIMEOUT) is not None


def _scale(
    folder: Path, config: Mapping[str, Any], module: str, down: torch.Tensor, up: torch.Tensor
) -> float:
    """alpha / rank of one module; with rsLoRA alpha / sqrt(rank)."""
    rank, alpha = (
        config[pattern].get(get_pattern_key(config[pattern], module), config[key])
        for pattern, key in (("rank_pattern", "r"), ("alpha_pattern", "lora_alpha"))
    )
    if down.shape[0] != rank or up.shape[1] != rank:
        raise ComityError(
            f"the adapter in {folder} does not fit this model: {module} has rank {down.shape[0]}, "
            f"and its config says {rank}"
        )
    return float(alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank)
