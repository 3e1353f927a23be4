"""Python processes that begin with Comity imported, which takes a fresh one four seconds.

They are forked from a server that has imported and done nothing else (`multiprocessing`'s
forkserver). Each has the environment that it is given, and ends as Python ends: exit functions,
destructors, exit code.
"""

import ctypes
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

PRELOADED = (
    *("comity.train", "comity.cli", "comity.commands.study"),
    *("comity.experiments.backends", "transformers.models.llama.modeling_llama"),
)


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


class Forked:
    """A forked `python -c CODE` or `python -m MODULE`, as a `subprocess.Popen` of it."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name, name) for name in ("out", "err")]
        for path in self._outputs:
            path.touch()
        arguments = (list(command), dict(env), cwd or Path.cwd(), *self._outputs)
        self._process: Any = _context().Process(target=_run, args=arguments)
        self._process.start()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        code: int | None = self._process.exitcode
        return code

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it wrote, once it has ended; `TimeoutExpired` after so many seconds."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a forked process", timeout)
        out, err = (path.read_text() for path in self._outputs)
        return out, err

    def kill(self) -> None:
        """Kills it."""
        self._process.kill()


def _run(command: list[str], env: dict[str, str], cwd: Path, out: Path, err: Path) -> None:
    """Runs the command in this process and ends it."""
    for number, path in ((1, out), (2, err)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path.insert(0, str(cwd))
    kind, what, *arguments = command
    code: object = 0
    try:
        sys.argv = [what if kind == "-m" else kind, *arguments]
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    number = code if isinstance(code, int) else int(code is not None)
    ctypes.pythonapi.Py_Exit(ctypes.c_int(number))
