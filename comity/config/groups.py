"""The options of the config groups, with their one-line descriptions.

The description is the first comment line of an option's YAML file.
"""

from functools import cache
from importlib import resources

Sentences = dict[str, str]
"""Descriptions by name."""


def options(group: str) -> Sentences:
    """The options of a config group (`reward`), with their descriptions."""
    return dict(_read(group))


@cache
def _read(group: str) -> Sentences:
    found = {}
    folder = resources.files("comity.configs").joinpath(group)
    for file in sorted(folder.iterdir(), key=lambda file: file.name.removesuffix(".yaml")):
        name = file.name.removesuffix(".yaml")
        if file.is_file() and name != file.name and not name.startswith("_"):
            found[name] = header(file.read_text(encoding="utf-8"))
    return found


def header(yaml: str) -> str:
    """The first comment line of a YAML file that is no directive to Hydra (`# @package`)."""
    for line in yaml.splitlines():
        if line.startswith("#") and not line.startswith("# @"):
            return line.lstrip("# ").strip()
    return ""


def folders(group: str, above: str = "") -> list[str]:
    """All folders below a group, recursively ("robust/small")."""
    entries = resources.files("comity.configs").joinpath(f"{group}/{above}").iterdir()
    names = [f"{above}{entry.name}" for entry in entries if entry.is_dir()]
    return [one for name in names for one in (name, *folders(group, f"{name}/"))]
