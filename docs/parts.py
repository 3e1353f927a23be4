"""What the package says of its parts, in Markdown: docstrings, fields, comments of YAML files."""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from importlib import import_module, resources
from typing import Any, get_type_hints

import yaml

from comity.config.groups import header

RENAMED = {"label_choice": "labels"}
"""Parameters by the field that they become, where that has another name."""


@dataclass(frozen=True)
class Parameter:
    """A key of a part's block in the config."""

    name: str
    default: Any
    sentence: str

    def __str__(self) -> str:
        """As it stands in a cell of a table."""
        named = f"`{self.name}`" + ("" if self.default is REQUIRED else f" ({value(self.default)})")
        return f"{named}: {decapitalized(self.sentence)}" if self.sentence else named


REQUIRED = inspect.Parameter.empty


def parameters(
    factory: Callable[..., Any], comments: Mapping[str, str] | None = None
) -> list[Parameter]:
    """The keys of a part in order, with the sentences of the fields that they become.

    `comments`: sentences for the others.
    """
    said = {**(comments or {}), **field_sentences(factory)}
    return [
        Parameter(name, one.default, said.get(name, ""))
        for name, one in inspect.signature(factory).parameters.items()
    ]


def field_sentences(factory: Callable[..., Any]) -> dict[str, str]:
    """Below every field of the dataclass that is made, also of fields that are dataclasses.

    The factory's parameter has the field's name, or the one that `RENAMED` gives it.
    """
    kind = factory if inspect.isclass(factory) else get_type_hints(factory).get("return")
    if not (inspect.isclass(kind) and is_dataclass(kind)):
        return {}
    found: dict[str, str] = {}
    for hint in get_type_hints(kind).values():
        if inspect.isclass(hint) and is_dataclass(hint):
            found |= field_sentences(hint)
    for base in reversed(kind.__mro__):
        if is_dataclass(base):
            found |= own_sentences(base)
    return found


def own_sentences(kind: type) -> dict[str, str]:
    """The sentence below every field in the body of one class."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            text = inspect.cleandoc(ast.literal_eval(below.value))
            name = ast.unparse(field.target)
            name = RENAMED.get(name, name)
            found[name] = with_choices(" ".join(text.split()), sys.modules[kind.__module__])
    return found


def with_choices(sentence: str, module: Any) -> str:
    """The sentence with the choices in place of the dictionary ("One of `GOALS`") that has them."""

    def replaced(match: re.Match[str]) -> str:
        path, name = match[1].rpartition(".")[::2]
        known = getattr(import_module(path) if path else module, name)
        return choices(known)

    return re.sub(r"(?:[Oo]ne of|[Aa] name of) `([\w.]*[A-Z_]+)`", replaced, sentence)


def choices(known: Iterable[Any]) -> str:
    """`name`: what it means; ... Names alone where not every text says what is meant."""
    if not isinstance(known, Mapping):
        return ", ".join(f"`{one}`" for one in known)
    said = {name: text if isinstance(text, str) else "" for name, text in known.items()}
    if not all(said.values()) or any(text.endswith(".") for text in said.values()):
        return ", ".join(f"`{name}`" for name in known)
    return "; ".join(f"`{name}`: {text}" for name, text in said.items())


def paragraphs(entry: object) -> list[str]:
    """A docstring as paragraphs of one line each."""
    text = inspect.getdoc(entry) or ""
    return [" ".join(part.split()) for part in text.split("\n\n")]


def described(entry: object) -> str:
    """A docstring in one line."""
    return " ".join(paragraphs(entry))


def yaml_text(group: str, option: str) -> str:
    """The YAML file of an option."""
    return (resources.files("comity.configs") / group / f"{option}.yaml").read_text("utf-8")


def yaml_block(group: str, option: str) -> dict[str, Any]:
    """What the YAML file of an option says."""
    block: dict[str, Any] = yaml.safe_load(yaml_text(group, option))
    return block


def yaml_comments(group: str, option: str) -> dict[str, str]:
    """The comment above each key of an option's YAML file, or behind it."""
    text, found, above = yaml_text(group, option), {}, ""
    for line in text.splitlines():
        if line.startswith("#"):
            above = "" if line.lstrip("# ") == header(text) else line.lstrip("# ")
        elif match := re.match(r"(\w+):.*?(?:\s#\s(.*))?$", line):
            found[match[1]] = match[2] or above
            above = ""
    return found


def missing(part: str, key: str) -> str:
    """A key without a sentence is an error."""
    raise SystemExit(f"{part}: give {key!r} a sentence, below the field or above it in the YAML")


# Markdown


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns in which nothing stands are left out."""
    body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    kept = [n for n in range(len(head)) if any(row[n] for row in body)]
    lines = [list(head), ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line[n] for n in kept)} |" for line in lines)


def listed(found: Iterable[Parameter]) -> str:
    """Parameters in one cell."""
    return "; ".join(str(one).rstrip(".") for one in found)


def value(found: Any) -> str:
    """A value as YAML has it, on one line."""
    if found is REQUIRED or found == "???":
        return "required"
    if isinstance(found, str):
        return found
    plain = list(found) if isinstance(found, tuple) else found
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6)
    return text.removesuffix("...\n").strip()


def decapitalized(sentence: str) -> str:
    """A sentence as it goes on after a colon."""
    first = sentence.split(" ", 1)[0]
    return sentence if first[1:] != first[1:].lower() else sentence[0].lower() + sentence[1:]
