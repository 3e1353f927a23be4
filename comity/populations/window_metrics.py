"""Means over a number of episodes, while a population trains: the lines of `metrics.jsonl`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from comity.populations.base import COOPERATE
from comity.populations.episode import EpisodeGames


class WindowMetrics:
    """Collects episodes by condition; `row` is their means."""

    def __init__(self, types: Sequence[str]) -> None:
        """`types`: of all agents, `[N]`."""
        self._types = list(dict.fromkeys(types))
        self._type_of = np.array([self._types.index(one) for one in types])
        self._games: dict[str, list[EpisodeGames]] = {}

    def add(self, games: Mapping[str, EpisodeGames]) -> None:
        """Collect an episode."""
        for condition, one in games.items():
            self._games.setdefault(condition, []).append(one)

    def row(self, number: int, episode: int, seconds: float) -> dict[str, Any]:
        """Metrics of the first condition, of its types, and of the other conditions by name.

        `number`: of the line; `episode`: finished episodes. The collected ones are forgotten.
        """
        rows = {name: self._means(games) for name, games in self._games.items()}
        self._games = {}
        main, *_ = rows
        others = {
            name: {key: value for key, value in row.items() if key != "types"}
            for name, row in rows.items()
            if name != main
        }
        return {
            "iteration": number,
            "episode": episode,
            **rows[main],
            **others,
            "seconds": {"total": round(seconds, 3)},
        }

    def _means(self, games: Sequence[EpisodeGames]) -> dict[str, Any]:
        """`cooperation`, joint moves, `selected_cooperator`, payoffs and rewards.

        They are defined as those of the page (`comity.evaluation.population.metrics`).
        """

        def column(name: str) -> np.ndarray:
            return np.stack([getattr(one, name) for one in games]).reshape(-1)

        agents = np.concatenate([column("selector"), column("selected")])
        first, second = column("selector_move"), column("selected_move")
        payoffs = np.concatenate([column("selector_payoff"), column("selected_payoff")])
        rewards = np.concatenate([column("selector_reward"), column("selected_reward")])
        intended = np.concatenate([column("selector_intended"), column("selected_intended")])
        both = (first >= 0) & (second >= 0)
        joint = np.bincount((2 * first + second)[both], minlength=4) / len(first)
        offered = column("selection_legal") & (column("available") > 0)
        chosen = column("selected_shown") == COOPERATE
        return {
            "cooperation": mean(intended[intended >= 0] == COOPERATE),
            "payoff": mean(payoffs),
            "reward": mean(rewards),
            "outcomes": dict(zip(("CC", "CD", "DC", "DD"), joint.tolist(), strict=True)),
            "illegal": mean(intended < 0),
            "selected_cooperator": mean(chosen[offered]),
            "types": {
                name: {
                    "cooperation": mean(intended[here & (intended >= 0)] == COOPERATE),
                    "payoff": mean(payoffs[here]),
                    "reward": mean(rewards[here]),
                }
                for place, name in enumerate(self._types)
                for here in [self._type_of[agents] == place]
            },
        }


def mean(values: np.ndarray) -> float | None:
    """The mean; None of nothing."""
    return float(values.mean(dtype=np.float64)) if values.size else None
