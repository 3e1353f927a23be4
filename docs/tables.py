"""The tables of the reference pages, made of the dictionaries of the package."""

import inspect
from dataclasses import fields
from itertools import product
from typing import Any

from comity.config.groups import options
from comity.evaluation.population.metrics import METRICS as POPULATION_METRICS
from comity.evaluation.population.optima import OPTIMA
from comity.evaluation.tournament.many_seats.metrics import metrics_of
from comity.evaluation.tournament.metrics import BOUNDS, METRICS
from comity.games import GAMES, make_game
from comity.games.base import Observation, Round
from comity.games.lengths import Fixed, Geometric
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.random_tables import RandomTables
from comity.games.matrix.stages import MatrixStage
from comity.games.split.game import Split
from comity.learning.algorithms import ALGORITHMS
from comity.players.scripted import axelrod_index
from comity.players.scripted.catalog import MATRIX_STRATEGIES, NEGOTIATORS
from comity.prompts import PROMPTS
from comity.rewards import REWARDS
from comity.rewards.base import ActionReward
from docs.parts import (
    described,
    field_sentences,
    listed,
    missing,
    paragraphs,
    parameters,
    table,
    value,
    yaml_block,
    yaml_comments,
)

ITERATED = tuple(inspect.signature(GAMES["prisoners_dilemma"]).parameters)
"""Parameters of all iterated games; the configuration's page has them."""
SPLIT = {"items", "stock", *(field.name for field in fields(Split))}
"""Parameters of all split games; the template has them."""


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


def population_optima() -> str:
    """What is exactly known of a fixed pair."""
    return table(
        ("value", "title", "definition", "formula", "unit"),
        (
            (f"`{name}`", one.label, one.definition, f"`{one.formula}`", one.unit)
            for name, one in OPTIMA.items()
        ),
    )


def many_seats_metrics() -> str:
    """Every metric of an agent in games of more than two seats, here four."""
    return table(
        ("metric", "title", "definition", "formula", "unit", "source"),
        (
            (f"`{name}`", one.title, one.text, f"`{one.formula}`", one.unit, one.source)
            for name, one in metrics_of(4).items()
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


def algorithms() -> str:
    """A section for every algorithm with its keys; one that derives from another has its own."""
    sections = []
    for name, kind in ALGORITHMS.items():
        bases = [
            (other, base)
            for other, base in ALGORITHMS.items()
            if base is not kind and inspect.isclass(kind) and base in kind.__mro__
        ]
        inherited = [one for _, base in bases for one in parameters(base)]
        rows = [
            (f"`{one.name}`", value(one.default), one.sentence or missing(name, one.name))
            for one in parameters(kind)
            if one not in inherited
        ]
        lines = [f"## `{name}`", *paragraphs(kind)]
        lines += [f"It has all keys of `{other}`, and these:" for other, _ in bases]
        sections.append("\n\n".join([*lines, table(("key", "default", "meaning"), rows)]))
    return "\n\n".join(sections)
