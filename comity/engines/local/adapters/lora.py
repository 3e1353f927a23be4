"""Adapters by explicit handle: peft makes and saves them; we only run them.

A packed forward pass holds rows of several adapters (and of none). Which rows belong to
which adapter is said once per pass in `Routes`; every LoRA layer then adds each adapter's
low-rank product to that adapter's rows alone. There is no "current" adapter; while many
tokens are sampled under one adapter it may be merged (`Adapters.merged`), to the same effect.

Adapter weights stay float32 (small updates would be lost in bfloat16) and are cast to the
activations' type where they are used; casting two thin matrices costs nothing, while
peft's own forward casts the activations up and down in every layer.

The base is everybody's: its weights are compared before and after an adapter is put in.
"""

import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from transformers import PreTrainedModel

from comity.engines.local.adapters.files import CONFIG, WEIGHTS, read_adapter, resolve_targets
from comity.engines.local.adapters.lora_layers import Routes, linear_layers, packed_forward
from comity.engines.local.identity import BaseModel, check_base
from comity.errors import ComityError, WorkError

ALL = "all-linear"
MERGED_BYTES = 2_000_000_000
"""Most memory for weights that an adapter is merged into."""


class Adapters:
    """The LoRA adapters of one base model, by name."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._peft: PeftModel | None = None
        self._made = 0
        self.routes = Routes()
        self._folders: dict[str, Path] = {}
        """Where adapters were loaded from."""
        self.targets = linear_layers(model)
        """Names of the modules that can get an adapter."""
        self._sums: dict[str, tuple[int, int]] = {}
        """Of the base's weights, as they were before the first adapter."""

    @property
    def names(self) -> list[str]:
        return [name for name in self.routes.modules if name is not None]

    def described(self, name: str | None) -> str:
        """An adapter, for messages."""
        if name is None:
            return "the base model"
        folder = self._folders.get(name)
        return f"the adapter {name!r}" + (f" (loaded from {folder})" if folder else "")

    def add(
        self,
        name: str,
        *,
        rank: int = 16,
        alpha: float = 32,
        dropout: float = 0.0,
        targets: object = ALL,
        seed: int = 0,
    ) -> None:
        """A new adapter that changes nothing yet (B = 0); A is drawn from `seed` alone.

        `targets`: "all-linear" (every linear layer but the output layer) or module names.
        Raises `ComityError` for a name that stands for no such layer, or also for others.
        """
        self._refuse_known(name)
        everything = targets == ALL
        chosen = (
            self.targets if everything else resolve_targets(targets, self._modules(), self.targets)
        )
        try:
            self._insert(name, set(chosen), seed=seed, rank=rank, alpha=alpha, dropout=dropout)
        except ValueError as error:
            raise ComityError(f"adapter {name!r} does not fit the model: {error}") from error

    def load(self, name: str, folder: Path) -> None:
        """An adapter in PEFT format, from a folder.

        Raises `ComityError` where it is of another base, has settings or tensors that are not
        computed (`comity.engines.local.adapters.files`), or its weights do not fit this model.
        """
        self._refuse_known(name)
        for file in (CONFIG, WEIGHTS):
            if not (folder / file).is_file():
                raise ComityError(f"no adapter in {folder}: {file} is missing")
        self.check_base(folder)
        saved = read_adapter(folder, self._modules())
        if beyond := sorted(set(saved.down) - set(self.targets)):
            raise ComityError(f"the adapter in {folder} changes {beyond[0]}, which is not computed")
        ranks = {module: len(matrix) for module, matrix in saved.down.items()}
        try:
            self._insert(name, set(ranks), ranks=ranks)
            self._folders[name] = folder
            self._copy(name, saved.down, saved.up, saved.scale)
        except (RuntimeError, ValueError) as error:
            if name in self.names:
                self.remove(name)
            reason = " ".join(str(error).split())[:200]
            raise ComityError(
                f"the adapter in {folder} does not fit this model: {reason}"
            ) from error

    def check_base(self, folder: Path) -> None:
        """Raises `ComityError` where an adapter's folder says that it is of another base model."""
        check_base(folder, self.base)

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
        state = {
            f"base_model.model.{parameter}.weight": weights.detach().cpu().contiguous()
            for parameter, weights in self.parameters(name).items()
        }
        save_file(state, str(folder / WEIGHTS), metadata={"format": "pt"})
        config: Any = self._peft.peft_config[self.routes.modules[name] or ""]
        trained, config.inference_mode = config.inference_mode, True
        if self.base is not None:
            config.base_model_name_or_path = self.base.name
            config.revision = self.base.revision
            self.base.write(folder)
        chosen = config.target_modules
        config.target_modules = sorted(chosen)  # a set has another order in every process
        config.save_pretrained(str(folder))
        config.inference_mode, config.target_modules = trained, chosen

    def remove(self, name: str) -> None:
        """Take an adapter out of the model; the others stay as they are."""
        assert self._peft is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of which adapter is active now: none ever is.
            self._peft.delete_adapter(self.routes.modules.pop(name) or "")
        self._folders.pop(name, None)
        self._can_learn()

    def unload(self) -> None:
        """Take all adapters out, and what was put around the layers: the model is as it was."""
        if self._peft is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._peft.unload()  # type: ignore[operator]
        self._peft, self._sums, self.routes.modules = None, {}, {None: None}
        self._model.requires_grad_(False)

    @contextmanager
    def merged(self, name: str | None) -> Iterator[None]:
        """Inside the block, an adapter's products are part of copies of the base's weights.

        Worth it where many passes of few tokens follow: each spares two small products a layer.
        Nothing happens for the base model, off the CPU, in other types than float32 (the sum
        would be rounded), for layers that are not plain linear ones, or for large models.
        """
        inside = self.routes.modules[name] or ""
        layers = [layer for _, layer in self._layers() if inside in layer.lora_A]
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
                    up, low = layer.lora_B[inside].weight, layer.lora_A[inside].weight
                    layer.comity_merged = torch.addmm(weight, up, low, alpha=layer.scaling[inside])
            self.routes.merged = name
            yield
        finally:
            self.routes.merged = None
            for layer in layers:
                layer.comity_merged = None

    def parameters(self, name: str) -> dict[str, torch.nn.Parameter]:
        """The adapter's float32 weights by their full names, in a fixed order."""
        if name not in self.names:
            raise ComityError(f"no adapter named {name!r}; there are: {', '.join(self.names)}")
        inside = self.routes.modules[name] or ""
        return {
            f"{layer_name}.{matrix}": getattr(layer, matrix)[inside].weight
            for layer_name, layer in self._layers()
            for matrix in ("lora_A", "lora_B")
            if inside in layer.lora_A
        }

    def check_weights(self) -> None:
        """Raises `WorkError` where the base's weights are not as before the first adapter."""
        sums = _checksums(self._model)
        self._sums = self._sums or sums
        if changed := sorted(name for name, one in sums.items() if one != self._sums.get(name)):
            raise WorkError(
                f"putting an adapter into the model changed the base's weights ({changed[0]}); "
                "nothing that it computes can be trusted any more"
            )

    def _modules(self) -> list[str]:
        """Names of all modules of the base model, whether adapters were put in or not."""
        inside = re.compile(r"\.(base_layer|lora_\w+)(\.|$)")
        return [name for name, _ in self._model.named_modules() if name and not inside.search(name)]

    def _named(self) -> set[str]:
        """Names of all modules and of parameters of their own: PEFT takes those for targets too."""
        parameters = {name for name, _ in self._model.named_parameters()}
        return {*self._modules(), *(p for p in parameters if p.rpartition(".")[2] != "weight")}

    def _layers(self) -> Iterator[tuple[str, Any]]:
        for name, module in self._model.named_modules():
            if isinstance(module, LoraLayer):
                yield name, module

    def _insert(
        self,
        name: str,
        targets: set[str],
        seed: int = 0,
        rank: int = 8,
        alpha: float = 8,
        dropout: float = 0.0,
        ranks: Mapping[str, int] | None = None,
    ) -> None:
        """Put new matrices into the model; ValueError where they do not fit."""
        if not self._sums:
            self.check_weights()
        inside = f"comity{self._made}"
        self._made += 1
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]
            lora_dropout=dropout,
            target_modules=_shortened(targets, self._named()),
            rank_pattern={re.escape(module): r for module, r in (ranks or {}).items()},
            bias="none",
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            if self._peft is None:
                self._peft = PeftModel(self._model, config, adapter_name=inside)
            else:
                self._peft.add_adapter(inside, config)
        self.routes.modules[name] = inside
        self._adopt()
        self.check_weights()

    @torch.no_grad()
    def _copy(
        self,
        name: str,
        down: Mapping[str, torch.Tensor],
        up: Mapping[str, torch.Tensor],
        scale: Mapping[str, float],
    ) -> None:
        """Matrices and scales of an adapter, by module."""
        inside = self.routes.modules[name] or ""
        for module, layer in self._layers():
            if inside in layer.lora_A:
                for matrix, value in ((layer.lora_A, down), (layer.lora_B, up)):
                    if matrix[inside].weight.shape != value[module].shape:
                        raise ValueError(f"{module} has another shape")
                    matrix[inside].weight.copy_(value[module])
                layer.scaling[inside] = scale[module]

    def _refuse_known(self, name: str) -> None:
        if name in self.names:
            raise ComityError(f"there is an adapter named {name!r} already")

    def _adopt(self) -> None:
        for _, layer in self._layers():
            layer.comity_routes = self.routes
            layer.comity_merged = None
            layer.forward = packed_forward.__get__(layer)
        for parameter in self._model.parameters():
            parameter.requires_grad_(False)
        self._can_learn()

    def _can_learn(self) -> None:
        """Every adapter's weights are float32 and take gradients; peft lets only one's."""
        for _, layer in self._layers():
            for matrix in (*layer.lora_A.values(), *layer.lora_B.values()):
                matrix.weight.data = matrix.weight.data.float()
                matrix.weight.requires_grad_(True)


def _shortened(targets: set[str], names: Collection[str]) -> list[str]:
    """The last parts of names where they stand for nothing else, else the names."""
    short = {name.rpartition(".")[2] for name in targets}
    same = {name for name in names if name.rpartition(".")[2] in short} == targets
    return sorted(short if same else targets)


def _checksums(model: PreTrainedModel) -> dict[str, tuple[int, int]]:
    """By name: where each tensor of the base lies, and the sum of its bits."""
    return {
        name.replace(".base_layer.", "."): (tensor.data_ptr(), _checksum(tensor.detach()))
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if ".lora_" not in name
    }


def _checksum(tensor: torch.Tensor) -> int:
    """The sum of all bits, eight bytes at a time."""
    flat = tensor.contiguous().flatten().view(torch.uint8)
    whole = len(flat) // 8 * 8 if flat.storage_offset() % 8 == 0 else 0
    return int(flat[:whole].view(torch.int64).sum()) + int(flat[whole:].sum())
