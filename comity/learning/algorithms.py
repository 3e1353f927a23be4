"""The algorithms by name: what an `algorithm:` block in a config may say."""

from collections.abc import Callable
from dataclasses import dataclass

from comity.errors import lookup
from comity.learning.credit import CreditSettings
from comity.learning.exact import OBJECTIVES
from comity.learning.loss import LossSettings
from comity.learning.ppo import PpoSettings


@dataclass(frozen=True)
class Reinforce:
    """REINFORCE (Williams 1992) on sampled matches, with a baseline."""

    discount: float = 0.9
    """Weight of the next round's reward relative to this round's."""
    baseline: str = "batch"
    """What is taken off each return (see `comity.learning.credit.BASELINES`)."""
    whiten: bool | str = True
    """Scale advantages to deviation 1: over the whole batch (true), per "round", or not."""
    kl: float = 0.0
    """Weight of the divergence from the base model (k3 estimator)."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""
    normalization: str = "decisions"
    """Divide the loss by the batch's "decisions" or "tokens"."""
    importance_cap: float | None = 2.0
    """Largest importance weight between playing and learning; null: no weights."""
    microbatch_tokens: int = 2048
    """Most distinct tokens in memory with gradients; changes the memory, not the result."""

    def __post_init__(self) -> None:
        self.credit()
        self.loss()

    def credit(self) -> CreditSettings:
        """The part that turns rewards into advantages."""
        return CreditSettings(self.discount, self.baseline, self.whiten)

    def loss(self) -> LossSettings:
        """The part that turns advantages into a loss."""
        return LossSettings(self.kl, self.entropy, self.normalization, self.importance_cap)


@dataclass(frozen=True)
class Exact:
    """The expected policy gradient by enumeration; needs prompts with a memory of one round.

    Matches are still played and recorded: they measure what was learned and teach nothing.
    """

    discount: float = 0.9
    """Weight of the next round's reward relative to this round's."""
    objective: str = "reinforce"
    """Which gradient (see `comity.learning.exact.OBJECTIVES`)."""
    kl: float = 0.0
    """Weight of the divergence from the base model."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""

    def __post_init__(self) -> None:
        CreditSettings(self.discount)
        lookup("objective", self.objective, OBJECTIVES)
        self.loss()

    def loss(self) -> LossSettings:
        """The weights of the loss."""
        return LossSettings(self.kl, self.entropy, importance_cap=None)


Algorithm = Reinforce | Exact | PpoSettings

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {
    "reinforce": Reinforce,
    "exact": Exact,
    "ppo": PpoSettings,
}
"""Every algorithm by name."""
