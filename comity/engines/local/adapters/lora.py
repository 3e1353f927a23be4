"""Multi-adapter LoRA: PEFT creates and saves the adapters, this module runs them.

A packed forward pass holds rows of several adapters (and of none). `RowRouting` assigns rows to
adapters for the pass; every LoRA layer adds each adapter's low-rank product to that adapter's
rows. There is no "active" adapter. While many tokens are sampled under one adapter it may be
merged (`Adapters.merged`), with the same results.

Adapter weights stay float32 (bfloat16 would lose small updates) and are cast to the activations'
type where they are used. Casting two thin matrices costs little, while PEFT's own forward casts
the activations up and down in every layer.

All adapters share the base model, so its weights are compared before and after an insertion.
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

from comity.distributed.block_gathering import BlockGathering, local_part
from comity.engines.local.adapters.files import CONFIG, WEIGHTS, read_adapter, resolve_targets
from comity.engines.local.adapters.lora_layers import RowRouting, linear_layers, packed_forward
from comity.engines.local.identity import BaseModel, check_base
from comity.errors import ComityError, WorkError

ALL = "all-linear"
MERGED_BYTES = 2_000_000_000
"""Most memory for copies of weights with a merged adapter."""


class Adapters:
    """The LoRA adapters of one base model, by name."""

    def __init__(self, model: PreTrainedModel, sharding: BlockGathering | None = None) -> None:
        self._model, self._sharding = model, sharding
        self._peft: PeftModel | None = None
        self._count = 0
        self.routes = RowRouting()
        self._folders: dict[str, Path] = {}
        """Folders that adapters were loaded from, by name."""
        self.targets = linear_layers(model)
        """Names of the modules that can get an adapter."""
        self._weight_checksums: dict[str, tuple[int, int]] = {}
        """Checksums of the base's weights from before the first adapter."""

    @property
    def names(self) -> list[str]:
        return [name for name in self.routes.modules if name is not None]

    def describe(self, name: str | None) -> str:
        """An adapter's description for messages."""
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
        """A new adapter without effect yet (B = 0); A is initialized from `seed` alone.

        `targets`: "all-linear" (every linear layer but the output layer) or module names.
        Raises `ComityError` for a name that matches no such layer, or other modules too.
        """
        self._check_new_name(name)
        everything = targets == ALL
        chosen = (
            self.targets if everything else resolve_targets(targets, self._modules(), self.targets)
        )
        try:
            shape = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout}
            self._insert(name, set(chosen), seed, **shape)
        except ValueError as error:
            raise ComityError(f"adapter {name!r} does not fit the model: {error}") from error

    def load(self, name: str, folder: Path) -> None:
        """An adapter in PEFT format, from a folder.

        Raises `ComityError` for an adapter of another base, for unsupported settings or tensors
        (`comity.engines.local.adapters.files`), and for weights that do not fit this model.
        """
        self._check_new_name(name)
        for file in (CONFIG, WEIGHTS):
            if not (folder / file).is_file():
                raise ComityError(f"no adapter in {folder}: {file} is missing")
        self.check_base(folder)
        saved = read_adapter(folder, self._modules())
        if beyond := sorted(set(saved.down) - set(self.targets)):
            raise ComityError(f"the adapter in {folder} changes {beyond[0]}, which is not computed")
        try:
            self._insert(name, set(saved.down), **saved.shape())
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
        """Raises `ComityError` if an adapter's folder names another base model."""
        check_base(folder, self.base)

    @cached_property
    def base(self) -> BaseModel | None:
        """Identity of the base model; None unless it was loaded from a folder."""
        folder = Path(self._model.config.name_or_path or "")
        if not self._model.config.name_or_path or not folder.is_dir():
            return None
        return BaseModel.of(folder)

    def save(self, name: str, folder: Path) -> None:
        """Write `folder/adapter_model.safetensors`, `adapter_config.json` and `base.json`.

        The config names the base model as in PEFT; `base.json` also has the weights' hash.
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
        config.target_modules = sorted(chosen)  # the order of a set differs between processes
        config.save_pretrained(str(folder))
        config.inference_mode, config.target_modules = trained, chosen

    def remove(self, name: str) -> None:
        """Remove an adapter from the model; the others are unchanged."""
        assert self._peft is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Which adapter is active does not matter here.
            self._peft.delete_adapter(self.routes.modules.pop(name) or "")
        self._folders.pop(name, None)
        self._make_trainable()

    def unload(self) -> None:
        """Remove all adapters and PEFT's wrappers: the model is as it was before."""
        if self._peft is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._peft.unload()  # type: ignore[operator]
        self._peft, self._weight_checksums, self.routes.modules = None, {}, {None: None}
        self._model.requires_grad_(False)

    @contextmanager
    def merged(self, name: str | None) -> Iterator[None]:
        """Inside the block, the adapter is merged into copies of the base's weights.

        Pays off for many passes of few tokens: each saves two small matrix products per layer.
        Has no effect for the base model, on other devices than the CPU, in other types than
        float32 (the sum would be rounded), for layers that are not plain linear ones, for
        large models, and for weights that are divided among ranks.
        """
        peft_name = self.routes.modules[name] or ""
        layers = [layer for _, layer in self._layers() if peft_name in layer.lora_A]
        weights = [layer.base_layer.weight for layer in layers]
        plain = all(
            type(layer.base_layer) is torch.nn.Linear
            and weight.device.type == "cpu"
            and weight.dtype == torch.float32
            for layer, weight in zip(layers, weights, strict=True)
        )
        large = sum(w.nbytes for w in weights) > MERGED_BYTES
        if name is None or self._sharding is not None or not plain or large:
            yield
            return
        try:
            with torch.no_grad():
                for layer, weight in zip(layers, weights, strict=True):
                    up, low = layer.lora_B[peft_name].weight, layer.lora_A[peft_name].weight
                    layer.comity_merged = torch.addmm(
                        weight, up, low, alpha=layer.scaling[peft_name]
                    )
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
        peft_name = self.routes.modules[name] or ""
        return {
            f"{layer_name}.{matrix}": getattr(layer, matrix)[peft_name].weight
            for layer_name, layer in self._layers()
            for matrix in ("lora_A", "lora_B")
            if peft_name in layer.lora_A
        }

    def check_weights(self) -> None:
        """Raises `WorkError` if the base's weights (a rank's part) changed since before the first
        adapter."""
        if self._sharding is not None:
            self._sharding.release()
        sums = _checksums(self._model)
        self._weight_checksums = self._weight_checksums or sums
        if changed := sorted(
            name for name, one in sums.items() if one != self._weight_checksums.get(name)
        ):
            raise WorkError(
                f"putting an adapter into the model changed the base's weights ({changed[0]}); "
                "nothing that it computes can be trusted any more"
            )

    def _modules(self) -> list[str]:
        """Names of all modules of the base model, without those of adapters."""
        peft_name = re.compile(r"\.(base_layer|lora_\w+)(\.|$)")
        return [
            name for name, _ in self._model.named_modules() if name and not peft_name.search(name)
        ]

    def _named(self) -> set[str]:
        """Names of all modules and of direct parameters, which PEFT accepts as targets too."""
        parameters = {name for name, _ in self._model.named_parameters()}
        return {*self._modules(), *(p for p in parameters if p.rpartition(".")[2] != "weight")}

    def _layers(self) -> Iterator[tuple[str, Any]]:
        for name, module in self._model.named_modules():
            if isinstance(module, LoraLayer):
                yield name, module

    def _insert(self, name: str, targets: set[str], seed: int = 0, **shape: Any) -> None:
        """Insert new matrices into the model; ValueError if they do not fit."""
        if not self._weight_checksums:
            self.check_weights()
        peft_name = f"comity{self._count}"
        self._count += 1
        config = LoraConfig(
            **shape,
            target_modules=_shortened(targets, self._named()),
            bias="none",
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            if self._peft is None:
                self._peft = PeftModel(self._model, config, adapter_name=peft_name)
            else:
                self._peft.add_adapter(peft_name, config)
        self.routes.modules[name] = peft_name
        self._install_forward()
        self.check_weights()

    @torch.no_grad()
    def _copy(
        self,
        name: str,
        down: Mapping[str, torch.Tensor],
        up: Mapping[str, torch.Tensor],
        scale: Mapping[str, float],
    ) -> None:
        """Copy matrices and scales, by module, into an adapter."""
        peft_name = self.routes.modules[name] or ""
        for module, layer in self._layers():
            if peft_name in layer.lora_A:
                for matrix, value in ((layer.lora_A, down), (layer.lora_B, up)):
                    if matrix[peft_name].weight.shape != value[module].shape:
                        raise ValueError(f"{module} has another shape")
                    matrix[peft_name].weight.copy_(value[module])
                layer.scaling[peft_name] = scale[module]

    def _check_new_name(self, name: str) -> None:
        if name in self.names:
            raise ComityError(f"there is an adapter named {name!r} already")

    def _install_forward(self) -> None:
        for _, layer in self._layers():
            layer.comity_routes = self.routes
            layer.comity_merged = None
            layer.forward = packed_forward.__get__(layer)
        for parameter in self._model.parameters():
            parameter.requires_grad_(False)
        self._make_trainable()

    def _make_trainable(self) -> None:
        """Make every adapter's weights float32 and trainable; PEFT does so for one adapter only."""
        for _, layer in self._layers():
            for matrix in (*layer.lora_A.values(), *layer.lora_B.values()):
                matrix.weight.data = matrix.weight.data.float()
                matrix.weight.requires_grad_(True)


def _shortened(targets: set[str], names: Collection[str]) -> list[str]:
    """The last parts of the names if they match no other modules, else the full names."""
    short = {name.rpartition(".")[2] for name in targets}
    same = {name for name in names if name.rpartition(".")[2] in short} == targets
    return sorted(short if same else targets)


def _checksums(model: PreTrainedModel) -> dict[str, tuple[int, int]]:
    """By name: address and checksum of each tensor of the base."""
    return {
        name.replace(".base_layer.", "."): (part.data_ptr(), _checksum(part))
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if ".lora_" not in name
        for part in [local_part(tensor.detach())]
    }


def _checksum(tensor: torch.Tensor) -> int:
    """The sum of all bytes, as 64-bit integers where aligned."""
    flat = tensor.contiguous().flatten().view(torch.uint8)
    whole = len(flat) // 8 * 8 if flat.storage_offset() % 8 == 0 else 0
    return int(flat[:whole].view(torch.int64).sum()) + int(flat[whole:].sum())
