"""Prints the lowest version of every direct dependency that `pyproject.toml` allows, for pip.

    python -m tests.lowest_versions > lowest.txt

Torch stays as `constraints.txt` has it: older builds for CPUs are not on PyPI, and the others
bring gigabytes of CUDA libraries.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("api", "axelrod", "joblib", "slurm", "tensorboard", "trackio", "wandb")
TESTING = ("hypothesis", "psutil", "pytest", "pytest-xdist")
AS_TESTED = ("torch",)


def floors(requirements: Iterable[str]) -> dict[str, str]:
    """Lowest allowed version by name."""
    found = {}
    for one in requirements:
        match = re.fullmatch(r"([\w.-]+)>=([\w.]+)(,<[\w.]+)?", one)
        if match is None:
            raise ValueError(f"{one}: not of the form NAME>=VERSION")
        found[match[1]] = match[2]
    return found


def lowest() -> Iterator[str]:
    """Requirements, pinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pins = floors(project["dependencies"])
    for name in EXTRAS:
        pins |= floors(extras[name])
    pins |= {name: low for name, low in floors(extras["dev"]).items() if name in TESTING}
    tested = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    for name in AS_TESTED:
        pins[name] = tested[name]
    yield from (f"{name}=={version}" for name, version in sorted(pins.items()))


if __name__ == "__main__":
    print("\n".join(lowest()))
