"""Records of a random population: agents with fixed tendencies that learn nothing.

Each agent cooperates with a probability of its own, which drifts over the episodes, and prefers
candidates whose latest move was C with a strength of its own. Only the folder's layout and the
rules that every record obeys are realistic.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

PAYOFFS = np.array([[[3.0, 3.0], [0.0, 4.0]], [[4.0, 0.0], [1.0, 1.0]]])
"""`[own move, other move, side]`."""
TENDENCY = {"UT": 0.9, "DE": 0.8, "AC": 1.0, "AD": 0.0, "S": 0.2, "aUT": 0.1}
INT8, INT16, FLOAT = np.int8, np.int16, np.float32
TYPES = {
    "run": INT16, "episode": np.int32, "position": INT16, "selector": INT16, "selected": INT16,
    "selection_legal": bool, "selector_shown": INT8, "selected_shown": INT8,
    "selector_intended": INT8, "selected_intended": INT8, "selector_move": INT8,
    "selected_move": INT8, "selector_payoff": FLOAT, "selected_payoff": FLOAT,
    "selector_reward": FLOAT, "selected_reward": FLOAT, "available": INT16,
}  # fmt: skip


def population(
    folder: Path,
    composition: Sequence[str] = ("S", "S", "UT", "AD"),
    episodes: int = 40,
    runs: int = 4,
    conditions: Sequence[str] = ("selection", "random_matching", "random_selection"),
    seed: int = 0,
    illegal: float = 0.0,
    parts: int = 2,
    q_values: bool = False,
    statistics: bool = False,
    planned: int | None = None,
) -> Path:
    """Writes a population's folder and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    agents = []
    for index, name in enumerate(composition):
        kind = "fixed" if name in ("AC", "AD", "TFT", "Random", "CD") else "dqn"
        agents.append({"index": index, "type": name, "kind": kind, "label": f"{name} {index}"})
        counts[name] = counts.get(name, 0) + 1
    named = "_".join(f"{count}x{name}" for name, count in counts.items())
    about = {
        "agents": agents, "composition": named,
        "matching": conditions[0], "runs": runs, "iterations": planned or episodes,
        "game": {"name": "prisoners_dilemma", "payoffs": PAYOFFS.tolist()},
    }  # fmt: skip
    (folder / "agents.json").write_text(json.dumps(about))
    config = {"agents": named, "iterations": planned or episodes, "runs": runs, "seed": 1}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for number, condition in enumerate(conditions):
        rng = np.random.default_rng([seed, number])
        rows = games(rng, composition, episodes, runs, condition, illegal)
        write(folder, condition, rows, parts)
    if q_values:
        _q_values(folder, episodes, runs, len(composition))
    if statistics:
        _statistics(folder, episodes, runs, len(composition))
    return folder


def games(
    rng: np.random.Generator,
    composition: Sequence[str],
    episodes: int,
    runs: int,
    condition: str,
    illegal: float = 0.0,
) -> dict[str, np.ndarray]:
    """Columns of all games, one after the other in the order of the records."""
    n = len(composition)
    rows: list[tuple[Any, ...]] = []
    latest = rng.integers(0, 2, (runs, n))
    tendency = np.array([TENDENCY.get(name, 0.5) for name in composition])
    taste = rng.random((runs, n))
    constant = np.isin(composition, ("AC", "AD"))
    for episode in range(episodes):
        drift = 0.5 + (tendency - 0.5) * min(1.0, 0.2 + episode / max(1, episodes - 1))
        drift[constant] = tendency[constant]
        for run in range(runs):
            before = latest[run].copy()
            selectors = [0] if condition == "fixed" else list(rng.permutation(n))
            for position, i in enumerate(selectors):
                others = [j for j in range(n) if j != i]
                weights = np.ones(len(others))
                if condition == "selection":
                    weights += 3 * taste[run, i] * (before[others] == 0)
                j = int(rng.choice(others, p=weights / weights.sum()))
                legal = bool(condition != "selection" or rng.random() >= illegal)
                intended = [int(rng.random() >= drift[k]) for k in (i, j)]
                intended = [-1 if rng.random() < illegal else move for move in intended]
                move = [
                    int(before[k]) if m < 0 else m for k, m in zip((i, j), intended, strict=True)
                ]
                payoff = PAYOFFS[move[0], move[1]]
                reward = payoff + rng.normal(size=2)
                available = sum(before[k] == 0 for k in others)
                rows.append((
                    run, episode, position, i, j, legal, before[i], before[j], *intended, *move,
                    *payoff, *reward, available,
                ))  # fmt: skip
                latest[run, i], latest[run, j] = move
    columns = list(zip(*rows, strict=True))
    return {name: np.array(c, TYPES[name]) for name, c in zip(TYPES, columns, strict=True)}


def write(folder: Path, condition: str, rows: Mapping[str, np.ndarray], parts: int) -> None:
    """Writes games as parts of equally many episodes."""
    target = folder / "games" / condition
    target.mkdir(parents=True, exist_ok=True)
    ends = np.linspace(0, int(rows["episode"].max()) + 1, parts + 1).round()
    for part, (a, b) in enumerate(pairwise(ends)):
        here = (rows["episode"] >= a) & (rows["episode"] < b)
        table = pa.table({name: column[here] for name, column in rows.items()})
        pq.write_table(table, target / f"part-{part:06d}.parquet", compression="zstd")


def _q_values(folder: Path, episodes: int, runs: int, agents: int) -> None:
    shape = np.indices((runs, episodes, agents, 4, 2)).reshape(5, -1)
    run, episode, agent, state, action = shape
    value = 10 * (1 - np.exp(-episode / episodes)) * (1 - 0.2 * action) + 0.1 * run
    columns = {"condition": ["fixed"] * len(run), "run": run, "episode": episode}
    columns |= {"agent": agent, "state": state, "action": action}
    (folder / "q_values").mkdir()
    table = pa.table({**columns, "value": value})
    pq.write_table(table, folder / "q_values" / "q_values.parquet")


def _statistics(folder: Path, episodes: int, runs: int, agents: int) -> None:
    run, episode, agent = np.indices((runs, episodes, agents)).reshape(3, -1)
    value = np.exp(-episode / 10) + 0.01 * run
    table = pa.table(
        {"condition": ["selection"] * len(run), "run": run, "episode": episode, "agent": agent,
         "name": ["dilemma_loss"] * len(run), "value": value}
    )  # fmt: skip
    target = folder / "statistics"
    target.mkdir()
    pq.write_table(table, target / "part-000000.parquet")
