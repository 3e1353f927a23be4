"""The published evaluation protocol: episodes against a Random opponent, as it was executed.

10 episodes of 5 rounds per game: 50 decisions. What chance does is drawn from
`SeedSequence(seed).spawn(6)`: child 2 draws the starts of each episode (first the learner's
fictitious last move, then the opponent's), child 5 the opponent's move of each round, in the
order of play. Every draw is one `default_rng(child).choice([C, D], size=1)`. The generators
run on over the episodes and start again for every game.

With seed 100 this gives the published rows of policies that ignore the payoffs, to every
printed digit (tests/evaluation/test_published_protocol.py). Which of the two fictitious moves is
drawn first makes no difference to them: at seed 100 the two orders happen to give the same
shares, and the order here is the one that the protocol names.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from comity.evaluation.moral.metrics import DecisionArrays

SEED = 100
"""Seed of the published evaluations."""
EPISODES, ROUNDS = 10, 5
"""What they played per game."""
STREAMS, STARTS, OPPONENT = 6, 2, 5
"""Children of the seed sequence, and which of them draw what."""


@dataclass(frozen=True)
class ChanceOutcomes:
    """All that chance decides in one evaluation."""

    starts: np.ndarray
    """int `[episode, (own, other)]`: the fictitious last moves."""
    opponent: np.ndarray
    """int `[episode, round]`: what the Random opponent plays."""


def chance_outcomes(
    seed: int = SEED, episodes: int = EPISODES, rounds: int = ROUNDS
) -> ChanceOutcomes:
    """The draws of one evaluation of one game."""
    children = np.random.SeedSequence(seed).spawn(STREAMS)
    starting, opposing = (np.random.default_rng(children[c]) for c in (STARTS, OPPONENT))

    def draw(stream: np.random.Generator) -> int:
        return int(stream.choice([0, 1], size=1)[0])

    starts = [[draw(starting), draw(starting)] for _ in range(episodes)]
    opponent = [[draw(opposing) for _ in range(rounds)] for _ in range(episodes)]
    return ChanceOutcomes(
        np.array(starts).reshape(episodes, 2), np.array(opponent).reshape(episodes, -1)
    )


AnswerFunction = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""`(own shown [E], other's shown [E], round) -> own answers [E]`, -1 where illegal."""


OpponentFunction = Callable[[list[tuple[np.ndarray, np.ndarray]], int], np.ndarray]
"""`(all (own, other's) moves on display so far, oldest first, round) -> the other's moves [E]`."""


def play_episodes(
    drawn: ChanceOutcomes, respond: AnswerFunction, react: OpponentFunction | None = None
) -> DecisionArrays:
    """Play all episodes at once: `[episode * round]` decisions, episode by episode.

    The state is carried from round to round. After an illegal answer the own last legal move
    stays on display. The other's moves are the drawn ones, or what `react` makes of the history.
    """
    own, other = drawn.starts[:, 0].copy(), drawn.starts[:, 1].copy()
    columns: list[tuple[np.ndarray, ...]] = []
    displayed = [(own, other)]
    for number in range(drawn.opponent.shape[1]):
        answers = respond(own, other, number)
        moves = drawn.opponent[:, number] if react is None else react(displayed, number)
        columns.append((answers, moves, own, other))
        own, other = np.where(answers < 0, own, answers), moves
        displayed.append((own, other))
    parts = [np.stack([column[i] for column in columns], axis=1).reshape(-1) for i in range(4)]
    return DecisionArrays(*parts)


def deterministic_answers(table: np.ndarray) -> AnswerFunction:
    """The answers of a deterministic policy, `table [2, 2]` of P(C | state) in {0, 1}."""

    def respond(own: np.ndarray, other: np.ndarray, number: int) -> np.ndarray:
        return 1 - table[own, other].astype(np.int64)

    return respond
