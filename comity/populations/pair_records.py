"""Records of populations in fixed pairs: a folder per pair, as if it were a population of two.

pairs/S-UT/agents.json
pairs/S-UT/games/fixed/part-000000.parquet
pairs/S-UT/statistics/part-000000.parquet
pairs/S-UT/q_values/part-000000.parquet
pairs/S-UT/policies/part-000000.parquet
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from comity.files import write_atomically, writing
from comity.populations.episode import EpisodeGames
from comity.populations.records import LearningRecords, games_table, write_part

ROWS = 2_000_000
"""Most games that wait to be written."""


def pair_names(labels: Sequence[str]) -> list[str]:
    """Folder names of the pairs `labels[0:2]`, `labels[2:4]` ...; a repeated one has a number."""
    found: list[str] = []
    for one, other in zip(labels[::2], labels[1::2], strict=True):
        name = f"{one}-{other}".replace(":", ".").replace("/", ".")
        used = sum(earlier == name or earlier.startswith(f"{name}-again-") for earlier in found)
        found.append(f"{name}-again-{used}" if used else name)
    return found


class PairWriter(LearningRecords):
    """Writes games and statistics of fixed pairs, each pair's into its own folder."""

    def __init__(self, folders: Sequence[Path], runs: Sequence[int]) -> None:
        """`folders`: of the pairs, in order; `runs`: numbers of the runs, `[R]`."""
        super().__init__(runs)
        self._folders = [Path(folder) for folder in folders]
        self._games: list[EpisodeGames] = []

    def write(self, condition: str, games: EpisodeGames) -> None:
        """Keep an episode's games until there are many."""
        self._games.append(games)
        if len(self._games) * games.selector.size >= ROWS:
            self._flush_games()
        if self.is_full:
            self._flush_learning()

    def flush(self) -> None:
        """Write everything that waits."""
        self._flush_games()
        self._flush_learning()

    def _flush_learning(self) -> None:
        for what, columns in self.taken().items():
            first = int(columns["episode"][0])
            for pair, folder in enumerate(self._folders):
                here = columns["agent"] // 2 == pair
                if here.any():
                    own = {name: column[here] for name, column in columns.items()}
                    own["agent"] = own["agent"] % 2
                    write_part(folder / what, first, pa.table(own))

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
