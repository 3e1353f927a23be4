"""What is in a population's folder: its agents, its conditions and the files of their games.

config.yaml                            settings
agents.json                            agents, matching, runs, iterations, game
games/CONDITION/part-000000.parquet    one row per game, sorted by episode, run and position
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from comity.errors import ComityError
from comity.populations.composition import bare_type
from comity.populations.types import FIXED_TYPES, LEARNER_TYPES
from comity.safe_reading import read_json

CONDITIONS = {
    "selection": "partner selection",
    "random": "random matching",
    "random_matching": "random matching",
    "random_selection": "random selection, learned moves",
    "fixed": "fixed pair",
}
"""Conditions by the name of their folder, in the order in which they are shown."""
PROSOCIAL = ("UT", "DE", "VEe", "VEk", "VM", "AL")
"""Learner types whose reward favors the partner, fairness, or cooperation as such."""
ANTISOCIAL = ("aUT", "mDE", "Vie", "Vagg", "aAL")
"""Their opposites."""
COLUMNS = (
    "run",
    "episode",
    "position",
    "selector",
    "selected",
    "selection_legal",
    "selector_shown",
    "selected_shown",
    "selector_intended",
    "selected_intended",
    "selector_move",
    "selected_move",
    "selector_payoff",
    "selected_payoff",
    "selector_reward",
    "selected_reward",
    "available",
)
"""Columns of the games that metrics are made of."""
Games = Mapping[str, np.ndarray]
"""Columns of some games: arrays `[K]` by name."""


@dataclass(frozen=True)
class Agent:
    """One agent of the composition."""

    index: int
    type: str
    kind: str
    label: str
    rewards: np.ndarray | None = None
    """Of a learner in a fixed pair: its reward from joint moves (own first) to the next, `[4, 4]`.
    """


@dataclass(frozen=True)
class Condition:
    """The games of one condition."""

    name: str
    parts: tuple[Path, ...]
    runs: tuple[int, ...]
    """Numbers of the runs, ascending."""
    episodes: int
    """One more than the last recorded episode."""

    @property
    def chooses(self) -> bool:
        """Whether partners are drawn or chosen anew in every episode."""
        return self.name != "fixed"

    def batches(self, rows: int = 1 << 18) -> Iterator[Games]:
        """All games in their order, at most `rows` at a time; runs are numbered `0..R-1`.

        Raises `ComityError` for a file that is damaged or lacks columns.
        """
        places = np.full(max(self.runs) + 1, -1)
        places[list(self.runs)] = np.arange(len(self.runs))
        for part in self.parts:
            try:
                with pq.ParquetFile(part) as file:
                    for batch in file.iter_batches(rows, columns=list(COLUMNS)):
                        games = {
                            name: batch.column(name).to_numpy(zero_copy_only=False)
                            for name in COLUMNS
                        }
                        run = games["run"]
                        if len(run) and (run.max() >= len(places) or (places[run] < 0).any()):
                            raise ComityError(f"{part} has a run that episode 0 does not have")
                        yield games | {"run": places[run]}
            except (pa.ArrowException, OSError, KeyError) as error:
                raise ComityError(f"{part} cannot be read as games: {error}") from error


@dataclass(frozen=True)
class PopulationFolder:
    """A population's description and where its games are."""

    path: Path
    agents: tuple[Agent, ...]
    about: Mapping[str, Any]
    """The rest of `agents.json`: matching, runs, iterations, game."""
    config: Mapping[str, Any]
    conditions: tuple[Condition, ...]
    versions: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The types, in the order of the composition."""
        return tuple(dict.fromkeys(agent.type for agent in self.agents))

    @cached_property
    def type_of(self) -> np.ndarray:
        """int `[N]`: place of every agent's type in `types`."""
        return np.array([self.types.index(agent.type) for agent in self.agents])

    @property
    def composition(self) -> str:
        """As it is written: "1xUT_1xaUT"."""
        given = self.about.get("composition", self.config.get("agents"))
        if given and isinstance(given, str):
            return given
        counts = np.bincount(self.type_of)
        return "_".join(f"{n}x{name}" for n, name in zip(counts, self.types, strict=True))

    @property
    def is_pair(self) -> bool:
        """Two agents that always meet each other."""
        return len(self.agents) == 2


def open_population(path: Path) -> PopulationFolder:
    """Reads the description of a population.

    Raises `ComityError` where the folder holds no population or no games yet.
    """
    path = Path(path)
    described = path / "agents.json"
    if not described.is_file():
        raise ComityError(f"{path} is no population: it has no agents.json")
    try:
        about = read_json(described)
        about = {"agents": about} if isinstance(about, list) else dict(about)
        agents = tuple(
            Agent(int(a["index"]), _written(a), str(a["kind"]), str(a["label"]), _rewards(a))
            for a in about.pop("agents")
        )
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ComityError(f"{described} cannot be read: {error!r}") from error
    if [agent.index for agent in agents] != list(range(len(agents))) or len(agents) < 2:
        raise ComityError(f"{described} does not list agents 0 to N-1 with N of at least 2")
    found = (_condition(path / "games" / name) for name in CONDITIONS)
    conditions = tuple(condition for condition in found if condition)
    if not conditions:
        raise ComityError(f"{path} has no games yet; let at least one part of them be written")
    return PopulationFolder(
        path, agents, about, _mapping(path / "config.yaml"), conditions, _versions(path)
    )


def character(name: str) -> str:
    """ "selfish", "prosocial" or "antisocial" of a learner's type; "fixed" or "other".

    A type may have the prefix of its kind (`LLM:UT`) or be the name of a reward (`utilitarian`).
    """
    kind = bare_type(name)
    groups = {"selfish": ("S",), "prosocial": PROSOCIAL, "antisocial": ANTISOCIAL}
    for group, types in groups.items():
        if kind in types or kind in (LEARNER_TYPES[one] for one in types):
            return group
    return "fixed" if kind in FIXED_TYPES else "other"


def payoff_bounds(folder: PopulationFolder) -> tuple[float, float] | None:
    """Least and greatest payoff of the game's table; None where the folder does not say."""
    return payoffs_between(folder.about.get("game"))


def payoffs_between(game: Any) -> tuple[float, float] | None:
    """The same of a game as a folder describes it."""
    table = game.get("payoffs", game.get("table")) if isinstance(game, dict) else game
    try:
        values = np.asarray(table, dtype=float)
    except (TypeError, ValueError):
        return None
    if values.size < 4 or not np.isfinite(values).all():
        return None
    low, high = float(values.min()), float(values.max())
    return (low, high) if math.isfinite(low) and low < high else None


def _condition(folder: Path) -> Condition | None:
    parts = tuple(sorted(folder.glob("part-*.parquet"), key=_number))
    if not parts:
        return None
    try:
        first = pq.read_table(parts[0], columns=["run", "episode"])
        episode = first.column("episode").to_numpy()
        if not len(episode):
            return None
        runs = np.unique(first.column("run").to_numpy()[episode == episode[0]])
        with pq.ParquetFile(parts[-1]) as file:
            last = file.read_row_group(file.num_row_groups - 1, columns=["episode"])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ComityError(f"{folder} cannot be read as games: {error}") from error
    episodes = int(last.column("episode")[-1].as_py()) + 1
    return Condition(folder.name, parts, tuple(int(run) for run in runs), episodes)


def _written(agent: Mapping[str, Any]) -> str:
    """The type with the prefix of its kind, which is in the label ("LLM:UT 0").

    So agents of one type but different kinds are told apart.
    """
    kind, head = str(agent["type"]), str(agent["label"]).rpartition(" ")[0]
    return head if head.endswith(f":{kind}") else kind


def _rewards(agent: Mapping[str, Any]) -> np.ndarray | None:
    """The table of an agent's rewards; `ValueError` for one that is none."""
    if "rewards" not in agent:
        return None
    table = np.array(agent["rewards"], dtype=float)
    if table.shape != (4, 4) or not np.isfinite(table).all():
        raise ValueError("rewards of an agent are no table of 4 x 4 numbers")
    return table


def _number(part: Path) -> int:
    """The number in a part's name; parts of more than a million episodes have longer ones."""
    digits = part.stem.removeprefix("part-")
    if not digits.isdecimal():
        raise ComityError(f"{part} is no part of the records: its name has no number")
    return int(digits)


def _mapping(path: Path) -> Mapping[str, Any]:
    """A YAML file's mapping; empty where there is none."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ComityError(f"{path} cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}


def _versions(path: Path) -> Mapping[str, Any]:
    """`versions.json` of the folder; empty where there is none."""
    try:
        found = json.loads((path / "versions.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
