"""Tables for `comity.learning.exact.policy_gradient` from games, rewards and strategies.

- `reward_table`: a seat's reward for every state and joint move.
- `policy_table`: a strategy's probabilities in every state; refused for longer memories.
- `game_loss`: the exact loss of one seat in a whole game, with its length, start and noise.
- `game_visits`: expected decisions in each state of such a game.
- `histories`: observations in each state, to test whether only the last round matters.

States are numbered likewise: 0 is the start, 1 + k*own + other the last joint move, from the
seat's own perspective.
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
from comity.learning.exact.policy_gradient import exact_loss, expected_visits, with_trembles
from comity.rewards.base import Reward

LONGEST_MEMORY_TRIED = 3
"""Rounds in the histories on which `policy_table` tests whether only the last one matters."""


def reward_table(game: Iterated, reward: Reward, seat: int = 0) -> Tensor:
    """float64 `[1 + k*k, k, k]`: the seat's reward by state, own move and other's move.

    Every combination is one match of one round in which both moves were intended and played.
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
    """float64 `[1 + k*k, k]`: the policy's probabilities on that seat in every state.

    `[1, k]` where a match is one round without fictitious moves before it. `ComityError` where
    the policy depends on more than the last joint move (grim trigger, alternator): tested on
    `histories`.
    """
    distributions: dict[int, tuple[float, ...]] = {}
    for state, observation in histories(game, seat):
        distribution = tuple(policy(observation))
        if distributions.setdefault(state, distribution) != distribution:
            raise ComityError(
                "exact gradients need players that go by the last round alone; "
                "this one remembers more"
            )
    return torch.tensor(
        [distributions[state] for state in sorted(distributions)], dtype=torch.float64
    )


def histories(
    game: Iterated, seat: int, longest: int = LONGEST_MEMORY_TRIED
) -> Iterator[tuple[int, Observation]]:
    """Each state with the observations of all histories that lead to it, up to `longest` rounds.

    Fictitious moves before round 0 count as a round. States in the order of their numbers
    as they first occur; only the start where a match is one round without fictitious moves. Where
    it is one round after a fictitious move, unreachable states are included too, so that tables
    are complete.
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

    `log_probs`, `opponent` and `objective` as in `exact_loss`. Trembles are
    as in the game: the learner's probabilities are those of intended moves. Rewards that depend
    on intended moves have no table in a game with noise, and neither have lengths whose
    continuation probability changes.
    """
    rounds, continuation, start = horizon(game, seat)
    learner = log_probs.exp()
    other = learner.detach() if opponent is None else opponent
    return exact_loss(
        with_trembles(learner, game.noise).log() if game.noise else log_probs,
        reward_table(game, reward, seat),
        rounds,
        discount,
        with_trembles(other, game.noise),
        start,
        continuation,
        objective,
    )


def game_visits(policy: Tensor, opponent: Tensor, game: Iterated, seat: int = 0) -> Tensor:
    """`expected_visits` in a match of `game`, of a seat with these probabilities."""
    rounds, continuation, start = horizon(game, seat)
    noisy = with_trembles(policy, game.noise), with_trembles(opponent.to(policy), game.noise)
    return expected_visits(*noisy, rounds, start, continuation)


def horizon(game: Iterated, seat: int = 0) -> tuple[int, float, Tensor | None]:
    """Maximal rounds, continuation probability, and distribution over states before round 0.

    `ComityError` if the continuation probability is not the same after every round.
    """
    rounds = game.length.longest
    distributions = {game.length.continuation(finished) for finished in range(1, rounds)} or {1.0}
    if len(distributions) > 1:
        raise ComityError("exact gradients need a constant chance that another round follows")
    k = len(game.moves)
    start = torch.zeros(1 + k * k, dtype=torch.float64)
    for probability, state in game.initial_distribution(0):
        if state.prior is None:
            start[0] += probability
        else:
            start[1 + k * state.prior[seat] + state.prior[1 - seat]] += probability
    return rounds, distributions.pop(), start


def _two_seats(game: Iterated) -> None:
    if game.seats != 2:
        raise ComityError(f"exact gradients need a game of two seats, not {game.seats}")


def _observation(
    seat: int,
    history: tuple[tuple[Move, ...], ...],
    prior: tuple[Move, ...] | None,
    game: Iterated,
) -> Observation:
    """The seat's observation after these joint moves."""
    rounds = tuple(Round(joint, joint, game.stage.payoff(joint)) for joint in history)
    return Observation(seat=seat, seats=2, round=len(rounds), history=rounds, prior=prior)
