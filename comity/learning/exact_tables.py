"""From games, rewards and strategies to the tables of `comity.learning.exact`.

- `reward_table`: a seat's reward for every state and joint move.
- `policy_table`: a strategy's probabilities in every state; refused where it remembers more.
- `game_loss`: the exact loss of one seat in a whole game, with its length, start and noise.

States are numbered as there: 0 is the start, 1 + k*own + other the last joint move, each from
the seat's own side.
"""

from itertools import product

import numpy as np
import torch
from torch import Tensor

from comity.errors import ComityError
from comity.games.base import Move, Observation, Played, Round
from comity.games.enumerate import Policy
from comity.games.iterated import Iterated
from comity.learning.exact import exact_loss, trembling, uniform_start
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
    played = Played(
        intended=moves,
        moves=moves,
        payoffs=np.array([game.stage.payoff(joint[::side]) for _, joint in cases])[:, :, None],
        alive=np.ones((len(cases), 1), dtype=bool),
        shown=np.array([state[::side] for state, _ in cases])[:, :, None],
    )
    return torch.from_numpy(reward(played, game)[:, seat, 0].reshape(1 + k * k, k, k))


def policy_table(policy: Policy, game: Iterated, seat: int = 0) -> Tensor:
    """float64 `[1 + k*k, k]`: what the policy plays on that seat in every state.

    `ComityError` where the policy does not always answer alike to the same last joint move
    (grim trigger, alternator): tried on all histories of up to three rounds.
    """
    _two_seats(game)
    k = len(game.moves)
    joints = list(product(range(k), repeat=2))
    table = torch.zeros(1 + k * k, k, dtype=torch.float64)
    seen: set[int] = set()
    for rounds in range(LONGEST_MEMORY_TRIED + 1):
        for history in product(joints, repeat=rounds):
            state = 1 + k * history[-1][seat] + history[-1][1 - seat] if history else 0
            law = torch.tensor(list(policy(_observation(game, seat, history))), dtype=torch.float64)
            if state in seen and not torch.equal(law, table[state]):
                raise ComityError(
                    "exact gradients need players that go by the last round alone; "
                    "this one remembers more"
                )
            table[state] = law
            seen.add(state)
    return table


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
    k = len(game.moves)
    rounds = game.length.longest
    laws = {game.length.continuation(finished) for finished in range(1, rounds)} or {1.0}
    if len(laws) > 1:
        raise ComityError("exact gradients need a constant chance that another round follows")
    learner = log_probs.exp()
    other = learner.detach() if opponent is None else opponent
    return exact_loss(
        trembling(learner, game.noise).log() if game.noise else log_probs,
        reward_table(game, reward, seat),
        rounds,
        discount,
        trembling(other, game.noise),
        uniform_start(k) if game.start_rule == "uniform" else None,
        laws.pop(),
        objective,
    )


def _two_seats(game: Iterated) -> None:
    if game.seats != 2:
        raise ComityError(f"exact gradients need a game of two seats, not {game.seats}")


def _observation(game: Iterated, seat: int, history: tuple[tuple[Move, ...], ...]) -> Observation:
    """What the seat knows after these joint moves."""
    rounds = tuple(Round(joint, joint, game.stage.payoff(joint)) for joint in history)
    return Observation(seat=seat, seats=2, round=len(rounds), history=rounds)
