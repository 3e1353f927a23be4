"""Versions of the libraries, the code's revision and the machine of a run."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

LIBRARIES = ("comity", "torch", "transformers", "peft", "numpy", "pyarrow", "safetensors")


def versions() -> dict[str, Any]:
    """The content of `versions.json`; a value that cannot be known here is null."""
    torch = sys.modules.get("torch")  # People and scripts play without: what it says is null.
    cuda = torch is not None and torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        **{name: _installed(name) for name in LIBRARIES},
        "revision": _own_revision(),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads() if torch is not None else None,
        "gpu": torch.cuda.get_device_name() if torch is not None and cuda else None,
        "cuda": torch.version.cuda if torch is not None and cuda else None,
    }


@cache
def _own_revision() -> dict[str, Any] | None:
    """Of the code that runs, which was imported once."""
    return revision(Path(__file__).parent)


@cache
def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def revision(package: Path) -> dict[str, Any] | None:
    """`{commit, dirty}` of the git checkout that tracks the folder `package`, or None.

    An installed package may lie inside a checkout of something else (a virtual environment
    below a project); only a checkout that tracks these very files counts. `dirty` means
    that tracked files differ from the commit.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        commit = git("rev-parse", "HEAD")
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": dirty}


def cpu_name() -> str | None:
    """The processor's name as its maker gives it, where the system says."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        try:
            return subprocess.run(
                ["sysctl", "-n", "machdep.cpu.brand_string"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    return platform.processor() or None
