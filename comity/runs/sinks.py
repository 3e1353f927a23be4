"""Sinks: dashboards that get a copy of every iteration's metrics.

The run folder has all metrics already; sinks are off unless the config names them. Each
library is an extra of its own and is imported when its sink is made.
"""

import dataclasses
import importlib
import math
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from comity.errors import ComityError, one_line, warn
from comity.registry import build


class SinkError(ComityError):
    """A sink's library refused the run before anything was played."""


class Sink(Protocol):
    """Somewhere that metrics go."""

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Takes one iteration's flat metrics."""
        ...

    def close(self) -> None:
        """Sends what is still waiting."""
        ...


class SinkType(Protocol):
    """A sink's settings; calling `open` starts it."""

    extra: ClassVar[str]
    """The library that it needs, which is the extra that brings it."""

    def open(self, run: Path, config: Mapping[str, Any]) -> Sink:
        """The sink for the run in the folder `run`."""
        ...


@dataclasses.dataclass(frozen=True)
class TensorBoard:
    """Event files in the run folder's `tensorboard/`, for `tensorboard --logdir runs`."""

    extra: ClassVar[str] = "tensorboard"

    def open(self, run: Path, config: Mapping[str, Any]) -> Sink:
        """Writes through torch's SummaryWriter."""
        _require("tensorboard", "tensorboard")
        module = _require("torch.utils.tensorboard", "tensorboard")
        return _TensorBoard(module.SummaryWriter(log_dir=str(run / "tensorboard")))


@dataclasses.dataclass(frozen=True)
class WeightsAndBiases:
    """Weights & Biases; `mode: offline` keeps it on this machine until `wandb sync`."""

    extra: ClassVar[str] = "wandb"
    project: str = "comity"
    """Project on the server."""
    mode: str | None = None
    """online, offline or disabled; null: what WANDB_MODE says."""

    def open(self, run: Path, config: Mapping[str, Any]) -> Sink:
        """One W&B run per run folder; a resumed run continues it."""
        module = _require("wandb", "wandb")
        return _Module(
            module.init(
                project=self.project,
                mode=self.mode,
                id=label(run),
                name=label(run),
                resume="allow",
                dir=str(run),
                config=dict(config),
            )
        )


@dataclasses.dataclass(frozen=True)
class Trackio:
    """trackio, a dashboard on this machine (`trackio show`)."""

    extra: ClassVar[str] = "trackio"
    project: str = "comity"
    """Project of the dashboard."""

    def open(self, run: Path, config: Mapping[str, Any]) -> Sink:
        """One trackio run per run folder; a resumed run continues it."""
        module = _require("trackio", "trackio")
        return _Module(
            module.init(
                project=self.project,
                name=label(run),
                resume="allow",
                config=dict(config),
            )
        )


SINKS: dict[str, type[SinkType]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
}


def check_sinks(blocks: Sequence[Any]) -> None:
    """Raises `ComityError` for sinks that are unknown or whose library is not installed.

    Before a model is loaded, and before there is a folder.
    """
    for kind in [build("sink", block, SINKS) for block in blocks]:
        _require(kind.extra, kind.extra)


class Sinks:
    """All sinks of a run; a context manager that closes them."""

    def __init__(self, blocks: Sequence[Any], run: Path, config: Mapping[str, Any]) -> None:
        """`blocks`: names, or mappings with `name` and parameters; `config`: the run's, plain."""
        kinds = [build("sink", block, SINKS) for block in blocks]
        self.sinks: list[Sink] = []
        for kind in kinds:
            try:
                self.sinks.append(kind.open(run, config))
            except ComityError:
                raise
            except Exception as error:  # Each library has errors of its own.
                name = type(kind).__name__
                raise SinkError(f"the sink {name} did not start: {one_line(error)}") from error

    def log(self, iteration: int, metrics: Mapping[str, Any]) -> None:
        """Gives every sink the flattened metrics."""
        flat = flatten(metrics) if self.sinks else {}
        for sink in list(self.sinks):
            try:
                sink.log(iteration, flat)
            except Exception as error:  # Each library has errors of its own.
                self.sinks.remove(sink)
                warn(
                    f"a sink failed in iteration {iteration} and gets nothing more "
                    f"({type(error).__name__}: {one_line(error)}); the run folder has all metrics"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sink in self.sinks:
            try:
                sink.close()
            except Exception as error:
                warn(f"a sink could not be closed ({type(error).__name__}: {one_line(error)})")


def label(run: Path) -> str:
    """A name for the run that no other has: its folder's, after its study's if it is in one."""
    run = top = run.resolve()
    for parent in run.parents[:2]:
        if (parent / "config.yaml").is_file():
            top = parent
    return "-".join([top.name, *run.relative_to(top).parts])


def flatten(metrics: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """Finite numbers by slash-joined names: `{"outcomes": {"CC": .5}}` to `outcomes/CC`.

    A pair of a count and of what it was counted among becomes their ratio
    (`conditional/CC`). What is not known (null, NaN, 0 among 0) is left out.
    """
    flat: dict[str, float] = {}
    for key, value in metrics.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}/"))
        elif isinstance(value, list | tuple):
            count, among = value
            if among:
                flat[name] = count / among
        elif isinstance(value, int | float) and math.isfinite(value):
            flat[name] = float(value)
    return flat


@dataclasses.dataclass
class _TensorBoard:
    writer: Any

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, iteration)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


@dataclasses.dataclass
class _Module:
    """A run of wandb or of trackio, which took over wandb's interface."""

    run: Any

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=iteration)

    def close(self) -> None:
        self.run.finish()


def _require(module: str, extra: str) -> types.ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ComityError(
            f"the sink {extra} needs a library that is not installed; "
            f"run: pip install 'comity[{extra}]'"
        ) from error
