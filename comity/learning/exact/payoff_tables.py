"""From games, rewards and strategies to the tables of `comity.learning.exact.policy_gradient`.

- `reward_table`: a seat's reward for every state and joint move.
- `policy_table`: a strategy's probabilities in every state; refused where it remembers more.
- `game_loss`: the exact loss of one seat in a whole game, with its length, start and noise.
- `game_visits`: how often each state is decided in there.
- `histories`: what a seat may know in each state, to try whether only the last round matters.

States are numbered as there: 0 is the start, 1 + k*own + other the last joint move, each from
the seat's own side.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from torch import Tensor

from comity.errors import ComityError
from comity.games.base import Move, Observation, PlayedMatches, Round
from comity.games.enumerate import Policy
from comity.games.matrix.iterated import Iterated
from comity.learning.exact.policy_gradient import exact_loss, expected_visits, trembling
from comity.rewards.base import Reward

LONGEST_MEMORY_TRIED = 3
"""Rounds in the histories on which `policy_table` tries whether only the last one matters."""


def reward_table(game: Iterated, reward: Reward, seat: int = 0) -> Tensor:
    """float64 `[1 + k*k, k, k]`: the seat's reward by state, own move and other's move.

    Every combination is one match of one round in which both moves were meant and played.
    `ComityError` unless the game has two seats.
    """
    _two_seats(game)
    k = len(game.moves)
    shown = [(-1, -1), *product(range(k), repeat=2)]
    cases = [(state, joint) for state in shown for joint in product(range(k), repeat=2)]
    side = 1 if seat == 0 else -1  # own first to seat order
    moves = np.array([joint[::side] for _, joint in cases])[:, :, None]
    played = PlayedMatches(
        intended=moves,
        moves=moves,
        payoffs=np.array([game.stage.payoff(joint[::side]) for _, joint in cases])[:, :, None],
        alive=np.ones((len(cases), 1), dtype=bool),
        shown=np.array([state[::side] for state, _ in cases])[:, :, None],
    )
    return torch.from_numpy(reward(played, game)[:, seat, 0].reshape(1 + k * k, k, k))


def policy_table(policy: Policy, game: Iterated, seat: int = 0) -> Tensor:
    """float64 `[1 + k*k, k]`: what the policy plays on that seat in every state.

    `[1, k]` where a match is one round without fictitious moves before it. `ComityError` where
    the policy does not always answer alike to the same last joint move (grim trigger,
    alternator): tried on `histories`.
    """
    laws: dict[int, tuple[float, ...]] = {}
    for state, observation in histories(game, seat):
        law = tuple(policy(observation))
        if laws.setdefault(state, law) != law:
            raise ComityError(
                "exact gradients need players that go by the last round alone; "
                "this one remembers more"
            )
    return torch.tensor([laws[state] for state in sorted(laws)], dtype=torch.float64)


def histories(
    game: Iterated, seat: int, longest: int = LONGEST_MEMORY_TRIED
) -> Iterator[tuple[int, Observation]]:
    """Each state with everything that may have led to it, at most `longest` rounds back.

    Fictitious moves before round 0 count as a round. States in the order of their numbers
    as they first occur; only the start where a match is one round from nothing. Where it is one
    round after a fictitious move, states that no start leads to are among them too, so that
    tables are whole.
    """
    _two_seats(game)
    k = len(game.moves)
    joints = list(product(range(k), repeat=2))
    displayed = [
        state.prior for _, state in game.initial_distribution(0) if state.prior is not None
    ]
    if displayed and game.length.longest == 1:
        displayed += [joint for joint in joints if joint not in displayed]
    priors: list[tuple[Move, ...] | None] = [None, *displayed]
    for prior in priors:
        shown = 0 if prior is None else 1
        for rounds in range(min(game.length.longest, longest - shown + 1)):
            for history in product(joints, repeat=rounds):
                observation = _observation(seat, history, prior, game)
                last = observation.last
                state = 0
                if last is not None:
                    own, other = observation.own_first(last)
                    state = 1 + k * own + other
                yield state, observation


def game_loss(
    log_probs: Tensor,
    game: Iterated,
    reward: Reward,
    discount: float = 1.0,
    opponent: Tensor | None = None,
    seat: int = 0,
    objective: str = "reinforce",
) -> Tensor:
    """`exact_loss` of one seat in a match of `game`, a scalar.

    `log_probs`, `opponent` and `objective` as in `exact_loss`. Trembles are accounted for as
    in the game: the learner answers for what it meant. A reward that tells meant moves from
    played ones has no table in a game with noise, nor has a length whose law changes from
    round to round.
    """
    rounds, continuation, start = course(game, seat)
    learner = log_probs.exp()
    other = learner.detach() if opponent is None else opponent
    return exact_loss(
        trembling(learner, game.noise).log() if game.noise else log_probs,
        reward_table(game, reward, seat),
        rounds,
        discount,
        trembling(other, game.noise),
        start,
        continuation,
        objective,
    )


def game_visits(policy: Tensor, opponent: Tensor, game: Iterated, seat: int = 0) -> Tensor:
    """`expected_visits` in a match of `game`, of a seat with these probabilities."""
    rounds, continuation, start = course(game, seat)
    noisy = trembling(policy, game.noise), trembling(opponent.to(policy), game.noise)
    return expected_visits(*noisy, rounds, start, continuation)


def course(game: Iterated, seat: int = 0) -> tuple[int, float, Tensor | None]:
    """Most rounds, the chance that another one follows, and the seat's states before round 0.

    `ComityError` where that chance is not the same after every round.
    """
    rounds = game.length.longest
    laws = {game.length.continuation(finished) for finished in range(1, rounds)} or {1.0}
    if len(laws) > 1:
        raise ComityError("exact gradients need a constant chance that another round follows")
    k = len(game.moves)
    start = torch.zeros(1 + k * k, dtype=torch.float64)
    for probability, state in game.initial_distribution(0):
        if state.prior is None:
            start[0] += probability
        else:
            start[1 + k * state.prior[seat] + state.prior[1 - seat]] += probability
    return rounds, laws.pop(), start


def _two_seats(game: Iterated) -> None:
    if game.seats != 2:
        raise ComityError(f"exact gradients need a game of two seats, not {game.seats}")


def _observation(
    seat: int,
    history: tuple[tuple[Move, ...], ...],
    prior: tuple[Move, ...] | None,
    game: Iterated,
) -> Observation:
    """What the seat knows after these joint moves."""
    rounds = tuple(Round(joint, joint, game.stage.payoff(joint)) for joint in history)
    return Observation(seat=seat, seats=2, round=len(rounds), history=rounds, prior=prior)
