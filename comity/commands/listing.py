"""What there is to choose from: every game, reward, player ... with a sentence each.

For whatever is chosen in the config the sentence is the first comment line of its YAML
file; players and sinks are described by their classes.
"""

from collections.abc import Callable

from comity.config.groups import Sentences, options
from comity.config.own_parts import own
from comity.config.presets import experiments
from comity.errors import lookup
from comity.games.randomness import STREAMS
from comity.registry import sentences

MODEL_PLAYERS: Sentences = {
    "learner": "A language model that is trained; both seats with it share one adapter.",
    "learner:NAME": "A learner with an adapter and optimizer of its own, called NAME.",
    "base": "The language model as it came, without an adapter.",
    "adapter:PATH": "The language model with a trained adapter from a folder (PEFT format).",
    "human": "A person at the terminal; only in `comity play`.",
}


def choices(group: str) -> Sentences:
    """The options of a config group and the user's own parts beside them."""
    return options(group) | sentences(own(group))


def _rewards() -> Sentences:
    from comity.rewards import REWARDS

    kinds = {**REWARDS, **own("reward")}

    def described(name: str, sentence: str) -> str:
        formula = getattr(kinds.get(name), "formula", "")
        published = getattr(kinds.get(name), "published", "")
        said = [formula, f"published as {published}" if published else ""]
        return f"{sentence} [{'; '.join(filter(None, said))}]" if any(said) else sentence

    return {name: described(name, sentence) for name, sentence in choices("reward").items()}


def _players() -> Sentences:
    from comity.players.scripted.catalog import all_strategies

    return MODEL_PLAYERS | sentences(all_strategies())


def _metrics() -> Sentences:
    from comity.evaluation.metrics import all_metrics

    return sentences(all_metrics())


def _sinks() -> Sentences:
    from comity.runs.sinks import SINKS

    return sentences(SINKS)


KINDS: dict[str, Callable[[], Sentences]] = {
    "experiments": experiments,
    "games": lambda: choices("game"),
    "lengths": lambda: options("game/length"),
    "prompts": lambda: choices("prompt"),
    "answers": lambda: choices("answer"),
    "rewards": _rewards,
    "players": _players,
    "algorithms": lambda: choices("algorithm"),
    "metrics": _metrics,
    "opponent_pools": lambda: options("opponent_pool"),
    "models": lambda: options("model"),
    "sinks": _sinks,
    "streams": lambda: {name: f"{what[0].upper()}{what[1:]}." for name, what in STREAMS.items()},
}
"""What `comity list` knows, in its order."""


def catalog(kind: str | None = None) -> dict[str, Sentences]:
    """Names and sentences of one kind ("games" or "game"), or of all."""
    if kind is None:
        return {name: load() for name, load in KINDS.items()}
    name = kind if kind in KINDS else f"{kind}s" if f"{kind}s" in KINDS else kind
    return {name: lookup("kind", name, KINDS)()}


def show(kinds: dict[str, dict[str, str]]) -> None:
    """Prints names and sentences; in a terminal wrapped, in a pipe one line each."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for number, (kind, described) in enumerate(kinds.items()):
        if len(kinds) > 1:
            console.print(Text(f"{chr(10) if number else ''}{kind}", style="bold"))
        if console.is_terminal:
            table = Table.grid(padding=(0, 2))
            table.add_column(no_wrap=True)
            table.add_column()
            for name, sentence in described.items():
                table.add_row(Text(f"  {name}", style="cyan"), Text(sentence))
            console.print(table)
        else:
            width = max(len(name) for name in described)
            for name, sentence in described.items():
                print(f"  {name:<{width}}  {sentence}")
