"""A group whose answers are given, and which remembers all that it is told."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from comity.populations.base import GameExperience, GamesView, SelectionExperience, SelectionView
from comity.populations.members import Members
from comity.populations.settings import PopulationSettings
from comity.populations.train import Population, build_population

Select = Callable[[SelectionView], np.ndarray]
Act = Callable[[GamesView], np.ndarray]


class Probe:
    """Stands for language models: `LLM:S` and so on in a composition."""

    def __init__(self, members: Members, select: Select, act: Act) -> None:
        self.agents = members.agents
        self._select, self._act = select, act
        self.views: list[SelectionView] = []
        self.games: list[GamesView] = []
        self.practiced: list[GamesView] = []
        self.experience: list[tuple[GameExperience, SelectionExperience | None]] = []

    def select(self, view: SelectionView) -> np.ndarray:
        self.views.append(view)
        return self._select(view)

    def act(self, view: GamesView, *, practice: bool = False) -> np.ndarray:
        (self.practiced if practice else self.games).append(view)
        return self._act(view)

    def record(self, games: GameExperience, selections: SelectionExperience | None) -> None:
        self.experience.append((games, selections))

    def update(self) -> Mapping[str, Any]:
        return {}

    def save(self) -> dict[str, np.ndarray]:
        return {}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        pass


def probed(
    composition: str,
    act: Act,
    select: Select | None = None,
    runs: int = 3,
    random_selection: bool = False,
    **changes: Any,
) -> tuple[Population, Probe]:
    """A population with a probe for its language models, which choose the next agent."""
    made: list[Probe] = []

    def following(view: SelectionView) -> np.ndarray:
        size = view.latest.shape[1]
        return np.broadcast_to((made[0].agents + 1) % size, (runs, len(made[0].agents)))

    def make(kind: str, members: Members) -> Probe:
        assert kind == "language_model"
        made.append(Probe(members, select or following, act))
        return made[0]

    settings = PopulationSettings(
        composition, runs=runs, random_matching=False, random_selection=random_selection, **changes
    )
    return build_population(settings, make), made[0]


def moves_by(rule: Callable[[int, int, int], int]) -> Act:
    """Moves as a function of episode, position and agent."""

    def act(view: GamesView) -> np.ndarray:
        rows = zip(view.position.tolist(), view.agent.tolist(), strict=True)
        return np.array([rule(view.episode, *row) for row in rows], dtype=np.int8)

    return act
