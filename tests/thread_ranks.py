"""Ranks that are threads of this process, for code that exchanges objects only."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

from comity.distributed.process_group import TorchProcessGroup

Found = TypeVar("Found")
PATIENCE = 60.0
"""Seconds after which a rank is not waited for."""


class ThreadRank(TorchProcessGroup):
    """One of several ranks."""

    def __init__(self, rank: int, barrier: Barrier, values: list[Any]) -> None:
        self.rank, self.size = rank, len(values)
        self._barrier, self._values = barrier, values

    def gather(self, value: Any) -> list[Any]:
        self._values[self.rank] = value
        self._barrier.wait(PATIENCE)
        found = list(self._values)
        self._barrier.wait(PATIENCE)
        return found

    def broadcast(self, value: Any) -> Any:
        return self.gather(value)[0]


def on_ranks(size: int, work: Callable[[ThreadRank], Found]) -> list[Found | BaseException]:
    """What `work` returns or raises on each rank; one that raises may leave the others waiting."""
    barrier, values = Barrier(size), [None] * size

    def one(rank: int) -> Found | BaseException:
        try:
            return work(ThreadRank(rank, barrier, values))
        except BaseException as error:
            return error

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(one, range(size)))
