"""The schema of an experiment's config.

Hydra checks configs against these dataclasses and refuses unknown keys and values of another
type. A `Block` holds `name` and the parameters of the component with that name (see `comity
list`), which checks them when it is built. `comity.config.compose` composes configs.
"""

from dataclasses import dataclass, field
from typing import Any

from comity.config.api_schema import ApiConfig
from comity.config.limits import LARGEST_SEED, limited
from comity.config.model_schema import EngineConfig, ModelConfig
from comity.errors import lookup

Block = dict[str, Any]
"""`{name: ..., parameter: value, ...}`."""


DROPOUT_IN = {
    "learning": "in the update; answers are sampled without dropout",
    "playing": "in sampling; the update is computed without dropout",
    "both": "in sampling and in the update",
}
"""When an adapter's dropout is active."""


@dataclass
class AdapterConfig:
    """The low-rank adapter (LoRA) of a learner."""

    rank: int = limited(16, at_least=1, at_most=8192)
    """Rank of the adapter's matrices."""
    alpha: float = limited(32.0, above=0)
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = limited(0.0, at_least=0, below=1)
    """Dropout probability of the adapter's inputs, in training."""
    dropout_in: str = "learning"
    """When in training dropout is active, one of `DROPOUT_IN`."""
    targets: Any = "all-linear"
    """Names of the adapted modules, or all-linear."""

    def __post_init__(self) -> None:
        lookup("adapter.dropout_in", self.dropout_in, DROPOUT_IN)


@dataclass
class OptimizerConfig:
    """AdamW over the adapter's weights."""

    learning_rate: float = limited(3e-4, at_least=0)
    """Learning rate after warmup."""
    schedule: str = "constant"
    """Learning-rate schedule after warmup."""
    warmup: int = limited(0, at_least=0)
    """Iterations of linear warmup from 0."""
    gradient_clip: float | None = limited(1.0, above=0)
    """Maximum gradient norm; null: no clipping."""
    weight_decay: float = limited(0.0, at_least=0)
    """Decoupled weight decay, per unit of learning rate."""


@dataclass
class CheckpointConfig:
    """Checkpoints, from which a run can be resumed."""

    every: int = limited(5, at_least=1)
    """Iterations between checkpoints; the last iteration always has one."""
    keep: int = limited(2, at_least=1)
    """Number of complete checkpoints to keep; of older ones only the adapters are kept."""


@dataclass
class RecordConfig:
    """Which records of the matches are written."""

    every: int = limited(1, at_least=1)
    """Iterations between records of all decisions and conversations."""
    followups: int = limited(0, at_least=0)
    """Number of matches after which the language models are asked the `questions`."""
    followup_every: int = limited(10, at_least=1)
    """Recorded iterations between follow-up questions; the last iteration always has them."""
    followup_tokens: int = limited(100, at_least=1, at_most=100_000)
    """Maximum tokens of an answer to a follow-up question."""
    questions: dict[str, str] = field(
        default_factory=lambda: {
            "why": "Why did you give that answer?",
            "strategy": "Which strategy is behind that answer?",
        }
    )
    """Follow-up questions by name; each is asked separately, right after the match."""


@dataclass
class PhaseConfig:
    """A phase of training with its own reward."""

    iterations: int | None = limited(None, at_least=1)
    """Its length; null for all phases: equal parts of the run's `iterations`."""
    reward: Block = field(default_factory=dict)
    """The training reward in this phase."""
    reset: list[str] | None = None
    """State to reset when it begins (see `Config.reset`); null: the run's `reset`."""


@dataclass
class OpponentPoolConfig:
    """The opponent pool: past checkpoints as opponents (`opponent_pool=buffer` enables it)."""

    every: int = limited(10, at_least=1)
    """Iterations between snapshots of the learners; the first is taken after this many."""
    capacity: int = limited(30, at_least=1, at_most=10_000)
    """Maximum snapshots per learner in an iteration's pool; if there are more, a new sample each
    iteration."""
    count_learners: bool = False
    """Count the current learners in `capacity`: reduce it by their number."""
    recent: int | None = limited(None, at_least=1)
    """Sample from this many newest snapshots only; null: from all."""
    probability: float = limited(0.5, at_least=0, at_most=1)
    """Probability that a group faces an opponent from the pool instead of the current policy."""
    scripted: list[Any] = field(default_factory=list)
    """Scripted players in the pool, written as in `seats`."""
    scripted_probability: float = limited(0.0, at_least=0, at_most=1)
    """Probability that an opponent from the pool is scripted."""
    scope: str = "group"
    """`group`: sample an opponent per group of matches; `match`: per match."""
    trained: str = "live_seat"
    """Trained seats. `live_seat`: one per group; `all_live`: all in matches without an opponent
    from the pool."""
    initial_snapshots: str | None = None
    """Folder with an earlier run's adapters (its `opponent_pool` or `checkpoints`) for the initial
    pool; null: none."""


@dataclass
class InstructionConfig:
    """An exploration instruction: in the prompt of a rollout, absent when the policy is updated."""

    text: str = ""
    """welfare_maximizing, greedy, or your own sentence."""
    probability: float = limited(0.0, above=0, at_most=1)
    """Probability per seat and round that the prompt contains it."""


@dataclass
class StudyConfig:
    """A study: a run for every arm and seed."""

    seeds: list[int] = field(default_factory=lambda: [0])
    """Seeds of each arm."""
    arms: dict[str, list[str]] = field(default_factory=dict)
    """Overrides of each arm by its name (`own: [reward=own]`)."""


@dataclass
class CrossplayConfig:
    """Cross-play: a round-robin between players after training."""

    players: list[Any] = field(default_factory=list)
    """Arms of the study (`learner`: the only arm, or the run itself, named as the experiment),
    `base`, scripted players."""
    matches: int = limited(16, at_least=2)
    """Matches per pairing and seed, an even number; players swap seats in every second match."""


@dataclass
class Composition:
    """How the config was composed, so that the arms of a study can be composed again."""

    name: str = ""
    """The experiment; with `config_dir` the file in that folder."""
    overrides: list[str] = field(default_factory=list)
    """The overrides of the command line, in order."""
    config_dir: str | None = None
    """The user's config folder; null: none."""


@dataclass
class Config:
    """One experiment."""

    name: str = "experiment"
    """Name of the experiment, and prefix of run folders."""
    seed: int = limited(0, at_least=0, at_most=LARGEST_SEED)
    """Random seed; determines all randomness of the run."""
    iterations: int = limited(20, at_least=1, at_most=10_000_000)
    """Training iterations; in each, matches are played and every learner is updated."""
    matches: int = limited(8, at_least=1, at_most=100_000)
    """Matches per iteration."""
    group_size: int = limited(1, at_least=1)
    """Matches that share an environment seed (common random numbers); divides `matches`."""
    seat_assignment: str = "fixed"
    """`fixed`: as listed in `seats`; `random`: a random permutation per group of matches."""
    output: str = "runs"
    """Parent folder of run folders."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The base language model."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """What samples text."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """The learners' adapters."""
    game: Block = field(default_factory=dict)
    """The rules of the game."""
    prompt: Block = field(default_factory=dict)
    """How observations are rendered as text."""
    answer: Block = field(default_factory=dict)
    """The answer format: constrained or free decoding, and parsing."""
    temperature: float = limited(1.0, above=0)
    """Sampling temperature of all language models."""
    seats: list[Any] = field(default_factory=lambda: ["learner", "learner"])
    """The player on each seat: a name, or a mapping with parameters `{name: random, p: 0.3}`."""
    reward: Block = field(default_factory=dict)
    """The training reward."""
    phases: list[PhaseConfig] = field(default_factory=list)
    """Training phases in order, whose lengths add up to `iterations`; empty: one with `reward`."""
    reset: list[str] = field(default_factory=list)
    """State to reset at the beginning of every later phase: optimizer, normalizer, kl,
    value_head. All other state, including the adapter, is kept."""
    algorithm: Block = field(default_factory=dict)
    """The learning algorithm."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimizer."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When checkpoints are saved."""
    record: RecordConfig = field(default_factory=RecordConfig)
    """Which records of the matches are written."""
    opponent_pool: OpponentPoolConfig | None = None
    """The opponent pool of past checkpoints; null: none."""
    api: ApiConfig | None = None
    """The model behind an API on the seats `api`; null: none."""
    exploration: list[InstructionConfig] = field(default_factory=list)
    """Exploration instructions in prompts of trained seats, in training only; at most one per
    round."""
    sinks: list[Any] = field(default_factory=list)
    """Additional metric loggers: tensorboard, wandb, trackio, or mappings with parameters."""
    study: StudyConfig | None = None
    """Runs this config with several arms and seeds; null: one run."""
    crossplay: CrossplayConfig | None = None
    """Cross-play after training; null: none."""
    composition: Composition = field(default_factory=Composition)
    """Set by `compose`; do not write it by hand."""


@dataclass
class Schema(Config):
    """The schema that Hydra checks while composing; `from_omegaconf` checks the full `Config`."""

    study: Any = None
    """Untyped, because OmegaConf cannot merge into a typed block that is null."""
    crossplay: Any = None
    """Untyped, see `study`."""
    opponent_pool: Any = None
    """Untyped, see `study`."""
    api: Any = None
    """Untyped, see `study`."""
