"""The catalog of `comity list`: every game, reward, player ... with a one-line description.

Options of config groups are described by the first comment line of their YAML file, players and
sinks by their classes. Modules that import numpy are imported only when listed, so that
`comity list experiments` is fast.
"""

import difflib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from comity.config.groups import Sentences, options
from comity.config.presets import experiments, populations
from comity.errors import ComityError, lookup
from comity.registry import sentences

if TYPE_CHECKING:  # Imported where something is printed.
    from rich.console import Console

MODEL_PLAYERS: Sentences = {
    "learner": "A language model that is trained; all seats with it share one adapter.",
    "learner:NAME": "A learner with its own adapter and optimizer, called NAME.",
    "base": "The base language model, without an adapter.",
    "run:FOLDER": "The trained policy of a run, frozen: run:FOLDER@ITERATION:LEARNER.",
    "model:ID": "Another base language model, without an adapter.",
    "adapter:PATH": "The language model with a trained adapter from a folder (PEFT format).",
    "api": "A language model behind an API, as set by `api` (see `comity list apis`).",
    "api:MODEL@BASE_URL": "Another model or endpoint, with the other settings of `api`.",
    "human": "A human at the terminal; only in `comity play`.",
}


PREFIXES: Sentences = {
    "REWARD": "Learns with any reward of comity list rewards; with parameters: types.NAME={...}.",
    "tabular:TYPE": "A learner with tables; learner=tabular makes all learners so.",
    "dqn:TYPE": "A learner with networks, the default of populations that choose partners.",
    "LLM:TYPE": "A language model that learns with the type's reward (model=smollm2-135m).",
    "LLM:run:FOLDER": "The trained policy of a run, frozen; LLM:run:FOLDER@ITERATION:LEARNER.",
}
"""Types of agents that stand for many."""


def choices(group: str) -> Sentences:
    """The options of a config group, including user-defined ones."""
    from comity.config.own_parts import own

    return options(group) | sentences(own(group))


def _rewards() -> Sentences:
    from comity.config.own_parts import own
    from comity.rewards import REWARDS

    kinds = {**REWARDS, **own("reward")}

    def described(name: str, sentence: str) -> str:
        formula = getattr(kinds.get(name), "formula", "")
        published = getattr(kinds.get(name), "published", "")
        said = [formula, f"published as {published}" if published else ""]
        return f"{sentence} [{'; '.join(filter(None, said))}]" if any(said) else sentence

    return {name: described(name, sentence) for name, sentence in choices("reward").items()}


def _own_players() -> Sentences:
    from comity.players.scripted.catalog import all_strategies

    return MODEL_PLAYERS | sentences(all_strategies())


def _players() -> Sentences:
    from comity.players.scripted.axelrod_index import PREFIX, table

    package = {f"{PREFIX}{name}": one.sentence for name, one in table().items()}
    return _own_players() | package


def _players_in_short() -> Sentences:
    """With one line for all strategies of the axelrod package."""
    from comity.players.scripted.axelrod_index import PREFIX, table

    every = f"One of {len(table())} strategies of the axelrod package: comity list players axelrod"
    return _own_players() | {f"{PREFIX}NAME": f"{every}."}


def _agents() -> Sentences:
    from comity.populations.own_kinds import own_kinds
    from comity.populations.types import FIXED_TYPES, LEARNER_TYPES
    from comity.rewards import REWARDS

    learners = {
        kind: f"Learns with the reward {reward}: {REWARDS[reward].formula}."
        for kind, reward in LEARNER_TYPES.items()
    }
    fixed = {kind: f"Fixed: {rule}; partners at random." for kind, rule in FIXED_TYPES.items()}
    own = {f"{kind}:TYPE": sentence for kind, sentence in sentences(own_kinds()).items()}
    return learners | PREFIXES | own | fixed


def _metrics() -> Sentences:
    from comity.evaluation.metrics import all_metrics

    return sentences(all_metrics())


def _tournament_metrics() -> Sentences:
    from comity.evaluation.tournament.metrics import all_metrics

    return {name: metric.text for name, metric in all_metrics().items()}


def _sinks() -> Sentences:
    from comity.runs.sinks import SINKS

    return sentences(SINKS)


def _streams() -> Sentences:
    from comity.games.randomness import STREAMS

    return {name: f"{what[0].upper()}{what[1:]}." for name, what in STREAMS.items()}


BESIDE = 45
"""Minimum columns for descriptions beside names in a terminal."""
PARTS = (
    *("moral/regime", "moral/opponent", "moral/version"),
    *("negotiation/game", "negotiation/method", "negotiation/version"),
)
"""The config groups of which published experiments are composed."""

KINDS: dict[str, Callable[[], Sentences]] = {
    "experiments": experiments,
    "populations": populations.presets,
    "agents": _agents,
    "games": lambda: choices("game"),
    "lengths": lambda: options("game/length"),
    "prompts": lambda: choices("prompt"),
    "answers": lambda: choices("answer"),
    "rewards": _rewards,
    "players": _players,
    "algorithms": lambda: choices("algorithm"),
    "metrics": _metrics,
    "tournament_metrics": _tournament_metrics,
    "optimizers": lambda: options("optimizer"),
    "adapters": lambda: options("adapter"),
    "opponent_pools": lambda: options("opponent_pool"),
    "apis": lambda: options("api"),
    "models": lambda: options("model"),
    "engines": lambda: options("engine"),
    "sinks": _sinks,
    "streams": _streams,
    **{group: partial(options, group) for group in PARTS},
}
"""The kinds of `comity list`, in order."""

IN_SHORT: dict[str, Callable[[], Sentences]] = {"players": _players_in_short}
"""Kinds that are shorter where all kinds are listed."""


def catalog(kind: str | None = None, words: Sequence[str] = ()) -> dict[str, Sentences]:
    """Names and descriptions of one kind ("games" or "game"), or of all.

    `words`: only those that contain all of these in name or description, ignoring case;
    `ComityError` if there are none.
    """
    if kind is None:
        return {name: IN_SHORT.get(name, load)() for name, load in KINDS.items()}
    name = kind if kind in KINDS else f"{kind}s" if f"{kind}s" in KINDS else kind
    described = lookup("kind", name, KINDS)()
    found = {
        one: sentence
        for one, sentence in described.items()
        if all(word.lower() in f"{one} {sentence}".lower() for word in words)
    }
    if not found:
        close = difflib.get_close_matches(" ".join(words), described, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise ComityError(
            f"{name}: none contains {' and '.join(words)}; {hint}see: comity list {name}"
        )
    return {name: found}


def show(kinds: dict[str, Sentences], families: bool = False) -> None:
    """Prints names and descriptions; wrapped in a terminal, one line each in a pipe.

    `families`: show the overview of experiments by study.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    several = len(kinds) > 1
    for number, (kind, described) in enumerate(kinds.items()):
        if several:
            console.print(Text(f"{chr(10) if number else ''}{kind}", style="bold"))
        if families and kind == "experiments":
            from comity.commands.overview import overview

            indent = "  " if several else ""
            for line in overview(min(max(console.width, 60), 110) - len(indent)):
                style = "bold" if line[:1] != " " else ""
                console.print(Text(f"{indent}{line}" if line else "", style), soft_wrap=True)
        elif console.is_terminal:
            _show_in_terminal(console, described)
        else:
            width = max(map(len, described))
            for name, sentence in described.items():
                print(f"  {name:<{width}}  {sentence}")


def _show_in_terminal(console: "Console", described: Sentences) -> None:
    """Prints descriptions beside the names, or below them in a narrow terminal."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    if console.width - max(map(len, described)) < BESIDE:
        for name, sentence in described.items():
            console.print(Text(f"  {name}", style="cyan"))
            console.print(Padding(Text(sentence), (0, 0, 0, 6), expand=False))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, sentence in described.items():
        table.add_row(Text(f"  {name}", style="cyan"), Text(sentence))
    console.print(table)
