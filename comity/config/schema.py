"""What an experiment is, as data: the config and its blocks.

The dataclasses are Hydra's schema: a key that is not here or a value of another type is refused.
Blocks of type `Block` hold `name` and the parameters of the part with that name (`comity list`
shows the names), which checks them. `comity.config.compose` puts a config together.
"""

from dataclasses import dataclass, field
from typing import Any

from comity.config.limits import LARGEST_SEED, limited
from comity.errors import lookup

Block = dict[str, Any]
"""`{name: ..., parameter: value, ...}`."""


@dataclass
class ModelConfig:
    """The language model that everybody who is one starts from."""

    name: str = "smollm2-135m"
    """A model of `comity list models`, a local folder or a Hugging Face id."""
    dtype: str = "auto"
    """float32, bfloat16, or auto: what the processor is quickest with."""
    device: str = "auto"
    """A torch device (cpu, cuda, cuda:1), or auto: the first GPU if there is one."""
    threads: int | None = limited(None, at_least=1, at_most=1024)
    """Threads of the processor to compute with; null: torch's choice."""
    system: str | None = None
    """System prompt; null: the chat template's own."""
    quantization: str | None = None
    """nf4: the base's weights in 4 bits (bitsandbytes, needs CUDA); null: as `dtype` says."""


DROPOUT_IN = {
    "learning": "in what is differentiated; answers are drawn from the policy as it is",
    "playing": "where answers are drawn; what is learned from is the policy as it is",
    "both": "in both",
}
"""Where an adapter's dropout acts."""


@dataclass
class AdapterConfig:
    """The low-rank adapter (LoRA) that a learner trains."""

    rank: int = limited(16, at_least=1, at_most=8192)
    """Inner dimension of the adapter's matrices."""
    alpha: float = limited(32.0, above=0)
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = limited(0.0, at_least=0, below=1)
    """Share of the adapter's inputs that is dropped in training."""
    dropout_in: str = "learning"
    """Where in training it is dropped, one of `DROPOUT_IN`."""
    targets: Any = "all-linear"
    """Names of the modules that get an adapter, or all-linear."""

    def __post_init__(self) -> None:
        lookup("adapter.dropout_in", self.dropout_in, DROPOUT_IN)


@dataclass
class OptimizerConfig:
    """Adam with decoupled weight decay, over the adapter's weights."""

    learning_rate: float = limited(3e-4, at_least=0)
    """Step size after the warmup."""
    schedule: str = "constant"
    """How the learning rate goes on after the warmup."""
    warmup: int = limited(0, at_least=0)
    """Iterations over which the learning rate rises from 0."""
    gradient_clip: float | None = limited(1.0, above=0)
    """Largest norm of the gradient; a longer one is scaled down to it. null: never."""
    weight_decay: float = limited(0.0, at_least=0)
    """Share of the weights that is taken off per unit of learning rate."""


@dataclass
class CheckpointConfig:
    """When a run is saved so that it can be continued."""

    every: int = limited(5, at_least=1)
    """Iterations between checkpoints; the last iteration has one always."""
    keep: int = limited(2, at_least=1)
    """Checkpoints that stay complete; of older ones only the adapters stay."""


@dataclass
class RecordConfig:
    """What is kept of the matches."""

    every: int = limited(1, at_least=1)
    """Iterations between records of all decisions and conversations."""
    followups: int = limited(0, at_least=0)
    """Matches whose language models are asked the `questions` afterwards; 0: nobody is."""
    followup_every: int = limited(10, at_least=1)
    """Recorded iterations between those; the last one is always among them."""
    followup_tokens: int = limited(100, at_least=1, at_most=100_000)
    """Most tokens of an answer to such a question."""
    questions: dict[str, str] = field(
        default_factory=lambda: {
            "why": "Why did you give that answer?",
            "strategy": "Which strategy is behind that answer?",
        }
    )
    """Follow-up questions by name; each is asked by itself."""


@dataclass
class PhaseConfig:
    """A stretch of a run with its own reward."""

    iterations: int | None = limited(None, at_least=1)
    """Its length; null for all phases: equal parts of the run's `iterations`."""
    reward: Block = field(default_factory=dict)
    """What the learners are trained on in it."""
    reset: list[str] | None = None
    """What starts anew with it (see the run's `reset`); null: what the run says."""


@dataclass
class OpponentPoolConfig:
    """Past checkpoints of the run as opponents (`opponent_pool=buffer` turns it on)."""

    every: int = limited(10, at_least=1)
    """Iterations between snapshots of the learners; the first is taken after so many."""
    capacity: int = limited(30, at_least=1, at_most=10_000)
    """Most snapshots of a learner that may be drawn in an iteration: a new sample each time."""
    count_learners: bool = False
    """The run's learners count toward the capacity: the pool is smaller by their number."""
    recent: int | None = limited(None, at_least=1)
    """Only this many of the newest snapshots may be drawn; null: all."""
    probability: float = limited(0.5, at_least=0, at_most=1)
    """Probability that a group faces an opponent from the pool instead of the current policy."""
    scripted: list[Any] = field(default_factory=list)
    """Scripted players that may be drawn as well, as in `seats`."""
    scripted_probability: float = limited(0.0, at_least=0, at_most=1)
    """Probability that an opponent from the pool is one of them."""
    scope: str = "group"
    """`group`: drawn for every group of matches; `match`: for every match."""
    trained: str = "live_seat"
    """`live_seat`: one seat of a group; `all_live`: all seats of matches without an opponent from
    the pool."""
    initial_snapshots: str | None = None
    """Folder of an earlier run's adapters to begin with (its `opponent_pool` or `checkpoints`);
    null: none."""


@dataclass
class InstructionConfig:
    """What a learner may be told for a round, and nothing is learned from."""

    text: str = ""
    """welfare_maximizing, greedy, or a sentence of one's own."""
    probability: float = limited(0.0, above=0, at_most=1)
    """How often a seat is told it, per round."""


@dataclass
class StudyConfig:
    """Several runs that belong together: every arm with every seed."""

    seeds: list[int] = field(default_factory=lambda: [0])
    """Seeds that each arm is run with."""
    arms: dict[str, list[str]] = field(default_factory=dict)
    """For each arm's name the overrides that make it (`own: [reward=own]`)."""


@dataclass
class CrossplayConfig:
    """Matches among all players after the training."""

    players: list[Any] = field(default_factory=list)
    """Arms of the study (`learner`: its only one, or the run, called as the experiment), `base`,
    scripted players; everyone meets everyone."""
    matches: int = limited(16, at_least=2)
    """Matches per pairing and seed, an even number: in every second one the players have changed
    seats."""


@dataclass
class Composition:
    """How the config was put together, so that the arms of a study can be again."""

    name: str = ""
    """The experiment, or with `config_dir` the file in that folder."""
    overrides: list[str] = field(default_factory=list)
    """The overrides of the command line, in order."""
    config_dir: str | None = None
    """The user's own config folder."""


@dataclass
class Config:
    """One experiment."""

    name: str = "experiment"
    """Name of the experiment; run folders begin with it."""
    seed: int = limited(0, at_least=0, at_most=LARGEST_SEED)
    """Everything random in the run is derived from it."""
    iterations: int = limited(20, at_least=1, at_most=10_000_000)
    """How often the learners play and are updated."""
    matches: int = limited(8, at_least=1, at_most=100_000)
    """Matches per iteration."""
    group_size: int = limited(1, at_least=1)
    """Matches that share their environment seed; divides `matches`."""
    seat_assignment: str = "fixed"
    """`fixed`: as listed in `seats`; `random`: drawn for every group of matches."""
    output: str = "runs"
    """Folder below which run folders are made."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The language model."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """What of it is trained."""
    game: Block = field(default_factory=dict)
    """The rules."""
    prompt: Block = field(default_factory=dict)
    """How the game is told."""
    answer: Block = field(default_factory=dict)
    """How an answer is given and read."""
    temperature: float = limited(1.0, above=0)
    """Temperature at which language models answer."""
    seats: list[Any] = field(default_factory=lambda: ["learner", "learner"])
    """Who sits on each seat: a player's name, or a mapping `{name: random, p: 0.3}`."""
    reward: Block = field(default_factory=dict)
    """What the learners are trained on."""
    phases: list[PhaseConfig] = field(default_factory=list)
    """Rewards one after the other; none: `reward` all along. Else `iterations` is their sum."""
    reset: list[str] = field(default_factory=list)
    """What starts anew with every later phase: optimizer, normalizer, kl, value_head.

    Everything else is handed over, the adapter always."""
    algorithm: Block = field(default_factory=dict)
    """How they are trained."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The steps that the training takes."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When the run is saved."""
    record: RecordConfig = field(default_factory=RecordConfig)
    """What is kept of the matches."""
    opponent_pool: OpponentPoolConfig | None = None
    """Pool of past checkpoints as opponents; null: none."""
    exploration: list[InstructionConfig] = field(default_factory=list)
    """What trained seats are told in training only; at most one a round, none by default."""
    sinks: list[Any] = field(default_factory=list)
    """Where metrics also go: tensorboard, wandb, trackio, or mappings with parameters."""
    study: StudyConfig | None = None
    """Runs this config with several arms and seeds; null: one run."""
    crossplay: CrossplayConfig | None = None
    """Matches among the trained afterwards; null: none."""
    composition: Composition = field(default_factory=Composition)
    """Filled in by `compose`; not for writing by hand."""


@dataclass
class Schema(Config):
    """What Hydra checks while it composes; `from_omegaconf` checks all of it afterwards."""

    study: Any = None
    """Untyped, because OmegaConf cannot merge into a typed block that is null."""
    crossplay: Any = None
    """Likewise."""
    opponent_pool: Any = None
    """Likewise."""
