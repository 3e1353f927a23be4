"""The interface of a game.

- `Game`: immutable rules. `start(seed)` gives a state, `turns(state)` the seats to act (none: the
  match is over), `step(state, moves)` the next state.
- `Turn`: an observation of one seat and its legal moves.
- `Round`: one finished round, as all seats saw it.
- `PlayedMatches`: a batch of finished matches as arrays, the input of rewards and returns.

All randomness is derived from (seed, round, seat). A state holds no generator, so that it can be
copied, branched, replayed and enumerated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

Move = int
"""A choice: an index into `Game.moves`. Social dilemmas list cooperation first (0)."""


class Illegal(Enum):
    """The type of `ILLEGAL`."""

    ILLEGAL = "illegal"


ILLEGAL: Final = Illegal.ILLEGAL
"""A response that could not be parsed as a move; -1 in arrays."""

Action = Move | Illegal

Claim = tuple[int, ...]
"""Units of each item that a seat claims for itself, `[item]`."""

Reply = Action | Claim | str
"""The response of a seat to a turn: a choice, a claim or a message."""


@dataclass(frozen=True)
class Round:
    """One finished round."""

    intended: tuple[Action, ...]
    """The move that each seat chose, `[seat]`; 0 for a legal claim."""
    moves: tuple[Action, ...]
    """The move that was played, after the rule for illegal answers and trembles, `[seat]`.

    ILLEGAL where the rule substitutes no move; all seats observe that.
    """
    payoffs: tuple[float, ...]
    """`[seat]`."""


@dataclass(frozen=True)
class Observation:
    """The information of one seat at its turn."""

    seat: int
    seats: int
    round: int
    """0-based number of the current round."""
    history: tuple[Round, ...]
    """All finished rounds, oldest first."""
    prior: tuple[Move, ...] | None = None
    """Fictitious moves before round 0, `[seat]`, for games with a random initial state."""

    @property
    def last(self) -> tuple[Action, ...] | None:
        """Moves of the last round (or the fictitious ones), `[seat]`; None: no move yet."""
        return self.history[-1].moves if self.history else self.prior

    def own_first(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """`values`, `[seat]`, reordered: this seat first, then the others in seat order."""
        return (values[self.seat], *(v for s, v in enumerate(values) if s != self.seat))


KINDS = {
    "choose": "one of the game's moves",
    "message": "a text for the other seats",
    "talk": "a message, or instead of it the claim that ends the talk",
    "claim": "how many units of each item the seat takes",
    "respond": "to accept or to reject what another seat claimed",
}
"""The kinds of response that a turn can request."""


@dataclass(frozen=True)
class Turn:
    """One request to one seat."""

    seat: int
    round: int
    step: int
    """Number of the step within the round (0 if a round is one simultaneous move)."""
    kind: str
    """The requested kind of response: a name in `KINDS`."""
    legal: tuple[Move, ...]
    """The moves to choose from; empty if the turn requests no choice."""
    observation: Observation


@runtime_checkable
class Game(Protocol):
    """Rules; implementations are frozen dataclasses."""

    @property
    def seats(self) -> int: ...

    @property
    def moves(self) -> tuple[str, ...]:
        """Names of the moves ("cooperate", "defect"), by index."""
        ...

    def sample_instance(self, seed: int) -> "Game":
        """The game of the match with this environment seed.

        The game itself, unless rules are sampled per match. Seats and moves stay the same.
        """
        ...

    def start(self, seed: int) -> Any:
        """The initial state of the match with this environment seed."""
        ...

    def initial_distribution(self, seed: int) -> list[tuple[float, Any]]:
        """All initial states with their probabilities: the distribution of `start`."""
        ...

    def turns(self, state: Any) -> tuple[Turn, ...]:
        """The turns to take now, in seat order; empty when the match is over."""
        ...

    def step(self, state: Any, moves: Mapping[int, Reply]) -> Any:
        """The next state; chance outcomes are derived from the state's seed."""
        ...

    def successors(self, state: Any, moves: Mapping[int, Reply]) -> list[tuple[float, Any]]:
        """All next states with their probabilities: the distribution of `step`."""
        ...

    def history(self, state: Any) -> tuple[Round, ...]:
        """Finished rounds, oldest first."""
        ...


@dataclass(frozen=True)
class PlayedMatches:
    """A batch of matches as arrays: M matches, S seats, R rounds of the longest match."""

    intended: np.ndarray
    """int `[M, S, R]`: chosen moves; -1 if illegal or the match is over."""
    moves: np.ndarray
    """int `[M, S, R]`: played moves, after the illegal rule and trembles; -1 none."""
    payoffs: np.ndarray
    """float64 `[M, S, R]`; 0 after the end of the match."""
    alive: np.ndarray
    """bool `[M, R]`: the match had this round."""
    shown: np.ndarray
    """int `[M, S, R]`: last moves that seats saw before the round; -1 none."""

    @staticmethod
    def from_histories(
        histories: list[tuple[Round, ...]], priors: list[tuple[Move, ...] | None] | None = None
    ) -> "PlayedMatches":
        """Arrays of the finished rounds of each match, and of its fictitious moves."""
        matches = len(histories)
        seats = next((len(h[0].moves) for h in histories if h), 0)
        rounds = max((len(h) for h in histories), default=0)
        intended = np.full((matches, seats, rounds), -1, dtype=np.int64)
        moves = intended.copy()
        shown = intended.copy()
        payoffs = np.zeros((matches, seats, rounds))
        alive = np.zeros((matches, rounds), dtype=bool)

        def index(action: Action) -> int:
            return -1 if isinstance(action, Illegal) else action

        for m, history in enumerate(histories):
            before: tuple[Action, ...] | None = priors[m] if priors else None
            for r, played in enumerate(history):
                alive[m, r] = True
                intended[m, :, r] = [index(a) for a in played.intended]
                moves[m, :, r] = [index(a) for a in played.moves]
                payoffs[m, :, r] = played.payoffs
                if before is not None:
                    shown[m, :, r] = [index(a) for a in before]
                before = played.moves
        return PlayedMatches(intended, moves, payoffs, alive, shown)
