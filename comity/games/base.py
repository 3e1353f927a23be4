"""What a game is.

- `Game`: immutable rules. `start(seed)` gives a state, `turns(state)` says who is asked
  now (nobody: the match is over), `step(state, moves)` gives the next state.
- `Turn`: what one seat is asked: an observation and the legal moves.
- `Round`: what happened in one round, as everybody saw it.
- `PlayedMatches`: what happened in a batch of matches, as arrays; rewards and credit read it.

Randomness is derived from (seed, round, seat) and never held by a state, so that a state
can be copied, branched, replayed and enumerated at no cost.
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
"""An answer that could not be read as a move. In arrays it is -1."""

Action = Move | Illegal

Claim = tuple[int, ...]
"""Units of each item that a seat claims for itself, `[item]`."""

Reply = Action | Claim | str
"""What a seat answers a turn with: a choice, a claim or a message."""


@dataclass(frozen=True)
class Round:
    """One finished round."""

    intended: tuple[Action, ...]
    """What each seat answered, `[seat]`; a legal claim counts as 0."""
    moves: tuple[Action, ...]
    """What was played after trembles and the game's rule for illegal answers, `[seat]`.

    Stays ILLEGAL where the rule gives no move (then everybody saw that none was made).
    """
    payoffs: tuple[float, ...]
    """`[seat]`."""


@dataclass(frozen=True)
class Observation:
    """What a seat knows when it is asked."""

    seat: int
    seats: int
    round: int
    """0-based number of the round that is being played."""
    history: tuple[Round, ...]
    """All finished rounds, oldest first."""
    prior: tuple[Move, ...] | None = None
    """Fictitious moves before round 0, `[seat]`, for games that start with a random state."""

    @property
    def last(self) -> tuple[Action, ...] | None:
        """Moves of the last round (or the fictitious ones), `[seat]`; None: nothing yet."""
        return self.history[-1].moves if self.history else self.prior

    def own_first(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """`values[seat]` reordered: this seat's, then the others' in seat order."""
        return (values[self.seat], *(v for s, v in enumerate(values) if s != self.seat))


KINDS = {
    "choose": "one of the game's moves",
    "message": "a text that the other seats will read",
    "talk": "a message, or instead of it the claim that ends the talk",
    "claim": "how many units of each item the seat takes",
    "respond": "to accept or to reject what another seat claimed",
}
"""What sort of answer a turn can ask for."""


@dataclass(frozen=True)
class Turn:
    """What one seat is asked now."""

    seat: int
    round: int
    step: int
    """Number of the step inside the round (0 where a round is one simultaneous move)."""
    kind: str
    """What sort of answer is due: a name in `KINDS`."""
    legal: tuple[Move, ...]
    """The moves to choose from; empty where no choice is due."""
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
        """The game as it is played in the match of this environment seed.

        Another one than itself only where something of the rules is drawn for every match,
        and then one with the same seats and moves.
        """
        ...

    def start(self, seed: int) -> Any:
        """First state of the match that this environment seed identifies."""
        ...

    def initial_distribution(self, seed: int) -> list[tuple[float, Any]]:
        """All first states with their probabilities: what `start` draws from."""
        ...

    def turns(self, state: Any) -> tuple[Turn, ...]:
        """Who is asked now, in seat order; empty when the match is over."""
        ...

    def step(self, state: Any, moves: Mapping[int, Reply]) -> Any:
        """Next state when the asked seats answer so; draws its chance from the state's seed."""
        ...

    def successors(self, state: Any, moves: Mapping[int, Reply]) -> list[tuple[float, Any]]:
        """All next states with their probabilities: what `step` draws from."""
        ...

    def history(self, state: Any) -> tuple[Round, ...]:
        """Finished rounds, oldest first."""
        ...


@dataclass(frozen=True)
class PlayedMatches:
    """What happened in a batch of matches. M matches, S seats, R the longest match's rounds."""

    intended: np.ndarray
    """int `[M, S, R]`: what each seat answered; -1 illegal, and -1 where not alive."""
    moves: np.ndarray
    """int `[M, S, R]`: what was played (trembles and the illegal rule applied); -1 none."""
    payoffs: np.ndarray
    """float64 `[M, S, R]`; 0 where not alive."""
    alive: np.ndarray
    """bool `[M, R]`: the match had this round."""
    shown: np.ndarray
    """int `[M, S, R]`: each seat's move that was on display before the round; -1 none."""

    @staticmethod
    def from_histories(
        histories: list[tuple[Round, ...]], priors: list[tuple[Move, ...] | None] | None = None
    ) -> "PlayedMatches":
        """Arrays from each match's finished rounds (and fictitious moves before them)."""
        matches = len(histories)
        seats = len(histories[0][0].moves)
        rounds = max(len(h) for h in histories)
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
