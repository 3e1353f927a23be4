"""A worker process that ends when the process that started it has ended, however that was.

A process that is killed (SIGKILL, out of memory) cannot end its workers, and joblib's go on.
"""

import os
import time
from functools import cache
from threading import Thread

POLL = 1.0
"""Seconds between looks at the parent."""


@cache
def end_with_parent(parent: int) -> None:
    """End this process at once when its parent, the process `parent`, is gone.

    A process with another parent is left alone: it was started to outlive `parent` (a job of a
    cluster) or is `parent` itself.
    """
    if os.getppid() == parent:
        Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    # Orphans get another parent, on Linux and on macOS.
    while os.getppid() == parent:
        time.sleep(POLL)
    os._exit(1)
