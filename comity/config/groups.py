"""The config groups: which options each has, and the sentence that describes an option.

The sentence is the first comment line of the option's YAML file.
"""

from functools import cache
from importlib import resources

Sentences = dict[str, str]
"""Names with a sentence each."""


def options(group: str) -> Sentences:
    """The options of a config group (`reward`), each with its file's first comment."""
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
    """The first comment of a YAML file that is not a directive to Hydra (`# @package`)."""
    for line in yaml.splitlines():
        if line.startswith("#") and not line.startswith("# @"):
            return line.lstrip("# ").strip()
    return ""


def folders(group: str, above: str = "") -> list[str]:
    """Every folder below a group, also inside others ("robust/small")."""
    entries = resources.files("comity.configs").joinpath(f"{group}/{above}").iterdir()
    names = [f"{above}{entry.name}" for entry in entries if entry.is_dir()]
    return [one for name in names for one in (name, *folders(group, f"{name}/"))]
