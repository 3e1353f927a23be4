"""The algorithm `exact`: the expected policy gradient, by enumeration instead of sampling."""

from dataclasses import dataclass

from comity.errors import lookup
from comity.learning.credit.returns import CreditSettings
from comity.learning.exact.policy_gradient import OBJECTIVES
from comity.learning.loss import LossSettings


@dataclass(frozen=True)
class Exact:
    """The expected policy gradient by enumeration; needs prompts with a memory of one round.

    Matches are still played and recorded, for evaluation only, not for training.
    """

    discount: float = 0.9
    """Weight of the next round's reward relative to this round's."""
    objective: str = "reinforce"
    """Which gradient (see `comity.learning.exact.policy_gradient.OBJECTIVES`)."""
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
