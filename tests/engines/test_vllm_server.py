"""The server that Comity starts: where it comes from, and that nothing of it is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from comity.engines.vllm.server import VllmServer
from comity.errors import ComityError

STANDIN = """
import http.server, os, pathlib, subprocess, sys

worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
arguments = dict(zip(sys.argv[1:], sys.argv[2:]))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

server = http.server.HTTPServer(("127.0.0.1", int(arguments["--port"])), Handler)
pathlib.Path(arguments["--model"], "pids").write_text(f"{os.getpid()} {worker.pid}")
server.serve_forever()
"""
"""What `python -m vllm.entrypoints.openai.api_server` runs: a server with a worker process."""

OWNER = """
import sys, time
from pathlib import Path
from comity.engines.vllm.server import VllmServer

folder = Path(sys.argv[1])
server = VllmServer(
    sys.argv[2], folder, dtype="float32", log=folder / "log", rank=4, adapters=1, timeout=100
)
print("ready", flush=True)
time.sleep(600)
"""


def start(python: str, folder: Path, **more: Any) -> VllmServer:
    given = {"dtype": "float32", "log": folder / "log", "rank": 4, "adapters": 1, **more}
    return VllmServer(python, folder, **given)


def environment(folder: Path, server: str | None) -> str:
    """The Python of an environment whose vLLM has this server; None: it has none."""
    package = folder / "env" / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    if server is not None:
        inner = package / "entrypoints" / "openai"
        inner.mkdir(parents=True)
        (inner / "api_server.py").write_text(server)
    program = folder / "env" / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{package.parent}" exec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[str]:
    """The Python of an environment with a server that answers."""
    yield environment(tmp_path, STANDIN)
    for pid in pids(tmp_path):  # of a test that failed
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def pids(folder: Path) -> list[int]:
    """The server and its worker."""
    file = folder / "pids"
    return [int(one) for one in file.read_text().split()] if file.is_file() else []


def alive(pid: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


def ended(processes: list[int], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while any(alive(one) for one in processes):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_a_closed_server_leaves_no_process(standin: str, tmp_path: Path) -> None:
    server = start(standin, tmp_path)
    found = pids(tmp_path)
    assert len(found) == 2 and all(alive(one) for one in found)
    server.close()
    server.close()  # A second time is nothing.
    assert ended(found, 5)


def test_a_server_does_not_outlive_a_process_that_was_killed(standin: str, tmp_path: Path) -> None:
    """SIGKILL: no handler and no `atexit` of ours runs."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), standin], stdout=subprocess.PIPE
    )
    try:
        assert owner.stdout is not None and owner.stdout.readline() == b"ready\n"
        found = pids(tmp_path)
        assert len(found) == 2 and all(alive(one) for one in found)
    finally:
        owner.kill()
        owner.communicate()
    assert ended(found)


def test_an_environment_without_vllm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComityError, match="no Python"):
        start(str(tmp_path / "nowhere"), tmp_path)
    with pytest.raises(ComityError, match="has no vLLM"):
        start(sys.executable, tmp_path)
    with pytest.raises(ComityError, match="rank"):
        start(sys.executable, tmp_path, rank=1024)
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'no such library' >&2; exit 127\n")
    with pytest.raises(ComityError, match="no Python"):
        start(str(program), tmp_path)
    program.chmod(0o755)
    with pytest.raises(ComityError, match="does not run as a Python \\(no such library\\)"):
        start(str(program), tmp_path)
    program.write_bytes(b"\0\1 neither a program nor a script")
    with pytest.raises(ComityError, match="does not run"):
        start(str(program), tmp_path)


def test_a_server_that_does_not_start_leaves_its_last_error(tmp_path: Path) -> None:
    with pytest.raises(ComityError, match=r"did not start: .*No module named"):
        start(environment(tmp_path, None), tmp_path)
