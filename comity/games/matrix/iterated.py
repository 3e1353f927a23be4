"""A stage game repeated over rounds.

`Iterated` adds a length, trembles, a rule for illegal answers and an initial state to a stage
game. A `State` is a frozen value; all chance outcomes are derived from its seed, so `step` always
returns one of the `successors`, and branching a match copies nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Final

from comity.errors import ComityError, lookup
from comity.games.base import ILLEGAL, Action, Illegal, Move, Observation, Reply, Round, Turn
from comity.games.lengths import Fixed, Length
from comity.games.matrix.stages import Stage
from comity.games.randomness import CONTINUE, PRIOR, TREMBLE, generator

ILLEGAL_RULES: Final = {
    "as_defect": "the game's last move is played instead",
    "carry": "the seat's move on display (last round's, or the fictitious one) is played again; "
    "where there is none no move is made and the round pays 0 to every seat",
    "zero_all": "no move is made and the round pays 0 to every seat",
    "end_match": "no move is made, the round pays 0 to every seat and the match ends",
}
"""The effect of an illegal answer."""

STARTS: Final = {
    "none": "nothing was played before round 0",
    "uniform": "a fictitious joint move, uniformly random, is on display before round 0",
}
"""What is on display before round 0; or a list with "uniform" or a move's name per seat."""


@dataclass(frozen=True)
class State:
    """A match between two rounds."""

    seed: int
    """Environment seed: all chance outcomes of the match are derived from it."""
    history: tuple[Round, ...] = ()
    over: bool = False
    prior: tuple[Move, ...] | None = None
    """Fictitious joint move before round 0, `[seat]`."""


@dataclass(frozen=True)
class Iterated:
    """A stage game repeated; all seats move simultaneously in every round.

    Order within a round: choices, the rule for illegal answers, trembles, payoffs, continuation.
    Trembles also apply to a move that the rule substituted.
    """

    stage: Stage
    length: Length = field(default_factory=Fixed)
    noise: float = 0.0
    """Tremble probability per seat and round: another move, uniformly random, is played."""
    illegal: str = "as_defect"
    """One of `ILLEGAL_RULES`."""
    initial_state: str | tuple[str, ...] = "none"
    """One of `STARTS`, or for each seat "uniform" or the name of the move on display."""

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 1:
            raise ComityError(f"noise must lie between 0 and 1, not {self.noise}")
        lookup("rule for illegal answers", self.illegal, ILLEGAL_RULES)
        if isinstance(self.initial_state, str):
            lookup("initial_state", self.initial_state, STARTS)
            return
        object.__setattr__(self, "initial_state", tuple(self.initial_state))
        if len(self.initial_state) != self.seats:
            raise ComityError(
                f"initial_state must have an entry for each of the {self.seats} seats, "
                f"not {len(self.initial_state)}"
            )
        for one in self.initial_state:
            lookup("initial_state of a seat", one, {"uniform": None, **dict.fromkeys(self.moves)})

    @property
    def seats(self) -> int:
        """The seats of the stage game."""
        return self.stage.seats

    @property
    def moves(self) -> tuple[str, ...]:
        """The moves of the stage game."""
        return self.stage.moves

    def sample_instance(self, seed: int) -> "Iterated":
        """Itself: the same rules in every match."""
        return self

    def start(self, seed: int) -> State:
        """The initial state of the match with this environment seed."""
        distributions = self._prior_moves()
        if distributions is None:
            return State(seed)
        # Also drawn for seats whose move is given, so that the other seats keep their draws.
        drawn = generator(seed, PRIOR).integers(len(self.moves), size=self.seats)
        prior = (
            int(move) if len(distribution) > 1 else distribution[0]
            for move, distribution in zip(drawn, distributions, strict=True)
        )
        return State(seed, prior=tuple(prior))

    def initial_distribution(self, seed: int) -> list[tuple[float, State]]:
        """All initial states with their probabilities: the distribution of `start`."""
        distributions = self._prior_moves()
        if distributions is None:
            return [(1.0, State(seed))]
        priors = list(product(*distributions))
        return [(1 / len(priors), State(seed, prior=prior)) for prior in priors]

    def _prior_moves(self) -> list[list[Move]] | None:
        """The equally likely fictitious moves of each seat before round 0; None: there are none."""
        if self.initial_state == "none":
            return None
        rules = (
            [self.initial_state] * self.seats
            if isinstance(self.initial_state, str)
            else self.initial_state
        )
        everything = list(range(len(self.moves)))
        return [everything if r == "uniform" else [self.moves.index(r)] for r in rules]

    def turns(self, state: State) -> tuple[Turn, ...]:
        """Every seat chooses until the match is over."""
        if state.over:
            return ()
        number = len(state.history)
        legal = tuple(range(len(self.moves)))
        return tuple(
            Turn(
                seat=seat,
                round=number,
                step=0,
                kind="choose",
                legal=legal,
                observation=Observation(seat, self.seats, number, state.history, state.prior),
            )
            for seat in range(self.seats)
        )

    def step(self, state: State, moves: Mapping[int, Reply]) -> State:
        """Play the round with the chance outcomes of the state's seed."""
        intended = self._intended(state, moves)
        number = len(state.history)
        played = tuple(
            self._tremble(state.seed, number, seat, action)
            for seat, action in enumerate(self._after_illegal_rule(state, intended))
        )
        chance = self._continuation(state, intended)
        continues = chance == 1 or (
            chance > 0 and generator(state.seed, CONTINUE, number).random() < chance
        )
        return self._after(state, intended, played, continues)

    def successors(self, state: State, moves: Mapping[int, Reply]) -> list[tuple[float, State]]:
        """Every outcome of trembles and continuation."""
        intended = self._intended(state, moves)
        hands = [
            self._tremble_distribution(action)
            for action in self._after_illegal_rule(state, intended)
        ]
        chance = self._continuation(state, intended)
        return [
            (weight, self._after(state, intended, tuple(a for _, a in joint), continues))
            for joint in product(*hands)
            for continues, coin in ((True, chance), (False, 1 - chance))
            if (weight := prod(p for p, _ in joint) * coin) > 0
        ]

    def history(self, state: State) -> tuple[Round, ...]:
        """Finished rounds, oldest first."""
        return state.history

    def _intended(self, state: State, moves: Mapping[int, Reply]) -> tuple[Action, ...]:
        """Choices in seat order; `ValueError` if one is missing, superfluous or unknown."""
        if state.over:
            raise ValueError("the match is over")
        if set(moves) != set(range(self.seats)):
            raise ValueError(f"all {self.seats} seats move, not {sorted(moves)}")
        return tuple(self._choice(seat, moves[seat]) for seat in range(self.seats))

    def _choice(self, seat: int, reply: Reply) -> Action:
        if isinstance(reply, Illegal):
            return reply
        if isinstance(reply, str | tuple) or not 0 <= reply < len(self.moves):
            raise ValueError(f"seat {seat} has no move {reply!r}")
        return int(reply)

    def _after_illegal_rule(self, state: State, intended: tuple[Action, ...]) -> tuple[Action, ...]:
        """The moves after the rule for illegal answers."""
        if ILLEGAL not in intended or self.illegal in ("zero_all", "end_match"):
            return intended
        if self.illegal == "as_defect":
            instead: tuple[Action, ...] = (len(self.moves) - 1,) * self.seats
        else:
            shown = state.history[-1].moves if state.history else state.prior
            instead = shown if shown is not None else (ILLEGAL,) * self.seats
        return tuple(
            instead[seat] if isinstance(action, Illegal) else action
            for seat, action in enumerate(intended)
        )

    def _tremble(self, seed: int, number: int, seat: int, action: Action) -> Action:
        """The move after a possible tremble."""
        if self.noise == 0 or isinstance(action, Illegal):
            return action
        chance = generator(seed, TREMBLE, number, seat)
        if chance.random() >= self.noise:
            return action
        # Drawing a shift instead of a move makes the matches of a group share the outcome
        # whatever their moves are.
        shift = 1 + int(chance.integers(len(self.moves) - 1))
        return (action + shift) % len(self.moves)

    def _tremble_distribution(self, action: Action) -> list[tuple[float, Action]]:
        """All moves after a possible tremble, with their probabilities."""
        if self.noise == 0 or isinstance(action, Illegal):
            return [(1.0, action)]
        slip = self.noise / (len(self.moves) - 1)
        return [(1 - self.noise if m == action else slip, m) for m in range(len(self.moves))]

    def _continuation(self, state: State, intended: tuple[Action, ...]) -> float:
        """Probability that another round follows the current one."""
        if self.illegal == "end_match" and ILLEGAL in intended:
            return 0.0
        return self.length.continuation(len(state.history) + 1)

    def _after(
        self,
        state: State,
        intended: tuple[Action, ...],
        played: tuple[Action, ...],
        continues: bool,
    ) -> State:
        """The state with this round added."""
        legal = tuple(action for action in played if not isinstance(action, Illegal))
        complete = len(legal) == self.seats
        payoffs = self.stage.payoff(legal) if complete else (0.0,) * self.seats
        finished = Round(intended, played, payoffs)
        return State(state.seed, (*state.history, finished), not continues, state.prior)
