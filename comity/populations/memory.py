"""The memory that a population takes, from its settings alone, before anything is made.

Counted are the arrays that grow with runs, agents and states; everything is in proportion to the
number of runs. Language models and kinds of the user's own come on top.
"""

from collections import Counter
from dataclasses import dataclass

from comity.populations.agents.exploration import state_count
from comity.populations.agents.networks import row_width
from comity.populations.composition import parse
from comity.populations.records import EPISODES, GAME_BYTES, VALUE_BYTES, VALUES
from comity.populations.settings import MOST_TABULAR, PopulationSettings
from comity.populations.streams import BLOCK, blocks
from comity.populations.train import RANDOM_SELECTION, agent_kinds, condition_names

ARRAYS = 4 + 3
"""Parameters, gradients and two moments of the networks; a checkpoint copies all but gradients."""
TABLES = 2
"""Tables of tabular learners, and their copies in a checkpoint."""
OVERHEAD = 400
"""Bytes of a random stream's name and places."""


@dataclass(frozen=True)
class PopulationMemory:
    """Bytes by what they are for."""

    networks: int
    """Weights, gradients and moments of deep Q-learners, with a checkpoint's copies."""
    states: int
    """Hidden units of every state of a game, of deep Q-learners."""
    tables: int
    """Q-tables, with a checkpoint's copies."""
    streams: int
    """Blocks of random numbers."""
    records: int
    """Games and values that wait to be written."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(vars(self).values())


def predict_memory(
    settings: PopulationSettings, checkpoint_every: int = EPISODES, statistics_every: int = 100
) -> PopulationMemory:
    """The most bytes of a population; records wait in memory until the next checkpoint.

    Raises `ComityError` for a composition that does not parse.
    """
    composition = parse(settings.composition, settings.rewards)
    count = Counter(agent_kinds(settings, composition))
    runs, size = len(settings.numbers), composition.size
    chooses = settings.matching == "selection"
    conditions = len(condition_names(settings))
    trained = conditions - (RANDOM_SELECTION in condition_names(settings))
    deep, tabular = runs * count["dqn"], runs * count["tabular"]
    states, inputs = state_count(settings.state, size)
    hidden = settings.deep_q.hidden
    dilemma = 4 * row_width(inputs, hidden, 2)
    # Only the condition with selection has networks and tables for it.
    selection = 4 * row_width(size - 1, hidden, size - 1) if chooses else 0
    table = 16 * states
    # Larger ones are refused for their number of states.
    joint = 8 * 2 ** (size - 1) * (size - 1) if chooses and size <= MOST_TABULAR else 0
    games = size if settings.matching != "fixed" else size // 2
    streams = (2 * blocks(size) + 2 * blocks(1)) * trained + blocks(1) * (conditions - trained)
    values = 2 * states * (deep + tabular)
    waiting = min(checkpoint_every, EPISODES)
    many = min(VALUES, values * -(-checkpoint_every // statistics_every))
    return PopulationMemory(
        networks=ARRAYS * deep * (trained * dilemma + selection),
        # Hidden units of each condition; of the one that learns also their gradient and a mask.
        states=deep * states * hidden * (4 * trained + 4 + 1),
        tables=TABLES * tabular * (trained * table + joint),
        streams=runs * size * streams * (8 * BLOCK + OVERHEAD),
        records=conditions * waiting * runs * games * GAME_BYTES
        + trained * max(values, many) * VALUE_BYTES,
    )
