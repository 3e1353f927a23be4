"""Updates with the exact policy gradient: every state's prompt is scored, nothing is sampled.

If each decision has its own prompt with only the last joint move, a policy is a table of
probabilities at 1 + k*k states, and one packed pass over as many prompts (which differ only in
their last words) gives it with gradients. `comity.learning.exact.payoff_tables` turns it into
the expected loss of sampled REINFORCE. With the weights of the divergence and the entropy, and
v(s) the share of a seat's decisions in state s (a constant), the loss of an adapter is the mean
over its seats of

    exact loss / expected rounds
        + sum_s v(s) sum_a pi(a|s) kl (ref(a|s)/pi(a|s) - log(ref(a|s)/pi(a|s)) - 1)
        - entropy sum_s v(s) H(pi(.|s)),

with pi(a|s) in front of the bracket held constant. Each term is the expectation of that in
`comity.learning.loss` with Z = number of decisions and no importance weights; so is its gradient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from comity.engines.local.scoring import split_common_prefix
from comity.errors import ComityError
from comity.games.base import Game, Illegal, Observation, Turn
from comity.games.matrix.iterated import Iterated
from comity.learning.algorithms import Exact
from comity.learning.exact.payoff_tables import (
    game_loss,
    game_visits,
    histories,
    horizon,
    policy_table,
)
from comity.learning.learner import Learner
from comity.learning.loss import LossSums
from comity.learning.training_batch import TrainedDecision, TrainingSequence, compute_terms
from comity.players.base import Player
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.players.scripted.catalog import Strategy
from comity.players.scripted.player import StrategyPlayer
from comity.players.scripted.strategies import MatrixStrategy
from comity.prompts.answers import AnswerFormat, Constrained
from comity.prompts.base import Prompt
from comity.rewards.base import Reward


class ExactGradient:
    """The exact loss of every learner in one game, against any player."""

    def __init__(
        self,
        algorithm: Exact,
        game: Game,
        reward: Reward,
        models: LanguageModelBackend,
        seats: Sequence[Player],
    ) -> None:
        """`seats`: the players of both. Raises `ComityError` if enumeration is impossible."""
        self._algorithm = algorithm
        self._game = check_enumerable(game, models.prompt, models.answer)
        self._reward = reward
        self._models = models
        self._policies = {s: p for s, p in enumerate(seats) if isinstance(p, Policy)}
        self._scripts = {
            seat: scripted_policy_table(player.strategy, self._game, seat)
            for seat, player in enumerate(seats)
            if isinstance(player, StrategyPlayer)
        }
        self._prompts = {
            seat: [
                models.prompt.opening(game, t) for t in state_turns(self._game, models.prompt, seat)
            ]
            for seat in self._policies
        }

    def update(self, learners: Mapping[str, Learner]) -> list[dict[str, Any]]:
        """One step of every learner against the current policies; see `Learner.step`."""
        current_policies = self.current_policies()
        return [
            learner.step(
                # One pass gives it all, so there is nothing to divide among ranks.
                partial(self.accumulate_gradients, adapter, current_policies)
                if learner.ranks.first
                else LossSums,
                self._states(adapter),
            )
            for adapter, learner in learners.items()
        ]

    def current_policies(self) -> dict[int, Tensor]:
        """Each seat's current probabilities, `[1 + k*k, k]` (or `[1, k]`), without gradients."""
        tables = dict(self._scripts)
        for adapter in {policy.adapter for policy in self._policies.values()}:
            seats = [s for s, policy in self._policies.items() if policy.adapter == adapter]
            for seat, table in self._log_probs(seats, adapter, gradients=False).items():
                tables[seat] = table.exp()
        return tables

    def accumulate_gradients(
        self, adapter: str, current_policies: Mapping[int, Tensor]
    ) -> LossSums:
        """Add the gradient of the adapter's exact loss to its parameters' `.grad`."""
        algorithm, game = self._algorithm, self._game
        seats = self._trained_seats(adapter)
        tables = self._log_probs(seats, adapter, gradients=True)
        references = self._log_probs(seats, None, gradients=False) if algorithm.kl > 0 else {}
        sums = LossSums(importance=1.0, importance_max=1.0, terms=1)
        total = torch.zeros((), dtype=torch.float64)
        for seat, logprobs in tables.items():
            probabilities, other = logprobs.detach().exp(), current_policies[1 - seat].to(logprobs)
            loss = game_loss(
                logprobs,
                game,
                self._reward,
                algorithm.discount,
                other,
                seat,
                algorithm.objective,
            )
            loss = loss / game.length.expected
            visits = game_visits(probabilities, other, game, seat)[: len(logprobs), None]
            shares = visits / visits.sum()
            entropy = -(shares * logprobs.exp() * logprobs).sum()
            if algorithm.kl > 0:
                difference = references[seat] - logprobs
                k3 = torch.exp(difference) - difference - 1
                divergence = (shares * probabilities * k3).sum()
                loss = loss + algorithm.kl * divergence
                sums.kl += float(divergence.detach()) / len(seats)
            loss = loss - algorithm.entropy * entropy
            sums.entropy += float(entropy.detach()) / len(seats)
            total = total.to(loss) + loss / len(seats)
        sums.loss = float(total.detach())
        total.backward()
        return sums

    def _trained_seats(self, adapter: str) -> list[int]:
        """The seats that train this adapter."""
        return [s for s, p in self._policies.items() if p.trained and p.adapter == adapter]

    def _states(self, adapter: str) -> int:
        """Number of scored decisions in one update of this adapter."""
        return sum(len(self._prompts[seat]) for seat in self._trained_seats(adapter))

    def _log_probs(
        self, seats: Sequence[int], adapter: str | None, gradients: bool
    ) -> dict[int, Tensor]:
        """For each seat log-probabilities `[states, k]`, float64, all from one pass."""
        models = self._models
        common, answers = split_common_prefix(models.chat.encode_labels(self._labels()))
        sequences = []
        for seat in seats:
            for text in self._prompts[seat]:
                ids = (*models.opening_ids(text), *common)
                temperature = self._policies[seat].temperature
                decisions = tuple(
                    TrainedDecision(len(ids), answer, answers, (0.0,), 0.0, temperature)
                    for answer in answers
                )
                sequences.append(TrainingSequence((*ids, answers[0][0]), decisions))
        logprobs = compute_terms(models.engine, sequences, adapter, gradients=gradients).logprobs
        sizes = [len(self._prompts[seat]) for seat in seats]
        table = logprobs.double().view(-1, len(answers))
        return dict(zip(seats, table.split(sizes), strict=True))

    def _labels(self) -> tuple[str, ...]:
        return self._models.prompt.labels(self._game)


def check_enumerable(game: Game, prompt: Prompt, answer: AnswerFormat) -> Iterated:
    """The game, if policies with this prompt can be enumerated; else `ComityError`."""
    if not isinstance(game, Iterated) or game.seats != 2:
        what = "another game" if game.seats == 2 else f"{game.seats} seats"
        raise ComityError(f"algorithm exact needs a matrix game of two seats, not {what}")
    if game.sample_instance(0) is not game:
        raise ComityError("algorithm exact needs one payoff table, not one drawn for every match")
    if not isinstance(answer, Constrained):
        raise ComityError(f"algorithm exact needs answer=constrained, not {answer.name}")
    if answer.thinking:
        raise ComityError("algorithm exact needs answers without thoughts; set answer.thinking=0")
    if not prompt.single_turn and game.length.longest > 1:
        raise ComityError(
            "algorithm exact needs prompts that show the last round alone: prompt=memory_one, "
            "or matches of one round"
        )
    if prompt.random_parameters:
        raise ComityError(
            f"algorithm exact needs a single prompt variant; set "
            f"{', '.join(prompt.random_parameters)} of the prompt to something that is not random"
        )
    horizon(game)
    for seat in range(game.seats):
        state_turns(game, prompt, seat)
    return game


def state_turns(game: Iterated, prompt: Prompt, seat: int) -> list[Turn]:
    """One turn for every state of a seat, in the states' order.

    `ComityError` unless the prompt depends on the state alone: tested on all histories of up to
    two rounds and, with noise, on different intended moves.
    """
    found: dict[int, Turn] = {}
    texts: dict[int, str] = {}
    legal = tuple(range(len(game.moves)))
    for state, observation in histories(game, seat, longest=2):
        for known in (observation, *_other_intentions(game, observation)):
            turn = Turn(seat, known.round, 0, "choose", legal, known)
            text = prompt.opening(game, turn)
            found.setdefault(state, turn)
            if texts.setdefault(state, text) != text:
                raise ComityError(
                    "algorithm exact needs prompts that show the last round alone; "
                    "this one tells more (prompt=memory_one does not)"
                )
    return [found[state] for state in sorted(found)]


def scripted_policy_table(strategy: Strategy, game: Iterated, seat: int) -> Tensor:
    """A scripted player's probabilities in every state of a seat (see `policy_table`)."""
    if not isinstance(strategy, MatrixStrategy):
        raise ComityError(
            "algorithm exact needs opponents whose probability of cooperation is known after every "
            "history: tit_for_tat and the like, no negotiators and no axelrod:NAME"
        )
    return policy_table(lambda known: strategy.probabilities(known, game), game, seat)


def _other_intentions(game: Iterated, known: Observation) -> list[Observation]:
    """With noise, the same observation with other intended moves."""
    if game.noise == 0 or not known.history:
        return []
    last = known.history[-1]
    moves = [move for move in last.moves if not isinstance(move, Illegal)]
    meant = tuple((move + 1) % len(game.moves) for move in moves)
    return [replace(known, history=(*known.history[:-1], replace(last, intended=meant)))]
