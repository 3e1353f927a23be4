"""The games of a population on disk: Parquet parts that are appended and never changed.

    games/CONDITION/part-000000.parquet     the part's first episode is its name
    statistics/part-000000.parquet          losses: condition, run, episode, agent, name, value
    q_values/part-000000.parquet            condition, run, episode, agent, state, action, value
    policies/part-000000.parquet            condition, run, episode, agent, own, other, cooperation
    agents.json

A part ends after `EPISODES` episodes and at every checkpoint, so that resuming from a checkpoint
(`truncate`) removes whole parts only.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from comity.files import write_atomically, writing
from comity.populations.episode import COLUMNS, EpisodeGames

EPISODES = 1000
"""Episodes of a full part."""

VALUES = 1_000_000
"""Most rows of learned values that wait to be written; one episode's can be more."""

GAME_BYTES, VALUE_BYTES = 80, 200
"""Memory of a game and of a row of learned values, with the copies while they are written."""


class LearningRecords:
    """Statistics and learned values that wait to be written, in columns."""

    def __init__(self, runs: Sequence[int]) -> None:
        """`runs`: numbers of the runs, `[R]`."""
        self._runs = np.array(runs, dtype=np.int16)
        self._waiting = 0
        self._learning: dict[str, list[dict[str, np.ndarray]]] = {
            "statistics": [],
            "q_values": [],
            "policies": [],
        }

    def statistics(self, condition: str, episode: int, found: Mapping[str, Any]) -> None:
        """Keep statistics of an update, `[R, N]` by name; NaN is left out."""
        for name, values in found.items():
            run, agent = np.nonzero(~np.isnan(values))
            self._learning["statistics"].append(
                {
                    "condition": np.full(len(run), condition),
                    "run": self._runs[run],
                    "episode": np.full(len(run), episode, dtype=np.int32),
                    "agent": agent.astype(np.int16),
                    "name": np.full(len(run), name),
                    "value": values[run, agent].astype(np.float32),
                }
            )

    def q_values(
        self, condition: str, episode: int, agents: np.ndarray, values: np.ndarray
    ) -> None:
        """Keep the learned values `[R, A, S, 2]` of some agents."""
        run, agent, state, action = (one.reshape(-1) for one in np.indices(values.shape))
        self._waiting += values.size
        self._learning["q_values"].append(
            {
                "condition": np.full(len(run), condition),
                "run": self._runs[run],
                "episode": np.full(len(run), episode, dtype=np.int32),
                "agent": agents[agent].astype(np.int16),
                "state": state.astype(np.int16),
                "action": action.astype(np.int8),
                "value": values.reshape(-1).astype(np.float32),
            }
        )

    def policies(
        self, condition: str, episode: int, agents: np.ndarray, chances: np.ndarray
    ) -> None:
        """Keep P(C) of some agents in fixed pairs by own and partner's latest move,
        `[R, A, 2, 2]`."""
        run, agent, own, other = (one.reshape(-1) for one in np.indices(chances.shape))
        self._waiting += chances.size
        self._learning["policies"].append(
            {
                "condition": np.full(len(run), condition),
                "run": self._runs[run],
                "episode": np.full(len(run), episode, dtype=np.int32),
                "agent": agents[agent].astype(np.int16),
                "own": own.astype(np.int8),
                "other": other.astype(np.int8),
                "cooperation": chances.reshape(-1).astype(np.float64),
            }
        )

    @property
    def is_full(self) -> bool:
        """Whether more learned values wait than should."""
        return self._waiting > VALUES

    def taken(self) -> dict[str, dict[str, np.ndarray]]:
        """The columns of all that waits by the folder's name, which waits no longer."""
        self._waiting, found = 0, {}
        for what, kept in self._learning.items():
            if waiting := [one for one in kept if len(one["episode"])]:
                found[what] = {
                    key: np.concatenate([one[key] for one in waiting]) for key in waiting[0]
                }
            kept.clear()
        return found


class RecordWriter(LearningRecords):
    """Writes the games and statistics of a population into its folder."""

    def __init__(self, folder: Path, runs: Sequence[int], episodes: int = EPISODES) -> None:
        """`runs`: numbers of the runs, `[R]`; `episodes`: of a full part."""
        super().__init__(runs)
        self._folder = Path(folder)
        self._episodes = episodes
        self._games: dict[str, list[EpisodeGames]] = {}

    def write(self, condition: str, games: EpisodeGames) -> None:
        """Keep an episode's games until the part is full."""
        waiting = self._games.setdefault(condition, [])
        waiting.append(games)
        if len(waiting) >= self._episodes:
            self._flush_games(condition)
        if self.is_full:
            self._flush_learning()

    def flush(self) -> None:
        """Write everything that waits; before every checkpoint and at the end."""
        for condition in list(self._games):
            self._flush_games(condition)
        self._flush_learning()

    def _flush_learning(self) -> None:
        for what, columns in self.taken().items():
            write_part(self._folder / what, int(columns["episode"][0]), pa.table(columns))

    def _flush_games(self, condition: str) -> None:
        waiting = self._games[condition]
        if waiting:
            folder = self._folder / "games" / condition
            write_part(folder, waiting[0].episode, games_table(waiting, self._runs))
            waiting.clear()


def write_part(folder: Path, first: int, table: pa.Table) -> None:
    """Write a part that begins with episode `first`."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"part-{first:06d}.parquet", table)


def games_table(games: Sequence[EpisodeGames], runs: np.ndarray) -> pa.Table:
    """A row per game, by episode, run and position in the order of play."""
    shape = (len(games), *games[0].selector.shape)
    run = np.broadcast_to(runs[None, :, None], shape).reshape(-1)
    episodes = np.array([one.episode for one in games], dtype=np.int32)
    episode = np.broadcast_to(episodes[:, None, None], shape).reshape(-1)
    position = np.broadcast_to(np.arange(shape[2], dtype=np.int16), shape).reshape(-1)
    columns = {"run": run, "episode": episode, "position": position}
    for name in COLUMNS:
        columns[name] = np.stack([getattr(one, name) for one in games]).reshape(-1)
    return pa.table(columns)


def truncate(folder: Path, episode: int) -> None:
    """Remove the records of `episode` and later, which a resumed population writes again."""
    folder = Path(folder)
    places = ("games/*", "statistics", "q_values", "policies")
    for path in sorted(path for one in places for path in folder.glob(f"{one}/part-*.parquet")):
        if int(path.stem.removeprefix("part-")) >= episode:
            with writing(path):
                path.unlink()
            continue
        table = pq.read_table(path)
        early = table.filter(pc.less(table["episode"], episode))
        if len(early) < len(table):
            _write(path, early)


def _write(path: Path, table: pa.Table) -> None:
    write_atomically(path, lambda file: pq.write_table(table, file, compression="zstd"))


def write_agents(folder: Path, about: Mapping[str, Any]) -> None:
    """Write `agents.json`."""
    write_atomically(Path(folder) / "agents.json", json.dumps(about, indent=1))
