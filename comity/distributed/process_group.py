"""The processes that train one run together, and what they exchange.

`ProcessGroup` is a group of one process: nothing is exchanged, and code for several ranks needs
no other path. `TorchProcessGroup` is a group over `torch.distributed`.

Every rank must call the same methods in the same order: each waits for all the others.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed

from comity.errors import ComityError, WorkError

Value = TypeVar("Value")


class LostRankError(WorkError):
    """Another rank ended or cannot be reached; it says why itself."""


def lost_rank() -> LostRankError:
    """The error of a rank that cannot reach another one."""
    error = LostRankError("another rank ended or cannot be reached, so this one ends, too")
    error.shared = True
    return error


class Served(Protocol):
    """What a rank does for others while it waits for them."""

    def serve(self) -> None:
        """Returns once all ranks wait."""
        ...

    def metrics(self) -> dict[str, float]:
        """What it did since the last call, and seconds, for the metrics."""
        ...


class ProcessGroup:
    """A group of one process."""

    rank = 0
    """Number of this process."""
    size = 1
    """Number of processes."""

    def metrics(self) -> dict[str, Any]:
        """What was exchanged since the last call, for the metrics; empty for one process."""
        return {}

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and shows progress."""
        return self.rank == 0

    def use_device(self, device: torch.device) -> None:
        """Exchange gradients on this device from now on."""

    def gather(self, value: Value) -> list[Value]:
        """Every rank's value, in the order of ranks."""
        return [value]

    def broadcast(self, value: Value) -> Value:
        """The first rank's value."""
        return value

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace every `.grad` by the sum over ranks; None counts as 0, and stays if all are."""

    def total(self, number: float) -> Any:
        """The sum of a number over ranks, added in the order of ranks."""
        return sum(self.gather(number))

    def share(self, items: int) -> range:
        """The part of `items` consecutive items that is this rank's; parts differ by 1 at most."""
        return range(self.rank * items // self.size, (self.rank + 1) * items // self.size)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Where a rank raises a `ComityError` inside the block, all ranks raise the first of them.

        The block must not exchange anything but by `together`.
        """
        yield


class TorchProcessGroup(ProcessGroup):
    """A group over `torch.distributed`: gloo, and NCCL for gradients on GPUs."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()
        self.served: Served | None = None
        """Work for other ranks that waiting ranks do; the same kind on all ranks."""
        self._gradients: torch.distributed.ProcessGroup | None = None
        self._bytes_reduced, self._waiting, self._exchanging = 0, 0.0, 0.0

    def metrics(self) -> dict[str, Any]:
        """Number of ranks, bytes of gradients that each gave, and times as means over ranks.

        `waiting`: seconds for the slowest rank; `exchanging`: seconds of the exchange itself. With
        sharded weights also those of `BlockGathering.metrics`.
        """
        served = {} if self.served is None else self.served.metrics()
        spent = self._bytes_reduced, self._waiting, self._exchanging, *served.values()
        self._bytes_reduced, self._waiting, self._exchanging = 0, 0.0, 0.0
        found = self.gather(spent)
        _, *means = (sum(values) / self.size for values in zip(*found, strict=True))
        times = dict(zip(("waiting", "exchanging", *served), means, strict=True))
        row = {key: round(value, 3) for key, value in times.items()}
        return {"ranks": {"count": self.size, "gradient_bytes": spent[0], **row}}

    def use_device(self, device: torch.device) -> None:
        if device.type == "cuda" and self._gradients is None:
            self._gradients = self._exchange(torch.distributed.new_group, backend="nccl")

    @property
    def device_group(self) -> torch.distributed.ProcessGroup:
        """The group that exchanges tensors on the device of `use_device`; gloo before."""
        group = self._gradients or torch.distributed.group.WORLD
        assert group is not None
        return group

    def gather(self, value: Value) -> list[Value]:
        found: list[Any] = [None] * self.size
        self._exchange(torch.distributed.all_gather_object, found, value)
        return found

    def broadcast(self, value: Value) -> Value:
        given = [value if self.first else None]
        self._exchange(torch.distributed.broadcast_object_list, given, src=0)
        return given[0]  # type: ignore[return-value]

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """One all-reduce of all gradients, float32."""
        sizes = [one.numel() for one in parameters]
        # Behind the gradients, how many ranks have each of them.
        flat = parameters[0].new_zeros(sum(sizes) + len(sizes), dtype=torch.float32)
        places = [*flat[: sum(sizes)].split(sizes)]
        for number, (one, place) in enumerate(zip(parameters, places, strict=True)):
            if one.grad is not None:
                place.copy_(one.grad.reshape(-1))
                flat[sum(sizes) + number] = 1.0
        self._exchange(torch.distributed.all_reduce, flat, group=self._gradients)
        self._bytes_reduced += flat.numel() * flat.element_size()
        known = flat[sum(sizes) :].tolist()
        for one, place, ranks in zip(parameters, places, known, strict=True):
            one.grad = place.view_as(one).to(one.dtype) if ranks else None

    @contextmanager
    def together(self) -> Iterator[None]:
        failure: ComityError | None = None
        try:
            yield
        except ComityError as error:
            if error.shared:  # All ranks raise it from inside the block.
                raise
            failure = error
        told = None if failure is None else (str(failure), failure.exit_code)
        found = enumerate(self.gather(told))
        number, first = next(((rank, one) for rank, one in found if one is not None), (0, None))
        if first is None:
            return
        if failure is None or number != self.rank:
            text, code = first
            failure = ComityError(text if number == 0 else f"rank {number}: {text}")
            failure.exit_code = code
        failure.shared = True
        raise failure

    def _exchange(self, collective: Callable[..., Any], *values: Any, **settings: Any) -> Any:
        """Wait for all ranks, then call one of torch's collectives."""
        began = time.perf_counter()
        try:
            # First, on the CPU: NCCL would give up on a rank that still plays.
            if self.served is None:
                torch.distributed.barrier()
            else:
                self.served.serve()
            ready = time.perf_counter()
            result = collective(*values, **settings)
            if self._gradients is not None:
                torch.cuda.synchronize()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # The one that all backends' errors have in common.
            raise lost_rank() from error
        self._waiting += ready - began
        self._exchanging += time.perf_counter() - ready
        return result


ALONE = ProcessGroup()
"""The group of a process that no launcher started with others."""
