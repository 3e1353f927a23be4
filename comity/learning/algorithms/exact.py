"""The algorithm `exact`: the expected policy gradient, by enumeration instead of sampling."""

from dataclasses import dataclass

from comity.errors import lookup
from comity.learning.credit.returns import CreditSettings
from comity.learning.exact.policy_gradient import OBJECTIVES
from comity.learning.loss import LossSettings


@dataclass(frozen=True)
class Exact:
    """The expected policy gradient by enumeration; needs prompts with a memory of one round.

    It requires a matrix game with two seats, `answer=constrained`, prompts that show only the last
    round (`prompt=memory_one`, or matches of one round), memory-one opponents, and
    `adapter.dropout=0`. Each update evaluates the learner in every state instead of learning from
    matches. Matches are still played and recorded for evaluation, without advantages.
    The gradient is the expectation of `reinforce` with `baseline=none`, `whiten=false` and
    `importance_cap=null`.
    """

    discount: float = 0.9
    """Weight of the next round's reward relative to this round's."""
    objective: str = "reinforce"
    """Which gradient. One of `comity.learning.exact.policy_gradient.OBJECTIVES`."""
    kl: float = 0.0
    """Weight of the KL divergence from the base model."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""

    def __post_init__(self) -> None:
        CreditSettings(self.discount)
        lookup("objective", self.objective, OBJECTIVES)
        self.loss()

    def loss(self) -> LossSettings:
        """The weights of the loss."""
        return LossSettings(self.kl, self.entropy, importance_cap=None)
