"""The experiments grouped by study, for the overview of `comity list experiments`.

The presets of a study are named by their parts (`moral/REGIME-vs-OPPONENT`), so listing the parts
lists all presets. If only some combinations exist, a grid shows which.
"""

from dataclasses import dataclass, field

from comity.config.groups import Sentences, options
from comity.config.presets import in_folders, moral, negotiation, seeds
from comity.config.presets.describe import describe, gists
from comity.config.presets.negotiation import Cell


@dataclass(frozen=True)
class Row:
    """A method in the grid, or a preset outside the grid."""

    sizes: dict[str, str]
    """Existing sizes (`FSM`) by the grid's column; by "" outside the grid."""
    says: str
    """Its description."""


@dataclass(frozen=True)
class Family:
    """One study's experiments."""

    name: str
    title: str
    places: Sentences
    """Patterns of the presets' full names, each with a description of those presets."""
    pattern: str = ""
    """How NAME is composed of parts."""
    parts: dict[str, Sentences] = field(default_factory=dict)
    """The options of each part that the grid does not show."""
    rows: dict[str, Row] = field(default_factory=dict)
    """The grid: methods by games."""
    others: dict[str, Row] = field(default_factory=dict)
    """Presets outside the grid."""

    @property
    def files(self) -> Sentences:
        """The study's experiments in files."""
        return {n: says for n, says in in_folders().items() if n.startswith(f"{self.name}/")}


def families() -> tuple[Family, ...]:
    """All studies."""
    robust = "Learning Robust Social Strategies with LLMs (arXiv 2511.19405)"
    myopic = "RL Leads to Myopic LLM Play in Social Dilemmas"
    return _moral(), _negotiation("robust", robust), _negotiation("myopic", myopic)


def columns(rows: dict[str, Row]) -> list[str]:
    """The games of a grid."""
    return [*dict.fromkeys(game for row in rows.values() for game in row.sizes)]


def _moral() -> Family:
    versions = gists("moral/version")
    return Family(
        "moral",
        "Moral Alignment for LLM Agents (arXiv 2410.01639)",
        {
            f"moral/{folder}NAME": describe("", moral.MODELS[version], versions[version])
            for folder, version in moral.FOLDERS.items()
        },
        "NAME is REGIME-vs-OPPONENT, in every combination:",
        {"REGIME": gists("moral/regime"), "OPPONENT": gists("moral/opponent")},
    )


def _negotiation(study: str, title: str) -> Family:
    grid: dict[str, list[Cell]] = {}
    others = []
    for cell in negotiation.CELLS[study]:
        method = cell.name.removeprefix(f"{cell.game}_")
        if method == cell.name:
            others.append(cell)
        else:
            grid.setdefault(method, []).append(cell)
    known: set[str] = set()  # Methods described in a row above.
    rows = {
        method: Row(
            {cell.game: _sizes(study, cell) for cell in cells},
            _says(cells[-1], known, game=False),
        )
        for method, cells in grid.items()
    }
    games = options("negotiation/game")
    return Family(
        study,
        title,
        {
            f"F  {study}/NAME": f"{negotiation.MODEL} or the row's model, GPU.",
            f"S  {study}/small/NAME": "smollm2-135m, small sizes.",
            f"M  {study}/seeds/NAME": "As F, with a run for each published seed.",
        },
        "NAME is GAME_METHOD:" if rows else "",
        {"GAME": {game: games[game] for game in columns(rows)}} if rows else {},
        rows,
        {cell.name: Row({"": _sizes(study, cell)}, _says(cell, known)) for cell in others},
    )


def _sizes(study: str, cell: Cell) -> str:
    """F: full, S: small, M: a study with multiple seeds."""
    many = seeds.published_seeds(f"{study}/{cell.name}")
    return f"F{'S' if cell.small else ''}{'M' if many else ''}"


def _says(cell: Cell, known: set[str], game: bool = True) -> str:
    """The description of a cell, without its method if in `known`; rows add theirs to `known`."""
    model = f"{cell.model}." if cell.model else ""
    says = negotiation.summary(cell, game, method=cell.method not in known)
    if not game:
        known.add(cell.method)
    return " ".join(filter(None, [says, model]))
