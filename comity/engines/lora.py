"""Adapters by explicit handle: peft makes, names, saves and loads them; we only run them.

A packed forward pass holds rows of several adapters (and of none). Which rows belong to
which adapter is said once per pass in `Routes`; every LoRA layer then adds each adapter's
low-rank product to that adapter's rows alone. There is no "current" adapter; while many
tokens are sampled under one adapter it may be merged (`Adapters.merged`), to the same effect.

Adapter weights stay float32 (small updates would be lost in bfloat16) and are cast to the
activations' type where they are used; casting two thin matrices costs nothing, while
peft's own forward casts the activations up and down in every layer.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from comity.engines.identity import BaseModel, base_name, is_commit
from comity.errors import ComityError

BASE = "base_model_name_or_path"
"""Key of an adapter's config (PEFT)."""
FEW_ROWS = 48
"""Most rows whose low-rank products are computed in float32 for a model in bfloat16, on the CPU."""
MERGED_BYTES = 2_000_000_000
"""Most memory for weights that an adapter is merged into."""


class Routes:
    """Whose weights compute which rows, for the forward pass that is running."""

    def __init__(self) -> None:
        self.current: tuple[tuple[str | None, int, int], ...] = ()
        self.merged: str | None = None
        """The adapter whose products are part of the layers' `comity_merged` weights now."""
        self.dropout = False
        """Apply the adapters' dropout (learning only)."""

    @contextmanager
    def of(
        self, routes: tuple[tuple[str | None, int, int], ...], dropout: bool = False
    ) -> Iterator[None]:
        self.current, self.dropout = routes, dropout
        try:
            yield
        finally:
            self.current, self.dropout = (), False


def _packed_forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """`x [1, N, in]` -> `[1, N, out]`: the base layer, plus each adapter on its own rows."""
    routes: Routes = self.comity_routes
    if routes.merged is not None and routes.merged in self.lora_A:
        (adapter, _, _), *others = routes.current
        if adapter == routes.merged and not others and not routes.dropout:
            return F.linear(x, self.comity_merged, self.base_layer.bias)
    result: torch.Tensor = self.base_layer(x, *args, **kwargs)
    # Flattened, not indexed: the gradient of a view costs nothing, that of an index a copy.
    inputs, outputs = x.flatten(0, 1), result.flatten(0, 1)
    for adapter, first, end in routes.current:
        if adapter is None or adapter not in self.lora_A:
            continue
        rows = inputs[first:end] if end - first < len(inputs) else inputs
        if routes.dropout:
            rows = F.dropout(rows, self.lora_dropout[adapter].p if _drops(self, adapter) else 0.0)
        up, down = self.lora_B[adapter].weight, self.lora_A[adapter].weight
        scale = self.scaling[adapter]
        if len(rows) <= FEW_ROWS and rows.device.type == "cpu" and rows.dtype != up.dtype:
            # The activations are smaller than the adapter: they are cast, not it.
            product = torch.mm(F.linear(rows.to(up.dtype), down) * scale, up.t()).to(rows.dtype)
            if end - first == len(inputs):
                return torch.add(outputs, product).unsqueeze(0)
            outputs[first:end] += product
            continue
        low = F.linear(rows, down.to(rows.dtype))
        # The scale multiplies the smaller matrix, forward and backward.
        up = (up * scale).to(rows.dtype).t()
        if end - first == len(inputs):
            return torch.addmm(outputs, low, up).unsqueeze(0)
        outputs[first:end] += torch.mm(low, up)
    return result


def _drops(layer: Any, adapter: str) -> bool:
    return isinstance(layer.lora_dropout[adapter], torch.nn.Dropout)


class Adapters:
    """The LoRA adapters of one base model, by name."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._peft: PeftModel | None = None
        self.routes = Routes()

    @property
    def names(self) -> list[str]:
        return list(self._peft.peft_config) if self._peft is not None else []

    def add(
        self,
        name: str,
        *,
        rank: int = 16,
        alpha: float = 32,
        dropout: float = 0.0,
        targets: str | list[str] = "all-linear",
        seed: int = 0,
    ) -> None:
        """A new adapter that changes nothing yet (B = 0); A is drawn from `seed` alone.

        `targets`: "all-linear" (every linear layer but the output layer) or module names.
        """
        self._refuse_known(name)
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]
            lora_dropout=dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            bias="none",
            task_type="CAUSAL_LM",
        )
        try:
            self._insert(name, config, seed)
        except ValueError as error:
            raise ComityError(f"adapter {name!r} does not fit the model: {error}") from error
        self._adopt(name)

    def load(self, name: str, folder: Path) -> None:
        """An adapter in PEFT format, from a folder.

        Raises `ComityError` unless its weights are just those that it needs on this model.
        """
        self._refuse_known(name)
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            if not (folder / file).is_file():
                raise ComityError(f"no adapter in {folder}: {file} is missing")
        self.check_base(folder)
        config = LoraConfig.from_pretrained(str(folder))
        if not isinstance(config, LoraConfig) or config.use_dora:
            raise ComityError(f"the adapter in {folder} is not a plain LoRA adapter")
        config.inference_mode = False
        # Not by peft's load_adapter: it wants an active adapter and lets weights be missing.
        try:
            weights = load_file(str(folder / "adapter_model.safetensors"))
            self._insert(name, config)
            loaded: Any = set_peft_model_state_dict(self._peft, weights, adapter_name=name)
            missing = [key for key in loaded.missing_keys if f".{name}." in key]
            if missing or loaded.unexpected_keys:
                first = (missing + loaded.unexpected_keys)[0]
                raise ValueError(f"{first} is {'missing' if missing else 'of another model'}")
        except (RuntimeError, ValueError, OSError, SafetensorError) as error:
            if name in self.names:
                self.remove(name)
            reason = " ".join(str(error).split())[:200]
            raise ComityError(
                f"the adapter in {folder} does not fit this model: {reason}"
            ) from error
        self._adopt(name)

    def check_base(self, folder: Path) -> None:
        """Raises `ComityError` where an adapter's folder says that it is of another base model.

        By the hash of its weights where that is known: Comity writes it beside its adapters, and
        a base in a folder of this machine has one; else by the name and revision in the adapter's
        config, without the path. An adapter that names no base at all is taken with a warning.
        """
        ours = self.base
        try:
            saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            name, revision = saved.get(BASE), saved.get("revision")
        except (OSError, ValueError, AttributeError) as error:
            raise ComityError(f"cannot read adapter_config.json in {folder}: {error}") from error
        noted = BaseModel.read(folder)
        if ours is None:
            return
        named = base_name(name) if isinstance(name, str) and name else None
        if noted is None and named and Path(str(name)).expanduser().is_dir():
            with suppress(ComityError):  # a folder without weights says nothing
                noted = BaseModel.of(Path(str(name)).expanduser())
        if noted is not None and noted.weights != ours.weights:
            raise ComityError(
                f"the adapter in {folder} is of the base model {base_name(noted.name)!r} with "
                f"weights {noted.weights[:15]}, not of {base_name(ours.name)!r} with weights "
                f"{ours.weights[:15]}"
            )
        if noted is not None and named in (None, base_name(noted.name)):
            return
        if named is None:
            warnings.warn(
                f"the adapter in {folder} does not say which base model it is of; taken as one of "
                f"{base_name(ours.name)!r}",
                RuntimeWarning,
                stacklevel=3,
            )
        elif named != base_name(ours.name):
            raise ComityError(
                f"the adapter in {folder} is of the base model {named!r}, not of "
                f"{base_name(ours.name)!r} (if these are the same weights under another name, "
                f"write {ours.name!r} as {BASE} into its adapter_config.json)"
            )
        elif is_commit(revision) and is_commit(ours.revision) and revision != ours.revision:
            raise ComityError(
                f"the adapter in {folder} is of revision {revision[:12]} of {named!r}, not of "
                f"{str(ours.revision)[:12]}"
            )

    @cached_property
    def base(self) -> BaseModel | None:
        """What identifies the base model; None for one that was not loaded from a folder."""
        folder = Path(self._model.config.name_or_path or "")
        if not self._model.config.name_or_path or not folder.is_dir():
            return None
        return BaseModel.of(folder)

    def save(self, name: str, folder: Path) -> None:
        """Write `folder/adapter_model.safetensors`, `adapter_config.json` and `base.json`.

        The config names the base model as PEFT has it; `base.json` also has the weights' hash.
        """
        assert self._peft is not None
        folder.mkdir(parents=True, exist_ok=True)
        state = get_peft_model_state_dict(
            self._peft, adapter_name=name, save_embedding_layers=False
        )
        state = {key: value.detach().cpu().contiguous() for key, value in state.items()}
        save_file(state, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
        config = self._peft.peft_config[name]
        trained, config.inference_mode = config.inference_mode, True
        if self.base is not None:
            config.base_model_name_or_path = self.base.name
            config.revision = self.base.revision
            self.base.write(folder)
        config.save_pretrained(str(folder))
        config.inference_mode = trained

    def remove(self, name: str) -> None:
        """Take an adapter out of the model; the others stay as they are."""
        assert self._peft is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of which adapter is active now: none ever is.
            self._peft.delete_adapter(name)
        self._can_learn()

    @contextmanager
    def merged(self, name: str | None) -> Iterator[None]:
        """Inside the block, an adapter's products are part of copies of the base's weights.

        Worth it where many passes of few tokens follow: each spares two small products a layer.
        Nothing happens for the base model, off the CPU, in other types than float32 (the sum
        would be rounded), for layers that are not plain linear ones, or for large models.
        """
        layers = [layer for _, layer in self._layers() if name in layer.lora_A]
        weights = [layer.base_layer.weight for layer in layers]
        plain = all(
            type(layer.base_layer) is torch.nn.Linear
            and weight.device.type == "cpu"
            and weight.dtype == torch.float32
            for layer, weight in zip(layers, weights, strict=True)
        )
        if name is None or not plain or sum(w.nbytes for w in weights) > MERGED_BYTES:
            yield
            return
        try:
            with torch.no_grad():
                for layer, weight in zip(layers, weights, strict=True):
                    up, low = layer.lora_B[name].weight, layer.lora_A[name].weight
                    layer.comity_merged = torch.addmm(weight, up, low, alpha=layer.scaling[name])
            self.routes.merged = name
            yield
        finally:
            self.routes.merged = None
            for layer in layers:
                layer.comity_merged = None

    def parameters(self, name: str) -> dict[str, torch.nn.Parameter]:
        """The adapter's float32 weights by their full names, in a fixed order."""
        found = {
            f"{layer_name}.{matrix}": getattr(layer, matrix)[name].weight
            for layer_name, layer in self._layers()
            for matrix in ("lora_A", "lora_B")
            if name in layer.lora_A
        }
        if not found:
            raise ComityError(f"no adapter named {name!r}; there are: {', '.join(self.names)}")
        return found

    def _layers(self) -> Iterator[tuple[str, Any]]:
        for name, module in self._model.named_modules():
            if isinstance(module, LoraLayer):
                yield name, module

    def _insert(self, name: str, config: LoraConfig, seed: int = 0) -> None:
        """Put new weights of this shape into the model; ValueError where they do not fit."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            if self._peft is None:
                self._peft = PeftModel(self._model, config, adapter_name=name)
            else:
                self._peft.add_adapter(name, config)

    def _refuse_known(self, name: str) -> None:
        if name in self.names:
            raise ComityError(f"there is an adapter named {name!r} already")

    def _adopt(self, name: str) -> None:
        for _, layer in self._layers():
            layer.comity_routes = self.routes
            layer.comity_merged = None
            layer.forward = _packed_forward.__get__(layer)
        for parameter in self._model.parameters():
            parameter.requires_grad_(False)
        self._can_learn()

    def _can_learn(self) -> None:
        """Every adapter's weights are float32 and take gradients; peft lets only one's."""
        for _, layer in self._layers():
            for matrix in (*layer.lora_A.values(), *layer.lora_B.values()):
                matrix.weight.data = matrix.weight.data.float()
                matrix.weight.requires_grad_(True)
