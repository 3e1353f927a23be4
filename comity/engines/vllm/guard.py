"""Runs a command that must not outlive the process that started it, whatever ends that one.

A script of the standard library alone: `python -IS guard.py COMMAND ...`, in a session of its own,
with a pipe as standard input. The command is ended (SIGTERM, then SIGKILL to the whole process
group) at the pipe's first byte, and at its end: the system closes the pipe of a process that was
killed, on Linux and on macOS.
"""

import os
import signal
import subprocess
import sys
import threading

GRACE = 15.0
"""Seconds between SIGTERM and SIGKILL."""


def main(command: list[str]) -> None:
    """Run the command; ends this process's group, this process included."""
    # SIGTERM goes to the group, and this process has to see the end of the command. A handler:
    # the command would inherit a signal that is ignored.
    signal.signal(signal.SIGTERM, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_pipe, args=(child,), daemon=True).start()
    child.wait()
    os.killpg(0, signal.SIGKILL)  # workers that the command left


def _end_with_pipe(child: "subprocess.Popen[bytes]") -> None:
    os.read(0, 1)
    os.killpg(0, signal.SIGTERM)
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
