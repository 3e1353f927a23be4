"""Writes the reference pages that are tables of what the package has: `python -m docs.generate`.

A page is its template in `docs/templates/`, with tables made of what the package says itself: the
dictionaries, docstrings, fields, and the comments of the YAML files. A part that is added there
is on its page with the next run; `tests/test_reference_pages.py` compares.
"""

import ast
import csv
import inspect
import io
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module, resources
from itertools import product
from pathlib import Path
from typing import Any, get_type_hints

import jinja2
import yaml

from comity.config.groups import header, options
from comity.evaluation.population.metrics import METRICS as POPULATION_METRICS
from comity.evaluation.tournament.metrics import BOUNDS, METRICS
from comity.games import GAMES, make_game
from comity.games.base import Observation, Round
from comity.games.lengths import Fixed, Geometric
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.random_tables import RandomTables
from comity.games.matrix.stages import MatrixStage
from comity.games.split.game import Split
from comity.players.scripted import axelrod_index
from comity.players.scripted.axelrod_package import package
from comity.players.scripted.catalog import MATRIX_STRATEGIES, NEGOTIATORS
from comity.prompts import PROMPTS
from comity.rewards import REWARDS
from comity.rewards.base import ActionReward

DOCS = Path(__file__).parent
PAGES = ("rewards", "players", "games", "prompts", "tournament-metrics", "population-metrics")
ITERATED = tuple(inspect.signature(GAMES["prisoners_dilemma"]).parameters)
"""Parameters of all iterated games; the configuration's page has them."""
RENAMED = {"label_choice": "labels"}
"""Parameters by the field that they become, where that has another name."""
SPLIT = {"items", "stock", *(field.name for field in fields(Split))}
"""Parameters of all split games; the template has them."""


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


def page(name: str) -> str:
    """The text of one reference page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(DOCS / "templates"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    text = environment.get_template(f"{name}.md.j2").render(
        rewards=rewards, strategies=strategies, negotiators=negotiators,
        axelrod_strategies=axelrod_strategies,
        iterated_games=iterated_games,
        iterated_parameters=", ".join(f"`{name}`" for name in ITERATED), split_games=split_games,
        prompts=prompts, tournament_metrics=tournament_metrics,
        population_metrics=population_metrics,
    )  # fmt: skip
    title, rest = text.split("\n", 1)
    made = f"<!-- Made by `make docs` from the code and docs/templates/{name}.md.j2. -->"
    return f"{title}\n\n{made}\n{rest}"


# The tables


def rewards() -> str:
    """Every reward with its formula."""
    shared = {field.name for field in fields(ActionReward)}
    return table(
        ("reward", "what it is", "definition", "published as", "parameters"),
        (
            (
                f"`{name}`",
                described(kind),
                f"`{kind.formula}`",
                getattr(kind, "published", ""),
                listed(one for one in parameters(kind) if one.name not in shared),
            )
            for name, kind in REWARDS.items()
        ),
    )


def strategies() -> str:
    """Every strategy of games of moves, with the probabilities of its first two moves."""
    return table(
        ("player", "parameters", "rule", "P(C) in round 0; after CC, CD, DC, DD"),
        (
            (f"`{name}`", listed(parameters(kind)), described(kind), cooperation(kind()))
            for name, kind in MATRIX_STRATEGIES.items()
        ),
    )


def cooperation(strategy: Any) -> str:
    """P(C) in the first round and in the second, in the prisoner's dilemma with 5/3/1/0."""
    game = make_game({"name": "prisoners_dilemma"})
    seen = [()] + [(Round(joint, joint, (0.0, 0.0)),) for joint in product((0, 1), repeat=2)]
    known = [Observation(0, 2, len(history), history, None) for history in seen]
    first, *later = (f"{strategy.probabilities(one, game)[0]:.2g}" for one in known)
    return f"{first}; {', '.join(later)}"


def negotiators() -> str:
    """Every strategy of split games."""
    return table(
        ("player", "parameters", "rule"),
        (
            (f"`{name}`", listed(parameters(kind)), described(kind))
            for name, kind in NEGOTIATORS.items()
        ),
    )


def axelrod_strategies() -> str:
    """Every strategy of the axelrod package with its classifiers."""
    return table(
        ("player", "the package's name", "moves", "memory", "uses", "notes"),
        (
            (
                f"`{axelrod_index.PREFIX}{name}`",
                one.title,
                "stochastic" if one.stochastic else "deterministic",
                "∞" if one.memory_depth == float("inf") else f"{one.memory_depth:g}",
                ", ".join(axelrod_index.USES[use] for use in one.makes_use_of),
                ", ".join(one.notes),
            )
            for name, one in axelrod_index.table().items()
        ),
    )


def iterated_games() -> str:
    """Every game that repeats a stage."""
    rows = []
    for name, factory in GAMES.items():
        game = example(name)
        if game is None or isinstance(game, Iterated):
            said = yaml_comments("game", name)
            said |= field_sentences(type(game.stage)) if game is not None else {}
            own = [one for one in parameters(factory, said) if one.name not in ITERATED]
            moves, payoffs = stage_cells(game)
            what = described(factory)
            payoffs = "as described" if payoffs == what else payoffs
            rows.append((f"`{name}`", what, moves, payoffs, listed(own)))
    return table(("game", "what it is", "moves", "payoffs", "parameters"), rows)


def stage_cells(game: Iterated | None) -> tuple[str, str]:
    """Names of the moves, and what they pay."""
    if game is None:
        return "as given", "as given"
    moves, stage = ", ".join(game.moves), game.stage
    if isinstance(game, RandomTables):
        return moves, "sampled for every match"
    if isinstance(stage, MatrixStage) or stage.seats == 2:
        return moves, "; ".join(
            f"{game.moves[row]}, {game.moves[column]}: "
            + ", ".join(f"{payoff:g}" for payoff in stage.payoff((row, column)))
            for row, column in product(range(len(game.moves)), repeat=2)
        )
    return moves, described(type(stage))


def split_games() -> str:
    """Every split game."""
    rows = []
    for name, factory in GAMES.items():
        game = example(name)
        if isinstance(game, Split):
            own = [
                one
                for one in parameters(factory, yaml_comments("game", name))
                if one.name not in SPLIT
            ]
            talk = f"{game.messages}, {game.message_limit} characters" if game.messages else "none"
            rules = talk, game.finalization, game.payment, rounds(game.length)
            rows.append((f"`{name}`", described(factory), *rules, listed(own)))
    names = ("game", "what it is", "messages", "claims", "payment", "rounds", "parameters")
    return table(names, rows)


def rounds(length: Any) -> str:
    """How many rounds there are."""
    if isinstance(length, Geometric):
        return f"geometric, {length.continue_probability:g}, at most {length.cap}"
    return str(length.rounds) if isinstance(length, Fixed) else str(length)


def example(name: str) -> Any:
    """The game as its YAML file has it; None where that leaves something to give."""
    block = yaml_block("game", name)
    block.pop("defaults", None)
    block.pop("length", None)
    return None if "???" in block.values() else make_game(block)


def prompts() -> str:
    """A section for every prompt, in the order of the dictionary, with its keys."""
    blocks = {option: yaml_block("prompt", option) for option in options("prompt")}
    sections = []
    for name, factory in PROMPTS.items():
        found = {option: block for option, block in blocks.items() if block["name"] == name}
        first = found.get(name) or next(iter(found.values()))
        comments = yaml_comments("prompt", next(o for o, b in found.items() if b is first))
        keys = [
            (f"`{one.name}`", value(first.get(one.name, one.default)),
             one.sentence or missing(name, one.name))
            for one in parameters(factory, comments)
        ]  # fmt: skip
        lines = [f"## `{name}`", *paragraphs(factory)]
        for option, block in found.items():
            if option != name:
                other = {k: v for k, v in block.items() if v != first.get(k)}
                keyed = ", ".join(f"`{key}={value(one)}`" for key, one in other.items())
                lines.append(f"`prompt={option}`: {options('prompt')[option]} Sets {keyed}.")
        sections.append("\n\n".join([*lines, table(("key", "default", "meaning"), keys)]))
    return "\n\n".join(sections)


def tournament_metrics() -> str:
    """Every metric of an ordered pair of agents."""
    return table(
        ("metric", "title", "definition", "formula", "unit", "range", "source"),
        (
            (
                f"`{name}`",
                one.title,
                one.text,
                f"`{one.formula}`",
                one.unit,
                BOUNDS[one.bounds][0],
                one.source,
            )
            for name, one in METRICS.items()
        ),
    )


def population_metrics() -> str:
    """Every metric of a population."""
    return table(
        ("metric", "title", "definition", "formula", "unit", "measured of", "source"),
        (
            (
                f"`{name}`",
                one.label,
                one.definition,
                f"`{one.formula}`",
                one.unit,
                one.scope,
                one.source,
            )
            for name, one in POPULATION_METRICS.items()
        ),
    )


def missing(part: str, key: str) -> str:
    """A key without a sentence is an error."""
    raise SystemExit(f"{part}: give {key!r} a sentence, below the field or above it in the YAML")


# What the package says of its parts


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


def axelrod_table() -> str:
    """The table of `comity.players.scripted.axelrod_index`, made from the installed package."""
    axelrod = package()
    names = ("stochastic", "long_run_time", "inspects_source", "manipulates_source",
             "manipulates_state")  # fmt: skip
    lines = io.StringIO()
    lines.write(f"# Made by `make docs` from axelrod {axelrod.__version__}\n")
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(["class_name", "title", "memory_depth", *names, "makes_use_of"])
    for kind in sorted(axelrod.all_strategies, key=lambda kind: kind.__name__.lower()):
        player = kind()
        said = {key: axelrod.Classifiers[key](player) for key in (*names, "memory_depth")}
        uses = sorted(axelrod.Classifiers["makes_use_of"](player) or ())
        flags = ["yes" if said[key] else "no" for key in names]
        rows.writerow(
            [kind.__name__, kind.name, f"{said['memory_depth']:g}", *flags, " ".join(uses)]
        )
    return lines.getvalue()


def main() -> None:
    """Writes all pages, and the table of axelrod's strategies if the package is there."""
    if axelrod_index.installed_version() is not None:
        file = Path(str(resources.files(axelrod_index.__package__) / axelrod_index.TABLE))
        file.write_text(axelrod_table(), encoding="utf-8")
        axelrod_index.forget()
    for name in PAGES:
        (DOCS / "reference" / f"{name}.md").write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
