"""An event loop in a thread of its own, for callers that are not asynchronous."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class EventLoop:
    """Runs coroutines in the background; the thread ends with the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="requests", daemon=True)
        self._thread.start()

    def start(self, work: Sequence[Coroutine[Any, Any, Result]]) -> "Future[list[Result]]":
        """Run all of them at once; the first exception cancels the others."""
        return asyncio.run_coroutine_threadsafe(_together(work), self._loop)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run one and wait for it."""
        return wait(self.start([work]))[0]

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def close(self) -> None:
        """Stop the loop; nothing may be running."""
        if self.is_closed:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def wait(future: "Future[Result]") -> Result:
    """Its result; interrupted (ctrl-c), the work is cancelled."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def _together(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
