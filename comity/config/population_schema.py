"""The schema of a population's config (`comity population`).

As in `comity.config.schema`, Hydra checks configs against these dataclasses, and a `Block` holds a
name with parameters. Defaults are those of arXiv 2403.04202; its forerunner, arXiv 2301.08491, is
the preset `dyads`.
"""

from dataclasses import dataclass, field
from typing import Any

from comity.config.limits import LARGEST_SEED, limited
from comity.config.schema import (
    AdapterConfig,
    Block,
    CheckpointConfig,
    Composition,
    ModelConfig,
    OptimizerConfig,
)


@dataclass
class DeepQConfig:
    """Deep Q-learners: a network for the moves and one for the selection, with one hidden layer."""

    hidden: int = limited(256, at_least=1, at_most=65_536)
    """Units of the hidden layer of both networks."""
    learning_rate: float = limited(0.001, at_least=0)
    """Learning rate of Adam, for both networks."""
    discount: float = limited(0.99, at_least=0, at_most=1)
    """Weight of the next state's value."""
    epsilon: float = limited(0.05, at_least=0, at_most=1)
    """Probability of a random move."""
    selection_epsilon: float = limited(0.1, at_least=0, at_most=1)
    """Probability of a random partner."""
    decay_games: int = limited(0, at_least=0)
    """Games of the population over which a move's epsilon falls linearly from 1; 0: no decay."""
    decay_selections: int = limited(0, at_least=0)
    """Selections of the population over which a selection's epsilon falls linearly from 1; 0: no
    decay."""
    capacity: int = limited(256, at_least=1, at_most=1_000_000)
    """Most experiences that an agent keeps of an episode, the latest ones."""


@dataclass
class TabularConfig:
    """Tabular Q-learners."""

    learning_rate: float = limited(0.01, at_least=0)
    """In episode t it is learning_rate / (1 + t * learning_rate_decay)."""
    learning_rate_decay: float = limited(0.0, at_least=0)
    """0: constant, as the published code's parser has it; its documentation says 0.0005."""
    discount: float = limited(0.9, at_least=0, at_most=1)
    """Weight of the next state's value."""
    epsilon: float = limited(0.05, at_least=0, at_most=1)
    """Probability of a random move; in the first episode, if `epsilon_last` is given."""
    epsilon_last: float | None = limited(None, at_least=0, at_most=1)
    """Probability of a random move in the last episode, linear in between; null: constant."""
    selection_epsilon: float = limited(0.1, at_least=0, at_most=1)
    """Probability of a random partner."""
    capacity: int = limited(256, at_least=1, at_most=1_000_000)
    """Most experiences that an agent keeps of an episode, the latest ones."""


@dataclass
class LanguageModelConfig:
    """How the language models of a population are asked and trained."""

    episodes_per_update: int = limited(16, at_least=1, at_most=100_000)
    """Episodes between updates."""
    min_decisions: int = limited(16, at_least=1, at_most=1_000_000)
    """With fewer decisions an agent's update is deferred to the next one."""
    frozen_selection: str = "prompt"
    """How frozen models choose partners: asked by prompt, or uniform."""
    selection_goal: str = "selfish"
    """The goal in the selection prompt."""
    selection_labels: str = "random"
    """The candidates' labels in the selection prompt: random, or given, the same ones every time.
    """


@dataclass
class ControlsConfig:
    """Baselines that a population with partner selection is compared with."""

    random_matching: bool = True
    """Also train the same composition with uniformly random partners."""
    random_selection: bool = True
    """Also let the policies that selection trained play with uniformly random partners."""


@dataclass
class PopulationRecordConfig:
    """What is written beside the games, which are always recorded."""

    metrics_every: int = limited(100, at_least=1)
    """Episodes that a line of `metrics.jsonl` is the mean of."""
    statistics_every: int = limited(100, at_least=1)
    """Episodes between the recorded statistics of updates (losses) and Q-values of moves."""


@dataclass
class PopulationConfig:
    """A population of agents, and how it learns."""

    name: str = "population"
    """Prefix of the population's folder."""
    seed: int = limited(1, at_least=0, at_most=LARGEST_SEED)
    """Master seed. Run k has streams of its own, whatever the number of runs is."""
    agents: str = ""
    """The composition: COUNTxTYPE items joined by _, such as 1xUT_1xaUT_1xDE."""
    iterations: int = limited(30_000, at_least=1, at_most=10_000_000)
    """Episodes; in each, all agents choose partners, play and learn."""
    runs: int = limited(20, at_least=1, at_most=10_000)
    """Independent repetitions, which advance together."""
    output: str = "populations"
    """Parent folder of populations."""
    game: Block = field(default_factory=dict)
    """A game of two seats and two moves; its table is played once per game."""
    matching: str = "selection"
    """selection: every agent chooses its partner; random: it gets a uniformly random one; fixed:
    agents 0 and 1, 2 and 3 and so on always play together."""
    state: str = "partner"
    """What learners see before a game. partner: the partner's latest move; pair: also their own;
    identity: also who the partner is."""
    learner: str = "dqn"
    """The kind of agent of learner types without a prefix: dqn or tabular."""
    types: dict[str, Any] = field(default_factory=dict)
    """Rewards by type, `{X: {name: peers, others: -1}}`: of other types than those of
    `comity list agents`, or instead of theirs."""
    xi: float = limited(5.0, at_least=0)
    """Size of a duty's penalty (DE, mDE) and of a virtue's bonus (VEk, Vagg)."""
    beta: float = limited(0.5, at_least=0, at_most=1)
    """Weight of equality in mixed virtue (VM)."""
    deep_q: DeepQConfig = field(default_factory=DeepQConfig)
    """Deep Q-learners."""
    tabular: TabularConfig = field(default_factory=TabularConfig)
    """Tabular Q-learners."""
    controls: ControlsConfig = field(default_factory=ControlsConfig)
    """Baselines."""
    model: ModelConfig | None = None
    """The language model of types with the prefix LLM: (`model=smollm2-135m`); null: none."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """The adapters of language models that learn."""
    prompt: Block = field(default_factory=dict)
    """How language models are told of a game."""
    answer: Block = field(default_factory=dict)
    """The answer format of language models."""
    temperature: float = limited(1.0, above=0)
    """Sampling temperature of language models."""
    algorithm: Block = field(default_factory=dict)
    """The learning algorithm of language models: reinforce or ppo."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimizer of language models."""
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    """How language models are asked and trained."""
    checkpoint: CheckpointConfig = field(default_factory=lambda: CheckpointConfig(every=1000))
    """When checkpoints are saved, in episodes."""
    record: PopulationRecordConfig = field(default_factory=PopulationRecordConfig)
    """What is written beside the games."""
    sinks: list[Any] = field(default_factory=list)
    """Additional metric loggers: tensorboard, wandb, trackio, or mappings with parameters."""
    composition: Composition = field(default_factory=Composition)
    """How the config was composed; do not write it by hand."""


@dataclass
class PopulationSchema(PopulationConfig):
    """The schema that Hydra checks while composing."""

    model: Any = None
    """Untyped, because OmegaConf cannot merge into a typed block that is null."""
