"""Workers of a process that was killed."""

import os
import subprocess
import sys
import time

from comity.runs.parent_process import POLL, end_with_parent

WORKER = """
import os, time
from comity.runs.parent_process import end_with_parent
end_with_parent({parent})
print(os.getpid(), flush=True)
time.sleep(60)
"""
OWNER = """
import os, subprocess, sys, time
code = sys.argv[1].replace("{parent}", str(os.getpid()))
subprocess.Popen([sys.executable, "-c", code])
time.sleep(60)
"""


def test_a_worker_ends_when_its_parent_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, WORKER], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    worker = int(owner.stdout.readline())
    time.sleep(2 * POLL)
    os.kill(worker, 0)  # With its parent, it goes on.
    owner.kill()
    began = time.monotonic()
    # The worker holds the pipe as long as it lives.
    assert owner.stdout.read() == b""
    assert time.monotonic() - began < 30
    owner.wait()


def test_a_process_that_somebody_else_started_is_left_alone() -> None:
    end_with_parent(os.getpid())
    time.sleep(2 * POLL)
