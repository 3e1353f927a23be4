"""The settings of a population: plain values, all with the published defaults.

Defaults are those of arXiv 2403.04202; `dyad` gives those of its forerunner, arXiv 2301.08491.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from comity.errors import ComityError, lookup
from comity.games.lengths import Fixed
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.stages import MatrixStage
from comity.games.matrix.tables import prisoners_dilemma_4310
from comity.populations.own_kinds import own_kinds
from comity.populations.types import BETA, XI

MATCHINGS = {
    "selection": "every agent chooses its partner, and all N pairs play",
    "random": "every agent gets a uniformly random partner, and all N pairs play",
    "fixed": "agents 0 and 1, 2 and 3 and so on always play together",
}
"""Who plays with whom."""

STATES = {
    "partner": "the partner's latest move",
    "pair": "the partner's latest move and the agent's own",
    "identity": "the partner's latest move and who it is",
}
"""What learners see before a game."""

LEARNERS = {
    "dqn": "a network for the dilemma and one for the selection",
    "tabular": "tables; partners are chosen by the moves on display, for at most 12 agents",
}
"""The kind of agent that a learner type stands for where no prefix says it."""

PAIR_GAME = Iterated(
    MatrixStage(
        "Prisoner's Dilemma", ("cooperate", "defect"), (((3, 3), (1, 4)), ((4, 1), (2, 2)))
    ),
    Fixed(1),
)
"""The dilemma of the forerunner's pairs, `game=prisoners_dilemma_2_1`: cooperating costs 1 and
gives the partner 2."""


@dataclass(frozen=True)
class DeepQ:
    """Deep Q-learners."""

    hidden: int = 256
    """Units of the hidden layer of both networks."""
    learning_rate: float = 0.001
    """Of Adam, for both networks."""
    discount: float = 0.99
    epsilon: float = 0.05
    """Probability of a random move."""
    selection_epsilon: float = 0.1
    """Probability of a random partner."""
    decay_games: int = 0
    """Games of the population over which a move's epsilon falls linearly from 1; 0: no decay."""
    decay_selections: int = 0
    """Selections of the population over which a selection's epsilon falls from 1; 0: no decay."""
    capacity: int = 256
    """Most experiences that an agent keeps of an episode, the latest ones."""


@dataclass(frozen=True)
class Tabular:
    """Tabular Q-learners."""

    learning_rate: float = 0.01
    """In episode t it is learning_rate / (1 + t * learning_rate_decay)."""
    learning_rate_decay: float = 0.0
    """0 in the published code's parser; 0.0005 in its documentation."""
    discount: float = 0.9
    epsilon: float = 0.05
    """Probability of a random move, in the first episode if `epsilon_last` is given."""
    epsilon_last: float | None = None
    """Probability in the last episode, linear in between; null: constant."""
    selection_epsilon: float = 0.1
    """Probability of a random partner."""
    capacity: int = 256
    """Most experiences that an agent keeps of an episode, the latest ones."""


MOST_TABULAR = 12
"""Most agents of a population with tabular learners that choose their partners."""


@dataclass(frozen=True)
class PopulationSettings:
    """A population, its game, and how it learns."""

    composition: str
    iterations: int = 30_000
    """Episodes."""
    runs: int = 20
    seed: int = 1
    matching: str = "selection"
    """One of `MATCHINGS`."""
    state: str = "partner"
    """One of `STATES`."""
    learner: str = "dqn"
    """One of `LEARNERS`, or a kind of the user's own (`comity.populations.own_kinds`)."""
    game: Iterated = field(default_factory=prisoners_dilemma_4310)
    """Any game of two seats and two moves; its stage is played once per game."""
    rewards: Mapping[str, Any] = field(default_factory=dict)
    """Reward blocks by type; see `comity.populations.types.type_reward`."""
    xi: float = XI
    beta: float = BETA
    deep_q: DeepQ = DeepQ()
    tabular: Tabular = Tabular()
    random_matching: bool = True
    """Also train the same composition under random matching, as a baseline of selection."""
    random_selection: bool = True
    """Also let the policies play with random partners, without learning from it."""
    run_numbers: tuple[int, ...] | None = None
    """Numbers of the runs to compute; null: 0 to `runs` - 1."""

    def __post_init__(self) -> None:
        lookup("matching", self.matching, MATCHINGS)
        lookup("state", self.state, STATES)
        lookup("kind of learner", self.learner, {**LEARNERS, **dict.fromkeys(own_kinds(), "")})
        for name in ("iterations", "runs"):
            if getattr(self, name) < 1:
                raise ComityError(f"{name} must be at least 1, not {getattr(self, name)}")
        for one, low in ((self.deep_q, "deep_q"), (self.tabular, "tabular")):
            for part in fields(one):
                _check_number(f"{low}.{part.name}", part.name, getattr(one, part.name))
        if not 0 <= self.beta <= 1:
            raise ComityError(f"beta must lie between 0 and 1, not {self.beta}")

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the runs, `[R]`."""
        return tuple(range(self.runs)) if self.run_numbers is None else tuple(self.run_numbers)


def _check_number(label: str, name: str, value: Any) -> None:
    """Raises `ComityError` for a number out of its range."""
    if value is None:
        return
    if name in ("hidden", "capacity") and value < 1:
        raise ComityError(f"{label} must be at least 1, not {value}")
    at_most = 1 if "epsilon" in name or name == "discount" else float("inf")
    if not 0 <= value <= at_most:
        raise ComityError(f"{label} must lie between 0 and {at_most}, not {value}")


def dyad(composition: str, **changes: Any) -> PopulationSettings:
    """Settings of the forerunner's pairs of tabular learners (arXiv 2301.08491).

    Epsilon falls from 1 to 0, as in the paper. With the constant 0.05 of its code's parser a table
    keeps for thousands of iterations what its first random moves were.
    """
    published: dict[str, Any] = {
        "iterations": 10_000,
        "runs": 100,
        "matching": "fixed",
        "state": "pair",
        "learner": "tabular",
        "tabular": Tabular(epsilon=1.0, epsilon_last=0.0),
        "game": PAIR_GAME,
        "random_matching": False,
        "random_selection": False,
    }
    return PopulationSettings(composition, **{**published, **changes})
