"""Records of populations in fixed pairs: a folder per pair, as if it were a population of two.

pairs/S-UT/agents.json
pairs/S-UT/games/fixed/part-000000.parquet
pairs/S-UT/statistics/fixed/part-000000.parquet
pairs/S-UT/q_values/part-000000.parquet
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from comity.files import write_atomically, writing
from comity.populations.agents.tabular import TabularAgents
from comity.populations.episode import EpisodeGames
from comity.populations.records import games_table

ROWS = 2_000_000
"""Most games that wait to be written."""

MOVES = "CD"


def pair_names(labels: Sequence[str]) -> list[str]:
    """Folder names of the pairs `labels[0:2]`, `labels[2:4]` ...; a repeated one has a number."""
    found: list[str] = []
    for one, other in zip(labels[::2], labels[1::2], strict=True):
        name = f"{one}-{other}".replace(":", ".").replace("/", ".")
        used = sum(earlier == name or earlier.startswith(f"{name}-again-") for earlier in found)
        found.append(f"{name}-again-{used}" if used else name)
    return found


class PairWriter:
    """Writes games and statistics of fixed pairs, each pair's into its own folder."""

    def __init__(self, folders: Sequence[Path], runs: Sequence[int]) -> None:
        """`folders`: of the pairs, in order; `runs`: numbers of the runs, `[R]`."""
        self._folders = [Path(folder) for folder in folders]
        self._runs = np.array(runs, dtype=np.int16)
        self._games: list[EpisodeGames] = []
        self._statistics: list[dict[str, np.ndarray]] = []

    def write(self, condition: str, games: EpisodeGames) -> None:
        """Keep an episode's games until there are many."""
        self._games.append(games)
        if len(self._games) * games.selector.size >= ROWS:
            self._flush_games()

    def statistics(self, condition: str, episode: int, found: Mapping[str, Any]) -> None:
        """Keep statistics of an update, `[R, N]` by name; NaN is left out."""
        for name, values in found.items():
            run, agent = np.nonzero(~np.isnan(values))
            self._statistics.append(
                {
                    "condition": np.full(len(run), condition),
                    "run": self._runs[run],
                    "episode": np.full(len(run), episode, dtype=np.int32),
                    "agent": agent.astype(np.int16),
                    "name": np.full(len(run), name),
                    "value": values[run, agent].astype(np.float32),
                }
            )

    def flush(self) -> None:
        """Write everything that waits."""
        self._flush_games()
        if self._statistics:
            columns = joined(self._statistics)
            first = int(columns["episode"].min()) if len(columns["episode"]) else 0
            for pair, folder in enumerate(self._folders):
                here = columns["agent"] // 2 == pair
                own = {name: column[here] for name, column in columns.items()}
                own["agent"] = own["agent"] % 2
                write_part(folder / "statistics", first, pa.table(own))
            self._statistics = []

    def _flush_games(self) -> None:
        if not self._games:
            return
        table = games_table(self._games, self._runs)
        first = self._games[0].episode
        self._games = []
        if len(self._folders) == 1:
            write_part(self._folders[0] / "games" / "fixed", first, table)
            return
        selector = table["selector"].to_numpy()
        # Stable, so that a pair's games stay sorted by episode and run.
        order = np.argsort(selector, kind="stable")
        ends = np.searchsorted(selector[order], 2 * np.arange(len(self._folders) + 1))
        for pair, folder in enumerate(self._folders):
            rows = table.take(order[ends[pair] : ends[pair + 1]])
            for name, value in (("position", 0), ("selector", 0), ("selected", 1)):
                place = rows.schema.get_field_index(name)
                column = pa.array(np.full(len(rows), value, dtype=np.int16))
                rows = rows.set_column(place, name, column)
            write_part(folder / "games" / "fixed", first, rows)


class QValueWriter:
    """Writes the tables of tabular learners in fixed pairs every few episodes."""

    def __init__(
        self, folders: Sequence[Path], runs: Sequence[int], group: TabularAgents, state: str
    ) -> None:
        """`folders`: of the pairs, in order; `state`: what learners see, partner or pair."""
        self._folders = [Path(folder) for folder in folders]
        self._runs = np.array(runs, dtype=np.int16)
        self._group = group
        self._states = state_names(state)
        self._waiting: list[dict[str, np.ndarray]] = []

    def note(self, episode: int) -> None:
        """Keep the tables after an episode."""
        agents = np.asarray(self._group.agents)
        shape = (len(self._runs), len(agents), len(self._states), len(MOVES))
        values = self._group.dilemma.reshape(shape).astype(np.float32)
        run, agent, state, action = (one.reshape(-1) for one in np.indices(shape))
        self._waiting.append(
            {
                "run": self._runs[run],
                "episode": np.full(values.size, episode, dtype=np.int32),
                "agent": agents[agent].astype(np.int16),
                "state": np.array(self._states)[state],
                "action": action.astype(np.int8),
                "value": values.reshape(-1),
            }
        )

    def flush(self) -> None:
        """Write everything that waits."""
        if not self._waiting:
            return
        columns = joined(self._waiting)
        self._waiting = []
        first = int(columns["episode"][0])
        for pair, folder in enumerate(self._folders):
            here = columns["agent"] // 2 == pair
            if here.any():
                own = {name: column[here] for name, column in columns.items()}
                own["agent"] = own["agent"] % 2
                write_part(folder / "q_values", first, pa.table(own))


def state_names(state: str) -> list[str]:
    """What a learner in a pair sees, in the order of its table's rows."""
    if state == "pair":
        return [f"partner {other}, own {own}" for other in MOVES for own in MOVES]
    return [f"partner {other}" for other in MOVES]


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Columns of several parts, one after another."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def write_part(folder: Path, first: int, table: pa.Table) -> None:
    """Write a part that begins with episode `first`."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{first:06d}.parquet"
    write_atomically(path, lambda file: pq.write_table(table, file, compression="zstd"))


def write_pair_agents(folders: Sequence[Path], about: Mapping[str, Any]) -> None:
    """Write every pair's `agents.json` from that of the whole population."""
    for pair, folder in enumerate(folders):
        agents = [
            {**agent, "index": side, "label": f"{agent['type']} {side}"}
            for side, agent in enumerate(about["agents"][2 * pair : 2 * pair + 2])
        ]
        composition = "_".join(f"1x{agent['type']}" for agent in agents)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        found = {**about, "composition": composition, "agents": agents}
        write_atomically(folder / "agents.json", json.dumps(found, indent=1) + "\n")
