"""What there is to choose from: every game, reward, player ... with a sentence each.

For whatever is chosen in the config the sentence is the first comment line of its YAML
file; players and sinks are described by their classes.
"""

from collections.abc import Callable
from importlib import resources

from comity.errors import lookup
from comity.games.randomness import STREAMS

Sentences = dict[str, str]

MODEL_PLAYERS: Sentences = {
    "learner": "A language model that is trained; both seats with it share one adapter.",
    "learner:NAME": "A learner with an adapter and optimizer of its own, called NAME.",
    "base": "The language model as it came, without an adapter.",
    "adapter:PATH": "The language model with a trained adapter from a folder (PEFT format).",
    "human": "A person at the terminal; only in `comity play`.",
}


def options(group: str) -> Sentences:
    """The options of a config group (`reward`), each with its file's first comment."""
    found = {}
    folder = resources.files("comity.configs").joinpath(group)
    for file in sorted(folder.iterdir(), key=lambda file: file.name.removesuffix(".yaml")):
        name = file.name.removesuffix(".yaml")
        if file.is_file() and name != file.name and not name.startswith("_"):
            found[name] = header(file.read_text(encoding="utf-8"))
    return found


def choices(group: str) -> Sentences:
    """The options of a config group and the user's own parts beside them."""
    from comity.own_parts import own
    from comity.registry import sentences

    return options(group) | sentences(own(group))


def header(yaml: str) -> str:
    """The first comment of a YAML file that is not a directive to Hydra (`# @package`)."""
    for line in yaml.splitlines():
        if line.startswith("#") and not line.startswith("# @"):
            return line.lstrip("# ").strip()
    return ""


def experiments() -> Sentences:
    """Experiments in files, also in folders, and the presets that are made of parts."""
    from comity.presets import sentences

    found = options("experiment")
    for folder in sorted(_folders("experiment")):
        inside = options(f"experiment/{folder}")
        found |= {f"{folder}/{name}": sentence for name, sentence in inside.items()}
    return found | sentences()


def _folders(group: str, above: str = "") -> list[str]:
    """Every folder below a group, also inside others ("robust/small")."""
    entries = resources.files("comity.configs").joinpath(f"{group}/{above}").iterdir()
    names = [f"{above}{entry.name}" for entry in entries if entry.is_dir()]
    return [one for name in names for one in (name, *_folders(group, f"{name}/"))]


def _rewards() -> Sentences:
    from comity.own_parts import own
    from comity.rewards import REWARDS

    kinds = {**REWARDS, **own("reward")}

    def described(name: str, sentence: str) -> str:
        formula = getattr(kinds.get(name), "formula", "")
        published = getattr(kinds.get(name), "published", "")
        said = [formula, f"published as {published}" if published else ""]
        return f"{sentence} [{'; '.join(filter(None, said))}]" if any(said) else sentence

    return {name: described(name, sentence) for name, sentence in choices("reward").items()}


def _players() -> Sentences:
    from comity.players.scripts import all_scripts
    from comity.registry import sentences

    return MODEL_PLAYERS | sentences(all_scripts())


def _sinks() -> Sentences:
    from comity.registry import sentences
    from comity.sinks import SINKS

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
    "past": lambda: options("past"),
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
    for number, (kind, sentences) in enumerate(kinds.items()):
        if len(kinds) > 1:
            console.print(Text(f"{chr(10) if number else ''}{kind}", style="bold"))
        if console.is_terminal:
            table = Table.grid(padding=(0, 2))
            table.add_column(no_wrap=True)
            table.add_column()
            for name, sentence in sentences.items():
                table.add_row(Text(f"  {name}", style="cyan"), Text(sentence))
            console.print(table)
        else:
            width = max(len(name) for name in sentences)
            for name, sentence in sentences.items():
                print(f"  {name:<{width}}  {sentence}")
